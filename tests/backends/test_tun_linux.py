"""What of the tun backend can be seen without a device."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import IPv4Network, IPv6Network, ip_interface
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase
from unittest.mock import patch

import attrs
from twisted.internet.testing import MemoryReactor
from twisted.logger import capturedLogs

from anyvpn.backends import tun_linux_forwarding, tun_linux_nat
from anyvpn.backends.tun_linux import LinuxTunBackend, Settings, build
from anyvpn.backends.tun_linux_forwarding import look_after_forwarding
from anyvpn.backends.tun_linux_nat import AddressTranslation, table_name, translation_rules
from anyvpn.backends.tun_linux_network import configure_device
from anyvpn.errors import ConfigurationError, TunUnavailable
from anyvpn.testing.tun_contract import run_at_once
from anyvpn.tun import descriptor
from anyvpn.tun.descriptor import OpenedTun, open_descriptor
from anyvpn.tun.device import LinuxTunDevice, adopt


class SettingsTests(TestCase):
    """What an operator may write."""

    def test_every_key_has_its_help(self) -> None:
        for attribute in attrs.fields(Settings):
            self.assertTrue(attribute.metadata["help"].endswith("."), attribute.name)

    def test_device_names_that_the_kernel_refuses_are_refused(self) -> None:
        for name in ("", "a" * 16, "a/b", "a b", "ü", "a" * 13 + "%d", "%d%d", 'x"'):
            with self.assertRaisesRegex(ValueError, "device must be"):
                Settings(device=name)
        for name in ("vpn0", "a" * 15, "anyvpn%d"):
            Settings(device=name)

    def test_an_interface_cannot_smuggle_rules_in(self) -> None:
        with self.assertRaisesRegex(ValueError, "nat_interface must be"):
            Settings(nat=True, nat_interface='eth0" accept;')

    def test_other_words_for_forwarding_are_refused_with_the_right_ones(self) -> None:
        with self.assertRaisesRegex(ValueError, '"check", "enable", "ignore"'):
            Settings(forwarding="yes")

    def test_an_interface_without_nat_is_a_contradiction(self) -> None:
        with self.assertRaisesRegex(ConfigurationError, "nat = true"):
            build(Settings(nat_interface="eth0"), MemoryReactor())
        self.assertIsInstance(build(Settings(), MemoryReactor()), LinuxTunBackend)


class UnavailableTests(TestCase):
    """The text says what would help."""

    def refused(self, number: int, call: str) -> str:
        error = OSError(number, os.strerror(number))
        target = os if call == "open" else descriptor.fcntl
        with (
            patch.object(descriptor, "_TUN_PATH", os.devnull),
            patch.object(target, call, side_effect=error),
            self.assertRaises(TunUnavailable) as caught,
        ):
            open_descriptor("vpn0", offloads=True)
        return str(caught.exception)

    def test_without_the_module(self) -> None:
        for number in (errno.ENOENT, errno.ENODEV):
            text = self.refused(number, "open")
            self.assertIn("modprobe tun", text)
            self.assertIn("--device", text)

    def test_without_permission(self) -> None:
        self.assertIn("CAP_NET_ADMIN", self.refused(errno.EACCES, "open"))
        self.assertIn("CAP_NET_ADMIN", self.refused(errno.EPERM, "ioctl"))

    def test_with_a_name_that_is_taken(self) -> None:
        text = self.refused(errno.EBUSY, "ioctl")
        self.assertIn("vpn0 already", text)
        self.assertIn("ip link delete vpn0", text)

    def test_no_descriptor_is_left_open(self) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        self.refused(errno.EPERM, "ioctl")
        self.assertEqual(len(list(Path("/proc/self/fd").iterdir())), before)

    def test_an_mtu_too_small_for_ipv6(self) -> None:
        with self.assertRaisesRegex(TunUnavailable, "at least 1280 bytes, not 1200"):
            configure_device("x", [ip_interface("fd00::1/64")], 1200, ())

    def test_a_descriptor_of_something_else_is_not_adopted(self) -> None:
        with Path(os.devnull).open("rb") as other, self.assertRaisesRegex(TunUnavailable, "not"):
            adopt(MemoryReactor(), other.fileno(), 1400)

    def test_nat_without_nft_names_the_package(self) -> None:
        with (
            patch.object(tun_linux_nat, "_PROGRAM", "no-such-nft"),
            self.assertRaisesRegex(TunUnavailable, "package nftables"),
        ):
            AddressTranslation("vpn0", [IPv4Network("10.0.0.0/24")], "")


class DeviceTests(TestCase):
    """The descriptor's life, with a pair of datagram sockets for the kernel."""

    def setUp(self) -> None:
        ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self.reactor = MemoryReactor()
        opened = OpenedTun(ours.detach(), "vpn0", 10)
        self.device = LinuxTunDevice(self.reactor, opened, 1400)
        self.addCleanup(self.kernel.close)
        self.addCleanup(lambda: run_at_once(self.device.close()))

    def test_the_reactor_wakes_whoever_reads(self) -> None:
        calls: list[int] = []
        self.device.start_reading(lambda: calls.append(1))
        (reader,) = self.reactor.getReaders()
        self.assertEqual(reader.fileno(), self.device.fileno())
        reader.doRead()
        self.assertEqual(calls, [1])
        run_at_once(self.device.close())
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.device.fileno(), -1)

    def test_a_device_that_was_removed_is_said_once(self) -> None:
        told: list[str] = []
        self.device.on_lost = told.append
        self.device.start_reading(lambda: None)
        gone = OSError(errno.EBADFD, "File descriptor in bad state")
        self.kernel.send(b"first")
        with patch.object(os, "read", side_effect=[b"first", gone]):
            self.assertEqual(self.device.read_packets(10), [b"first"])
        self.assertEqual(self.device.read_packets(10), [])
        reason = f"the tun device {self.device.name} is gone (File descriptor in bad state)"
        self.assertEqual(told, [reason])
        self.assertEqual(self.reactor.getReaders(), [])

    def test_a_full_kernel_refuses_and_the_rest_goes_on(self) -> None:
        outcomes = [OSError(errno.ENOBUFS, "full"), 3, BlockingIOError()]
        with patch.object(os, "write", side_effect=outcomes):
            self.assertEqual(self.device.write_packets([b"a", b"b", b"c"]), 2)


