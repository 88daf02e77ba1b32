"""The tun backend against the kernel, in network namespaces."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Network, ip_interface, ip_network
from pathlib import Path
from unittest import TestCase
from unittest.mock import Mock, patch

import pytest
from twisted.internet.defer import Deferred, execute
from twisted.internet.testing import MemoryReactor
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from anyvpn.backends.tun_linux import LinuxGatewayDevice, Settings, build
from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IRoutedTunDevice, ITunBackend
from anyvpn.model.group_policy import Network
from anyvpn.packets.offload import merge_segments, split_super_packets
from anyvpn.testing.namespaces import CLONE_NEWNET, Namespace
from anyvpn.testing.tun_contract import GATEWAY, MTU_BYTES, TunContract, run_at_once
from anyvpn.tun.device import LinuxTunDevice, adopt
from anyvpn.tun.link_watch import LinkWatch

pytestmark = pytest.mark.interop

ETH_P_ALL = 3
OUTGOING = 4
TRANSFER_BYTES = 20_000_000
TRANSFER_TIME_S = 60.0


@contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Let this thread, and what it starts, live in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/proc/{namespace.pid}/ns/net", os.O_RDONLY)
    try:
        assert libc.setns(other, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert libc.setns(own, CLONE_NEWNET) == 0
        os.close(own)
        os.close(other)


def in_a_thread(work: Callable[[], None]) -> Deferred[None]:
    """Wait for work that a thread does, in the namespace of this one."""
    with ThreadPoolExecutor(1) as executor:
        return execute(executor.submit(work).result)


class NamespaceTestCase(TestCase):
    """Each test in a network namespace of its own."""

    def setUp(self) -> None:
        self.namespace = Namespace("host")
        self.addCleanup(self.namespace.close)
        entered = inside(self.namespace)
        entered.__enter__()
        self.addCleanup(entered.__exit__, None, None, None)
        # Without a reactor nobody would wait for a thread of its own
        waiting = patch("anyvpn.backends.tun_linux.deferToThread", in_a_thread)
        waiting.start()
        self.addCleanup(waiting.stop)

    def open_with(
        self, settings: Settings, *addresses: str, mtu_bytes: int = MTU_BYTES
    ) -> LinuxGatewayDevice:
        self.reactor = MemoryReactor()
        backend = build(settings, self.reactor)
        device = run_at_once(backend.open([ip_interface(each) for each in addresses], mtu_bytes))
        self.addCleanup(lambda: run_at_once(device.close()))
        return device


class DeviceTests(NamespaceTestCase, TunContract):
    """The other side of the device is the kernel: raw sockets send, packet sockets listen."""

    settings = Settings()

    def make_backend(self) -> ITunBackend:
        return build(self.settings, MemoryReactor())

    def open_device(self) -> IRoutedTunDevice:
        device = super().open_device()
        kind = socket.SOCK_DGRAM
        self.listener = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
        self.addCleanup(self.listener.close)
        self.listener.bind((device.name, ETH_P_ALL))
        self.listener.settimeout(0.2)
        return device

    def inject_from_kernel(self, device: IRoutedTunDevice, packets: Sequence[bytes]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            for packet in packets:
                sender.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def packets_to_kernel(self, device: IRoutedTunDevice) -> list[bytes]:
        packets: list[bytes] = []
        try:
            while True:
                packet, address = self.listener.recvfrom(65536)
                if address[2] != OUTGOING:
                    packets.append(packet)
        except TimeoutError:
            return packets

    def routes_to(self, device: IRoutedTunDevice) -> set[Network]:
        shown = self.namespace.run("ip", "-j", "route", "show", "dev", device.name)
        found = {ip_network(each["dst"]) for each in json.loads(shown)}
        return found - {GATEWAY.network}

    def let_events_happen(self, device: IRoutedTunDevice) -> None:
        assert isinstance(device, LinuxTunDevice)
        if select.select([device], [], [], 1.0)[0]:
            device.doRead()


class PlainDeviceTests(DeviceTests):
    """The same without offloads."""

    settings = Settings(offloads=False)

    def test_there_is_no_header(self) -> None:
        self.assertEqual(self.open_device().vnet_header_bytes, 0)


class ConfigurationTests(NamespaceTestCase):
    """What the kernel is told."""

    def test_the_device_is_as_asked_for(self) -> None:
        settings = Settings(routes=(IPv4Network("10.98.0.0/16"),))
        device = self.open_with(settings, "10.99.0.1/24", "fd00:99::1/64", mtu_bytes=1390)
        self.assertEqual(device.name, "anyvpn0")
        link = self.namespace.run("ip", "-d", "link", "show", device.name)
        self.assertIn("mtu 1390", link)
        self.assertIn("UP,LOWER_UP", link)
        self.assertIn("gso_max_size 65536", link)  # or what is longer would come in pieces
        addresses = self.namespace.run("ip", "-o", "address", "show", device.name)
        self.assertIn("10.99.0.1/24", addresses)
        self.assertIn("fd00:99::1/64 scope global nodad", addresses)
        self.assertNotIn("tentative", addresses)
        self.assertNotIn("fe80:", addresses)
        self.assertIn("10.98.0.0/16 dev anyvpn0", self.namespace.run("ip", "route"))
        self.assertEqual(self.open_with(settings=Settings()).name, "anyvpn1")

    def test_nothing_is_left_after_closing(self) -> None:
        device = self.open_with(Settings(nat=True), "10.99.0.1/24")
        run_at_once(device.close())
        self.assertEqual(self.namespace.devices(), ("lo",))
        self.assertEqual(self.namespace.run("ip", "route").strip(), "")
        self.assertEqual(self.namespace.run("nft", "list", "ruleset").strip(), "")

    def test_the_owner_of_a_device_that_somebody_removes_is_told_once(self) -> None:
        device = self.open_with(Settings(), "10.99.0.1/24")
        lost: list[str] = []
        device.on_lost = lost.append
        self.namespace.run("ip", "link", "delete", device.name)
        self.assertEqual(device.read_packets(5), [])
        self.assertEqual(device.read_packets(5), [])
        self.assertEqual(device.write_packets([bytes(40)]), 1)
        self.assertEqual(lost, ["the tun device anyvpn0 is gone (File descriptor in bad state)"])

    def test_an_open_descriptor_can_be_adopted(self) -> None:
        device = self.open_with(Settings(), "10.99.0.1/24")
        copy = os.dup(device.fileno())
        adopted = adopt(MemoryReactor(), copy, 1400)
        self.assertEqual((adopted.name, adopted.vnet_header_bytes), (device.name, 10))
        run_at_once(device.close())
        self.assertIn("anyvpn0", self.namespace.devices())
        run_at_once(adopted.close())
        self.assertNotIn("anyvpn0", self.namespace.devices())


class RefusalTests(NamespaceTestCase):
    """The text names what is in the way, and nothing is left behind."""

    def assert_refused(self, pattern: str, settings: Settings, *addresses: str) -> None:
        before = self.namespace.devices()
        with self.assertRaisesRegex(TunUnavailable, pattern):
            self.open_with(settings, *addresses)
        self.assertEqual(self.namespace.devices(), before)

    def test_a_name_that_is_taken(self) -> None:
        self.open_with(Settings(device="vpn0"))
        self.assert_refused("vpn0 already", Settings(device="vpn0"))
        self.assert_refused("lo already", Settings(device="lo"))

    def test_an_address_of_another_device(self) -> None:
        self.open_with(Settings(), "10.99.0.1/24")
        self.assert_refused(
            "10.99.0.1 is already an address of anyvpn0", Settings(), "10.99.0.1/32"
        )

    def test_a_pool_that_swallows_another_devices_network(self) -> None:
        self.open_with(Settings(), "10.99.0.1/24", "fd00:99::1/64")
        self.assert_refused(
            "10.0.0.0/8 overlaps 10.99.0.0/24, to which anyvpn0", Settings(), "10.0.0.1/8"
        )
        self.assert_refused("overlaps fd00:99::/64", Settings(), "fd00:99::2/48")

    def test_a_pool_inside_a_wider_network_is_allowed(self) -> None:
        self.open_with(Settings(), "10.99.0.1/16")
        self.open_with(Settings(), "10.99.5.1/24")

    def test_a_route_that_exists(self) -> None:
        routed = Settings(routes=(IPv4Network("10.98.0.0/16"),))
        self.open_with(routed)
        self.assert_refused("route to 10.98.0.0/16: it exists already", routed)

    def test_a_host_without_ipv6(self) -> None:
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        self.assert_refused("has IPv6 switched off", Settings(), "fd00::1/64")
        self.open_with(Settings(), "10.99.0.1/24")

    def test_a_host_without_privileges(self) -> None:
        script = "from anyvpn.tun.descriptor import open_descriptor\nopen_descriptor('vpn%d', True)"
        dropped = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
        done = subprocess.run(
            [*dropped, sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        self.assertIn("TunUnavailable: a tun device may not be made: root or", done.stderr)


class UnprivilegedTests(TestCase):
    """A user and a network namespace are all it takes."""

    def test_a_device_opens_without_any_privilege_outside_of_them(self) -> None:
        script = (
            "from ipaddress import ip_interface\n"
            "from twisted.internet.testing import MemoryReactor\n"
            "from anyvpn.backends.tun_linux import Settings, build\n"
            "from anyvpn.testing.tun_contract import run_at_once\n"
            "backend = build(Settings(nat=True, forwarding='enable'), MemoryReactor())\n"
            "addresses = [ip_interface('10.99.0.1/24'), ip_interface('fd00::1/64')]\n"
            "device = run_at_once(backend.open(addresses, 1400))\n"
            "print(device.name, device.vnet_header_bytes)\n"
            "run_at_once(device.close())\n"
        )
        done = subprocess.run(
            [
                *("unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", script),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.stdout, done.returncode), ("anyvpn0 10\n", 0), done.stderr)


class ClientRoutesTests(NamespaceTestCase):
    """Networks behind clients, which come and go while the device is there."""

    def setUp(self) -> None:
        super().setUp()
        lasting = Settings(routes=(IPv4Network("10.90.0.0/16"),))
        self.device = self.open_with(lasting, "10.99.0.1/24", "fd00:99::1/64")
        neighbour = Namespace("neighbour")
        self.addCleanup(neighbour.close)
        self.namespace.join(neighbour, "lan", "wan")
        self.namespace.add_addresses("lan", "10.20.0.1/16", "fd20::1/64")

    def set_routes(self, *networks: str) -> None:
        run_at_once(self.device.set_routes([ip_network(each) for each in networks]))

    def routes(self) -> set[str]:
        words = ("route", "show", "dev", self.device.name)
        shown = [self.namespace.run("ip", family, *words) for family in ("-4", "-6")]
        found = {line.split()[0] for text in shown for line in text.splitlines()}
        return found - {"10.99.0.0/24", "fd00:99::/64", "10.90.0.0/16", "fe80::/64"}

    def assert_refused(self, pattern: str, *networks: str) -> None:
        with self.assertRaisesRegex(TunUnavailable, pattern):
            self.set_routes(*networks)

    def test_both_ip_versions(self) -> None:
        self.set_routes("10.5.0.0/16", "fd05::/48")
        self.assertEqual(self.routes(), {"10.5.0.0/16", "fd05::/48"})
        self.set_routes()
        self.assertEqual(self.routes(), set())

    def test_what_lies_in_a_lasting_route_needs_none(self) -> None:
        self.set_routes("10.90.5.0/24", "10.90.0.0/16")
        self.assertEqual(self.routes(), set())

    def test_networks_of_other_devices_are_refused(self) -> None:
        self.set_routes("10.5.0.0/16")
        for network, taken in (
            ("10.20.5.0/24", "10.20.0.0/16"),
            ("10.0.0.0/8", "10.20.0.0/16"),
            ("fd20::/16", "fd20::/64"),
        ):
            pattern = f"{network} behind a client overlaps {taken}, to which lan leads"
            self.assert_refused(pattern, "10.5.0.0/16", network)
        self.assertEqual(self.routes(), {"10.5.0.0/16"})

    def test_a_route_that_exists_leaves_none_of_the_new_ones(self) -> None:
        self.namespace.add_route("10.6.0.0/16", "dev", "lan")
        self.set_routes("10.4.0.0/16", "10.5.0.0/16")
        self.assert_refused("route to 10.6.0.0/16: it exists already", "10.5.0.0/16", "10.6.0.0/16")
        self.assert_refused("10.6.0.0/16", "10.5.0.0/16", "10.55.0.0/16", "10.6.0.0/16")
        self.assertEqual(self.routes(), {"10.5.0.0/16"})

    def test_a_route_that_somebody_removed_does_no_harm(self) -> None:
        self.set_routes("10.5.0.0/16")
        self.namespace.run("ip", "route", "del", "10.5.0.0/16")
        self.set_routes()
        self.assertEqual(self.routes(), set())

    def test_a_device_that_is_gone_says_so(self) -> None:
        self.namespace.run("ip", "link", "delete", self.device.name)
        self.assert_refused("anyvpn0 is gone", "10.5.0.0/16")

    def test_all_are_there_again_after_the_device_was_down(self) -> None:
        self.set_routes("10.5.0.0/16", "fd05::/48")
        for state in ("down", "up"):
            self.namespace.run("ip", "link", "set", self.device.name, state)
        with capturedLogs() as events:
            for each in self.reactor.getReaders():
                each.doRead()
        self.assertEqual(self.routes(), {"10.5.0.0/16", "fd05::/48"})
        self.assertIn("10.90.0.0/16", self.namespace.run("ip", "route"))
        addresses = self.namespace.run("ip", "address", "show", self.device.name)
        self.assertIn("fd00:99::1/64", addresses)
        said = [formatEvent(each) for each in events]
        self.assertEqual(len(said), 2, said)
        self.assertIn("is down", said[0])
        self.assertIn("is up again", said[1])

    def test_addresses_are_there_again_that_the_kernel_has_not_kept(self) -> None:
        switch = f"/proc/sys/net/ipv6/conf/{self.device.name}/keep_addr_on_down"
        self.namespace.run("sh", "-c", f"echo 0 > {switch}")  # as where it cannot be set
        for state in ("down", "up"):
            self.namespace.run("ip", "link", "set", self.device.name, state)
        address = ("ip", "address", "show", self.device.name)
        self.assertNotIn("fd00:99::1/64", self.namespace.run(*address))
        for each in self.reactor.getReaders():
            each.doRead()
        self.assertIn("fd00:99::1/64", self.namespace.run(*address))

    def test_all_are_there_again_where_nobody_knows_what_was_missed(self) -> None:
        self.set_routes("10.5.0.0/16")
        watch = next(each for each in self.reactor.getReaders() if isinstance(each, LinkWatch))
        self.namespace.run("ip", "link", "set", self.device.name, "down")
        heard = watch._socket
        while select.select([heard], [], [], 0)[0]:
            heard.recv(1 << 16)  # as if the kernel had kept no room for it
        with patch.object(watch, "_socket") as flooded:
            flooded.recv.side_effect = [OSError(errno.ENOBUFS, "flooded"), BlockingIOError()]
            flooded.fileno.return_value = heard.fileno()
            watch.doRead()
        self.namespace.run("ip", "link", "set", self.device.name, "up")
        watch.doRead()
        self.assertEqual(self.routes(), {"10.5.0.0/16"})

    def test_one_that_may_have_been_down_has_all_again(self) -> None:
        self.set_routes("10.5.0.0/16")
        watch = next(each for each in self.reactor.getReaders() if isinstance(each, LinkWatch))
        for state in ("down", "up"):
            self.namespace.run("ip", "link", "set", self.device.name, state)
        heard = watch._socket
        while select.select([heard], [], [], 0)[0]:
            heard.recv(1 << 16)  # as if the kernel had kept no room for it
        self.assertEqual(self.routes(), set())
        with patch.object(watch, "_socket") as flooded:
            flooded.recv.side_effect = [OSError(errno.ENOBUFS, "flooded"), BlockingIOError()]
            flooded.fileno.return_value = heard.fileno()
            watch.doRead()
        self.assertEqual(self.routes(), {"10.5.0.0/16"})

    def test_a_watch_that_cannot_hear_ends_and_says_so_once(self) -> None:
        watch = next(each for each in self.reactor.getReaders() if isinstance(each, LinkWatch))
        watch._socket.close()
        watch._socket = Mock()
        watch._socket.recv.side_effect = OSError(errno.EBADF, "no such descriptor")
        watch._socket.fileno.return_value = 1000
        watch._socket.close.side_effect = lambda: watch._socket.fileno.configure_mock(
            return_value=-1
        )
        with capturedLogs() as events:
            watch.doRead()
            watch.doRead()
            watch.connectionLost(Failure(OSError("again")))
        self.assertEqual(len(events), 1, events)
        self.assertNotIn(watch, self.reactor.getReaders())

    def test_changes_of_other_devices_are_nothing_to_it(self) -> None:
        for state in ("down", "up"):
            self.namespace.run("ip", "link", "set", "lan", state)
        with capturedLogs() as events:
            for each in self.reactor.getReaders():
                each.doRead()
        self.assertEqual(events, [])

    def test_without_privileges_only_lasting_routes_are_to_be_had(self) -> None:
        script = (
            "import os\n"
            "from ipaddress import ip_network\n"
            "from anyvpn.backends.tun_linux_network import ClientRoutes\n"
            f"routes = ClientRoutes({self.device.name!r}, [ip_network('10.90.0.0/16')])\n"
            "os.setuid(65534)\n"
            "routes.set([ip_network('10.90.1.0/24')])\n"
            "routes.set([ip_network('10.5.0.0/16')])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        self.assertIn(
            "TunUnavailable: the tun device cannot have the route to 10.5.0.0/16: not permitted; "
            "put it into routes of [tun]",
            done.stderr,
        )


class ForwardingTests(NamespaceTestCase):
    """Of the namespace, as of a host."""

    def test_enabled_forwarding_forwards(self) -> None:
        self.open_with(Settings(forwarding="enable"), "10.99.0.1/24", "fd00::1/64")
        for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.assertEqual(Path(f"/proc/sys/net/{switch}").read_text(), "1\n")

    def test_by_default_nothing_is_changed(self) -> None:
        with capturedLogs() as events:
            self.open_with(Settings(), "10.99.0.1/24")
        self.assertEqual(Path("/proc/sys/net/ipv4/ip_forward").read_text(), "0\n")
        self.assertIn("net.ipv4.ip_forward=1", [each.get("switches") for each in events])


class TranslationTests(NamespaceTestCase):
    """NAT, seen from the next network."""

    def setUp(self) -> None:
        super().setUp()
        self.outside = Namespace("outside")
        self.addCleanup(self.outside.close)
        self.namespace.join(self.outside, "wan", "lan")
        self.namespace.add_addresses("wan", "192.0.2.1/24", "2001:db8::1/64")
        self.outside.add_addresses("lan", "192.0.2.9/24", "2001:db8::9/64")

    def seen_source(self, device: LinuxTunDevice, source: str, destination: str) -> str | None:
        """The source that the outside sees of a client's datagram; None: nothing came."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        receiver = self.outside.socket(family, socket.SOCK_DGRAM)
        with receiver:
            receiver.bind(("", 4001))
            receiver.settimeout(1.0)
            hosts = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
            # NEEDS_CSUM: the kernel completes a pseudo-header's sum
            pseudo = int.from_bytes(hosts, "big") + 17 + 12
            udp = b"".join(each.to_bytes(2, "big") for each in (4000, 4001, 12, pseudo % 65535))
            udp += b"ping"
            if family == socket.AF_INET:
                header = bytes((0x45, 0, 0, 32, 0, 1, 64, 0, 64, 17, 0, 0)) + hosts
                checksum = (-int.from_bytes(header, "big") % 65535).to_bytes(2, "big")
                header = header[:10] + checksum + header[12:]
            else:
                header = bytes((0x60, 0, 0, 0, 0, 12, 17, 64)) + hosts
            start = len(header).to_bytes(2, sys.byteorder)
            vnet = b"\x01\0" + bytes(4) + start + (6).to_bytes(2, sys.byteorder)
            self.assertEqual(device.write_packets([vnet + header + udp]), 0)
            try:
                return str(receiver.recvfrom(100)[1][0])
            except TimeoutError:
                return None

    def test_inner_addresses_do_not_leave(self) -> None:
        settings = Settings(nat=True, forwarding="enable")
        device = self.open_with(settings, "10.99.0.1/24", "fd00:99::1/64")
        self.assertEqual(self.seen_source(device, "10.99.0.7", "192.0.2.9"), "192.0.2.1")
        self.assertEqual(self.seen_source(device, "fd00:99::7", "2001:db8::9"), "2001:db8::1")

    def test_another_interface_is_left_alone_when_one_is_named(self) -> None:
        settings = Settings(nat=True, nat_interface="other", forwarding="enable")
        device = self.open_with(settings, "10.99.0.1/24")
        self.assertEqual(self.seen_source(device, "10.99.0.7", "192.0.2.9"), "10.99.0.7")

    def test_the_rules_end_with_a_gateway_that_is_killed(self) -> None:
        script = (
            "import sys, time\n"
            "from ipaddress import IPv4Network\n"
            "from anyvpn.backends.tun_linux_nat import AddressTranslation\n"
            "held = AddressTranslation('vpn0', [IPv4Network('10.9.0.0/24')], '')\n"
            "print('ready', flush=True)\n"
            "time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as gateway:
            assert gateway.stdout is not None
            self.assertEqual(gateway.stdout.readline(), b"ready\n")
            self.assertIn("masquerade", self.namespace.run("nft", "list", "ruleset"))
            gateway.kill()
        self.assert_rules_end()

    def test_the_rules_end_when_privileges_are_gone(self) -> None:
        script = (
            "import os\n"
            "from ipaddress import IPv4Network\n"
            "from anyvpn.backends.tun_linux_nat import AddressTranslation\n"
            "held = AddressTranslation('vpn0', [IPv4Network('10.9.0.0/24')], '')\n"
            "os.setgid(65534)\n"
            "os.setuid(65534)\n"
            "held.close()\n"
            "held.close()\n"
            "print(held.ended)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        self.assertEqual((done.stdout, done.stderr), ("True\n", ""))
        self.assert_rules_end()

    def test_many_networks_are_masqueraded(self) -> None:
        routes = tuple(IPv4Network(f"10.{number}.0.0/16") for number in range(100, 250))
        self.open_with(Settings(nat=True, routes=routes), "10.99.0.1/24")
        rules = self.namespace.run("nft", "list", "ruleset")
        self.assertEqual(rules.count("masquerade"), 151)

    def test_a_table_of_somebody_else_is_left_alone(self) -> None:
        self.namespace.run("nft", "add", "table", "inet", "anyvpn_anyvpn0")
        with self.assertRaisesRegex(TunUnavailable, "no table anyvpn_anyvpn0 of somebody else"):
            self.open_with(Settings(nat=True), "10.99.0.1/24")
        self.assertEqual(self.namespace.devices(), ("lo", "wan"))
        self.assertNotIn("masquerade", self.namespace.run("nft", "list", "ruleset"))

    def assert_rules_end(self) -> None:
        for _ in range(100):
            if not self.namespace.run("nft", "list", "ruleset").strip():
                return
            select.select([], [], [], 0.05)
        self.fail("the rules are still there")


@pytest.mark.offloads
class TransferTests(TestCase):
    """Two kernels, joined by split and merge: what the kernel accepts is right."""

    def setUp(self) -> None:
        self.longest_frame = {"left": 0, "right": 0}
        self.namespaces = {name: Namespace(name) for name in ("left", "right")}
        self.devices: dict[str, LinuxTunDevice] = {}
        for number, (name, namespace) in enumerate(self.namespaces.items(), 1):
            self.addCleanup(namespace.close)
            with inside(namespace):
                backend = build(Settings(), MemoryReactor())
                addresses = [f"10.99.0.{number}/24", f"fd00:99::{number}/64"]
                opening = backend.open([ip_interface(each) for each in addresses], MTU_BYTES)
                self.devices[name] = run_at_once(opening)
        self.over = threading.Event()
        self.pump = threading.Thread(target=self.carry, name="pump")
        self.pump.start()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        self.over.set()
        self.pump.join()
        for device in self.devices.values():
            run_at_once(device.close())

    def carry(self) -> None:
        """Carry packets as the engine does, until it is over."""
        others = {"left": "right", "right": "left"}
        while not self.over.is_set():
            ready = select.select(list(self.devices.values()), [], [], 0.1)[0]
            for name, other in others.items():
                source, target = self.devices[name], self.devices[other]
                if source not in ready:
                    continue
                frames = source.read_packets(8)
                packets = split_super_packets(frames, source.vnet_header_bytes)
                assert all(len(packet) <= MTU_BYTES for packet in packets)
                merged = merge_segments(
                    *(packets, target.vnet_header_bytes), takes_datagrams=target.takes_datagrams
                )
                longest = max(map(len, merged), default=0)
                self.longest_frame[other] = max(self.longest_frame[other], longest)
                target.write_packets(merged)

    def transfer(self, family: socket.AddressFamily, address: str) -> None:
        data = os.urandom(1000) * (TRANSFER_BYTES // 1000)
        hashes: list[str] = []
        listener = self.namespaces["right"].socket(family, socket.SOCK_STREAM)
        client = self.namespaces["left"].socket(family, socket.SOCK_STREAM)
        for each in (listener, client):
            each.settimeout(TRANSFER_TIME_S)

        def receive_and_send_back() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(TRANSFER_TIME_S)
                received = bytearray()
                while piece := connection.recv(1 << 18):
                    received += piece
                hashes.append(hashlib.sha256(received).hexdigest())
                connection.sendall(received)

        with listener, client:
            listener.bind((address, 4000))
            listener.listen()
            thread = threading.Thread(target=receive_and_send_back)
            thread.start()
            client.connect((address, 4000))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            back = hashlib.sha256()
            while piece := client.recv(1 << 18):
                back.update(piece)
            thread.join()
        expected = hashlib.sha256(data).hexdigest()
        self.assertEqual([*hashes, back.hexdigest()], [expected, expected])

    def test_ipv4_and_ipv6_arrive_whole_in_super_packets_without_one_bad_checksum(self) -> None:
        for family, address in ((socket.AF_INET, "10.99.0.2"), (socket.AF_INET6, "fd00:99::2")):
            self.longest_frame = {"left": 0, "right": 0}
            self.transfer(family, address)
            for name, namespace in self.namespaces.items():
                self.assertGreater(self.longest_frame[name], 10 * MTU_BYTES)
                counters = namespace.run("nstat", "-az", "TcpInCsumErrors", "IpInHdrErrors")
                values = [line.split()[1] for line in counters.splitlines()[1:]]
                self.assertEqual(values, ["0", "0"], counters)

    def test_datagrams_arrive_whole_in_super_packets(self) -> None:
        for family, address in ((socket.AF_INET, "10.99.0.2"), (socket.AF_INET6, "fd00:99::2")):
            self.longest_frame = {"left": 0, "right": 0}
            receiver = self.namespaces["right"].socket(family, socket.SOCK_DGRAM)
            sender = self.namespaces["left"].socket(family, socket.SOCK_DGRAM)
            with receiver, sender:
                receiver.settimeout(5.0)
                receiver.bind((address, 4000))
                segment_bytes = 1201
                sender.setsockopt(socket.SOL_UDP, 103, segment_bytes)  # UDP_SEGMENT
                data = os.urandom(segment_bytes * 20 + 7)
                sender.sendto(data, (address, 4000))
                received = [receiver.recv(2000) for _ in range(21)]
                self.assertEqual(b"".join(received), data)
                # More at once than the kernel takes in one
                receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)  # SO_RCVBUFFORCE
                sender.setsockopt(socket.SOL_UDP, 103, 10)
                sent = [os.urandom(10) for _ in range(400)]
                for at in range(0, 400, 50):
                    sender.sendto(b"".join(sent[at : at + 50]), (address, 4000))
                self.assertEqual([receiver.recv(2000) for _ in sent], sent)
            self.assertEqual(
                self.longest_frame["right"] > 10 * MTU_BYTES, self.devices["right"].takes_datagrams
            )
