"""The adapter that needs no privileges, against the kernel: what it sets up, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from anyvpn.backends.adapter_namespace import NamespaceAdapter, Settings, build
from anyvpn.errors import TunUnavailable
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings
from anyvpn.testing.programs import wait_until

pytestmark = pytest.mark.interop

LEASE = Lease(IPv4Interface("10.99.0.7/24"), IPv6Interface("fd99::7/64"))
GRANTED = TunnelSettings(LEASE, 1400, dns=(IPv4Address("10.99.0.1"),), default_domain="a.test b")
LISTENING = """
import socket, time
server = socket.create_server(("127.0.0.1", 7))
time.sleep(60)
"""
SHOUTING = """
import socket
server = socket.create_server(("127.0.0.1", 7))
client, _ = server.accept()
client.sendall(client.recv(99).upper())
"""
PLAIN = AdapterSettings(GRANTED, 1400)


def asynchronous(test: Callable[[Any], Any]) -> Callable[[Any], Deferred[None]]:
    return lambda case: Deferred.fromCoroutine(test(case))


class NamespaceTestCase(TestCase):
    timeout = 30

    async def opened(self, settings: AdapterSettings = PLAIN) -> NamespaceAdapter:
        adapter = await build(Settings(), reactor).open(settings)
        self.addCleanup(lambda: Deferred.fromCoroutine(adapter.close()))
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = Path(directory.name, "output")
        return adapter

    async def said(self, adapter: NamespaceAdapter, script: str) -> str:
        """What a script prints inside."""
        status = await adapter.run(["sh", "-c", f"({script}) > {self.output} 2>&1"])
        assert status == 0, self.output.read_text()
        return self.output.read_text()

    async def eventually(self, look: Callable[[], Any], what: str) -> None:
        await deferToThread(wait_until, look, what)


class SetUpTests(NamespaceTestCase):
    @asynchronous
    async def test_device_addresses_routes_and_resolvers_are_those_granted(self) -> None:
        adapter = await self.opened()
        self.assertEqual((adapter.name, adapter.mtu_bytes), ("vpn0", 1400))
        [device] = json.loads(await self.said(adapter, "ip -j address show dev vpn0"))
        addresses = {each["local"]: each["prefixlen"] for each in device["addr_info"]}
        self.assertEqual(addresses, {"10.99.0.7": 32, "fd99::7": 128})
        self.assertEqual(device["mtu"], 1400)
        routes = await self.said(adapter, "ip route; ip -6 route show default")
        self.assertIn("default dev vpn0", routes.splitlines()[0])
        self.assertIn("default dev vpn0", routes.splitlines()[-1])
        text = await self.said(adapter, "cat /etc/resolv.conf")
        self.assertEqual(text, "search a.test b\nnameserver 10.99.0.1\n")
        self.assertIn("hosts: files dns", await self.said(adapter, "cat /etc/nsswitch.conf"))
        self.assertEqual(
            await self.said(adapter, "ls -A /tmp | grep -x 'anyvpn-........' || true"), ""
        )

    @asynchronous
    async def test_the_host_is_not_changed(self) -> None:
        def look() -> str:
            return subprocess.run(
                ["sh", "-c", "ip -o link; ip route; cat /etc/resolv.conf /proc/self/mounts"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout

        before = look()
        adapter = await self.opened()
        self.assertEqual(look(), before)
        await adapter.close()
        self.assertEqual(look(), before)

    @asynchronous
    async def test_what_is_not_for_the_tunnel_is_unreachable_at_once(self) -> None:
        granted = replace(
            GRANTED,
            split_include=(IPv4Network("10.20.0.0/16"),),
            split_exclude=(IPv4Network("10.20.30.0/24"),),
            dns=(IPv4Address("10.50.0.1"),),
        )
        adapter = await self.opened(AdapterSettings(granted, 1400))
        for outside in ("10.20.30.1", "192.0.2.1", "2001:db8::1"):
            with self.assertRaises(NoRouteError):
                await adapter.connect(outside, 80, 5)
        for through in ("10.20.0.1", "10.99.0.9", "10.50.0.1"):
            with self.assertRaises(TCPTimedOutError):
                await adapter.connect(through, 80, 0.2)

    @asynchronous
    async def test_a_small_mtu_leaves_ipv6_out_until_it_grows(self) -> None:
        adapter = await self.opened(AdapterSettings(GRANTED, 1200))
        look = "ip -o address show dev vpn0"
        self.assertNotIn("fd99::7", await self.said(adapter, look))
        await adapter.apply(PLAIN)
        self.assertEqual(adapter.mtu_bytes, 1400)
        self.assertIn("fd99::7", await self.said(adapter, look))
        self.assertIn("default", await self.said(adapter, "ip -6 route"))
        await adapter.apply(AdapterSettings(GRANTED, 1200))
        self.assertNotIn("fd99::7", await self.said(adapter, look))

    @asynchronous
    async def test_another_grant_replaces_the_one_before(self) -> None:
        adapter = await self.opened()
        granted = replace(
            GRANTED,
            lease=Lease(IPv4Interface("10.98.0.8/24")),
            dns=(IPv4Address("10.98.0.1"), IPv6Address("fd98::1")),
            default_domain="",
            split_include=(IPv4Network("10.20.0.0/16"),),
        )
        await adapter.apply(AdapterSettings(granted, 1300))
        shown = await self.said(adapter, "ip -o address show dev vpn0; ip route; ip -6 route")
        self.assertNotIn("10.99.0.7", shown)
        self.assertNotIn("fd99::7", shown)
        self.assertNotIn("default", shown)
        self.assertIn("10.98.0.8", shown)
        self.assertIn("10.20.0.0/16 dev vpn0", shown)
        text = await self.said(adapter, "cat /etc/resolv.conf")
        self.assertEqual(text, "nameserver 10.98.0.1\nnameserver fd98::1\n")

    @asynchronous
    async def test_a_grant_that_cannot_be_used_is_refused_in_words(self) -> None:
        granted = replace(GRANTED, lease=Lease(ipv6=IPv6Interface("fd99::7/64")))
        with self.assertRaisesRegex(TunUnavailable, "IPv6 alone"):
            await self.opened(AdapterSettings(granted, 1200))


class ConnectTests(NamespaceTestCase):
    @asynchronous
    async def test_failures_are_those_of_twisted(self) -> None:
        adapter = await self.opened()
        with self.assertRaises(ConnectionRefusedError):
            await adapter.connect("127.0.0.1", 9, 5)
        with self.assertRaises(TCPTimedOutError):
            await adapter.connect("10.1.1.1", 80, 0.2)
        for name in ("a\0b", "x" * 70 + ".test", "a..b"):
            with self.assertRaises(DNSLookupError, msg=repr(name)):
                await adapter.connect(name, 80, 5)

    @asynchronous
    async def test_a_look_up_without_answer_keeps_the_time_limit(self) -> None:
        adapter = await self.opened()
        with self.assertRaises(TCPTimedOutError):
            await adapter.connect("host.inside", 80, 0.3)

    @asynchronous
    async def test_a_socket_comes_out_and_works(self) -> None:
        adapter = await self.opened()
        serving = Deferred.fromCoroutine(adapter.run([sys.executable, "-c", SHOUTING]))
        connected = None
        while connected is None:
            try:
                connected = socket.socket(fileno=await adapter.connect("127.0.0.1", 7, 5))
            except ConnectionRefusedError:
                continue
        with connected:
            self.assertFalse(os.get_blocking(connected.fileno()))
            self.assertFalse(connected.get_inheritable())
            connected.settimeout(5)
            connected.sendall(b"hello")
            self.assertEqual(await deferToThread(connected.recv, 99), b"HELLO")
        self.assertEqual(await serving, 0)

    @asynchronous
    async def test_more_at_once_than_the_process_takes_all_get_an_answer(self) -> None:
        adapter = await self.opened()
        asked = [
            Deferred.fromCoroutine(adapter.connect("127.0.0.1", 9, 20)).addErrback(
                lambda failure: failure.type
            )
            for _ in range(700)
        ]
        self.assertEqual({await each for each in asked}, {ConnectionRefusedError})

    @asynchronous
    async def test_who_stops_waiting_leaves_no_descriptor_behind(self) -> None:
        adapter = await self.opened()
        before = len(list(Path("/proc/self/fd").iterdir()))
        serving = Deferred.fromCoroutine(adapter.run([sys.executable, "-c", LISTENING]))
        serving.addErrback(lambda failure: failure.trap(TunUnavailable))
        for _ in range(20):
            waiting = Deferred.fromCoroutine(adapter.connect("127.0.0.1", 7, 5))
            waiting.addErrback(lambda _: None)
            waiting.cancel()
        await self.said(adapter, "true")
        self.assertEqual(len(list(Path("/proc/self/fd").iterdir())), before)


class SignalTests(NamespaceTestCase):
    @asynchronous
    async def test_the_terminal_s_are_for_what_runs_inside(self) -> None:
        opening = Deferred.fromCoroutine(self.opened())
        [child] = children()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(int(child), number)  # while it still begins
        adapter = await opening
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            status = await adapter.run(["sh", "-c", f"kill -{number} $$"])
            self.assertEqual(status, 128 + number)


class EndTests(NamespaceTestCase):
    @asynchronous
    async def test_children_of_children_end_with_it(self) -> None:
        adapter = await self.opened()
        await self.said(adapter, "setsid sleep 4711 & echo started")
        await self.eventually(lambda: processes("sleep 4711"), "it runs")
        await adapter.close()
        self.assertFalse(processes("sleep 4711"))

    @asynchronous
    async def test_who_ignores_the_request_to_end_is_killed(self) -> None:
        adapter = await self.opened()
        running = Deferred.fromCoroutine(
            adapter.run(["sh", "-c", "trap '' HUP TERM; while true; do sleep 0.4712; done"])
        )
        running.addErrback(lambda failure: failure.trap(TunUnavailable))
        await self.eventually(lambda: processes("sleep 0.4712"), "it runs")
        await adapter.close()
        self.assertFalse(processes("sleep 0.4712"))
        self.assertIs(await running, TunUnavailable)

    @asynchronous
    async def test_nothing_is_left_when_the_process_inside_is_killed(self) -> None:
        adapter = await self.opened()
        lost: list[str] = []
        adapter.on_lost = lost.append
        await self.said(adapter, "setsid sleep 4713 & echo started")
        running = Deferred.fromCoroutine(adapter.run(["sleep", "4714"]))
        running.addErrback(lambda failure: failure.trap(TunUnavailable))
        await self.eventually(lambda: processes("sleep 4714"), "it runs")
        [child] = children()
        os.kill(int(child), signal.SIGKILL)
        self.assertIs(await running, TunUnavailable)
        await self.eventually(lambda: not processes("sleep 471[34]"), "all have ended")
        self.assertEqual(lost[:1], ["the process of the network namespace is gone"])
        with self.assertRaises(TunUnavailable):
            await adapter.connect("10.1.1.1", 80, 5)
        await adapter.close()

    @asynchronous
    async def test_cancelling_the_opening_leaves_nothing(self) -> None:
        opening = Deferred.fromCoroutine(build(Settings(), reactor).open(PLAIN))
        opening.cancel()
        with self.assertRaises(CancelledError):
            await opening
        self.assertFalse(children())


REPLACING = """
import os, sys
from pathlib import Path
from twisted.internet.task import deferLater, react
from tests.interop.test_namespace_adapter import GRANTED, PLAIN
from tests.interop.test_namespace_adapter import AdapterSettings, Settings, build, replace