class ForwardingTests(TestCase):
    """The host's switches, in a directory that stands for /proc/sys."""

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        system = Path(directory.name)
        self.ipv4 = system / "net/ipv4/ip_forward"
        self.ipv6 = system / "net/ipv6/conf/all/forwarding"
        for path, value in ((self.ipv4, "1"), (self.ipv6, "0")):
            path.parent.mkdir(parents=True)
            path.write_text(f"{value}\n")
        patcher = patch.object(tun_linux_forwarding, "_SYSTEM", system)
        patcher.start()
        self.addCleanup(patcher.stop)

    def test_what_is_off_is_said_and_left_alone(self) -> None:
        with capturedLogs() as events:
            look_after_forwarding("check", {4, 6})
        self.assertEqual([each["switches"] for each in events], ["net.ipv6.conf.all.forwarding=1"])
        self.assertEqual(self.ipv6.read_text(), "0\n")

    def test_nothing_is_said_where_all_is_well_or_nobody_asks(self) -> None:
        with capturedLogs() as events:
            look_after_forwarding("check", {4})
            look_after_forwarding("ignore", {4, 6})
        self.assertEqual(list(events), [])

    def test_it_is_switched_on_when_that_is_wanted(self) -> None:
        look_after_forwarding("enable", {4, 6})
        self.assertEqual(self.ipv6.read_text(), "1\n")

    def test_a_switch_that_cannot_be_moved_is_an_error(self) -> None:
        self.ipv6.unlink()
        self.ipv6.parent.rmdir()
        with self.assertRaisesRegex(TunUnavailable, "--sysctl net.ipv6.conf.all.forwarding=1"):
            look_after_forwarding("enable", {6})


class TranslationRuleTests(TestCase):
    """What nft is told."""

    def test_only_addresses_that_the_internet_does_not_know_are_masqueraded(self) -> None:
        networks = [
            IPv4Network("10.9.0.0/24"),
            IPv6Network("fd00::/64"),
            IPv6Network("2001:db8::/64"),
        ]
        rules = translation_rules("any-vpn0", networks, "")
        self.assertEqual(
            rules[2:],
            [
                'add rule inet anyvpn_any_vpn0 leaving ip saddr 10.9.0.0/24 oifname != "any-vpn0" '
                "masquerade",
                'add rule inet anyvpn_any_vpn0 leaving ip6 saddr fd00::/64 oifname != "any-vpn0" '
                "masquerade",
            ],
        )

    def test_one_interface_can_be_chosen(self) -> None:
        rules = translation_rules("vpn0", [IPv4Network("10.9.0.0/24")], "eth0")
        self.assertIn('oifname "eth0" masquerade', rules[-1])

    def test_a_table_is_named_after_its_device(self) -> None:
        self.assertEqual(table_name("a.b-1"), "anyvpn_a_b_1")