async def main(reactor):
    adapter = await build(Settings(), reactor).open(PLAIN)
    os.rename("/etc/new", "/etc/resolv.conf")
    await deferLater(reactor, 2.5)
    print(Path("/etc/resolv.conf").read_text(), flush=True)
    await adapter.run(["cat", "/etc/resolv.conf"])
    await adapter.apply(AdapterSettings(replace(GRANTED, default_domain="c.test"), 1400))
    await adapter.run(["cat", "/etc/resolv.conf"])
    print(Path("/etc/resolv.conf").read_text(), flush=True)
    await adapter.close()

react(main)
"""


class ReplacedFileTests(TestCase):
    def test_a_resolver_s_file_that_the_host_replaces_is_laid_over_again(self) -> None:
        # In a mount namespace with an /etc of its own: the host's is not ours to change
        script = (
            'cp -a /etc "$0" && mount --bind "$0/etc" /etc && '
            "rm -f /etc/resolv.conf && echo one > /etc/resolv.conf && echo two > /etc/new && "
            'exec "$1" -c "$2"'
        )
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-c", script, directory, sys.executable, REPLACING],
                capture_output=True,
                text=True,
                check=False,
                cwd=Path(__file__).parents[2],
                timeout=30,
            )
        assert done.returncode == 0, done.stderr
        inside = "search {}\nnameserver 10.99.0.1\n"
        expected = f"two\n\n{inside.format('a.test b')}{inside.format('c.test')}two\n\n"
        assert done.stdout == expected, done.stdout


class ForbiddenTests(TestCase):
    def test_a_kernel_that_grants_none_is_met_in_fact(self) -> None:
        script = (
            "echo 0 > /proc/sys/user/max_user_namespaces; "
            f"exec {sys.executable} -c 'from anyvpn.backends import adapter_namespace_child as c; "
            "c.enter_namespaces()'"
        )
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "sh", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
            timeout=30,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("TunUnavailable: this system forbids user namespaces", done.stderr)
        self.assertIn("set user.max_user_namespaces above 0", done.stderr)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert not children()


def children() -> list[str]:
    """The processes inside namespaces that this one has started."""
    return processes(".*adapter_namespace_child [0-9]*", "-P", str(os.getpid()))


def processes(command: str, *options: str) -> list[str]:
    """Those with this command line, a pattern."""
    done = subprocess.run(
        ["pgrep", *options, "-f", "-x", command], capture_output=True, text=True, check=False
    )
    return done.stdout.split()
