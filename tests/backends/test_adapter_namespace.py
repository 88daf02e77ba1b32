"""What of the namespace adapter can be seen without a namespace."""

from __future__ import annotations

import errno
import os
import socket
import unittest
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest.mock import patch

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.backends import adapter_namespace_child as child
from anyvpn.backends.adapter_namespace import (
    MOST_CONNECTING,
    NamespaceAdapter,
    Settings,
    describe,
)
from anyvpn.backends.adapter_namespace_inside import Answer, Inside
from anyvpn.backends.adapter_namespace_processes import network_of, processes_in
from anyvpn.errors import TunUnavailable
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings
from anyvpn.tun.descriptor import OpenedTun

LEASE = Lease(IPv4Interface("10.99.0.7/24"), IPv6Interface("fd99::7/64"))
GRANTED = TunnelSettings(LEASE, 1400)


class FakeInside:
    """Is asked, and answers when a test says so."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.waiting: list[Deferred[Answer]] = []
        self.cancelled = 0

    async def ask(self, request: Mapping[str, Any]) -> Answer:
        self.asked.append(request)
        self.waiting.append(Deferred(self.note_cancelled))
        return await self.waiting[-1]

    def note_cancelled(self, _: object) -> None:
        self.cancelled += 1

    def close(self) -> None:
        """Nothing is open."""


class DescriptionTests(unittest.TestCase):
    """What the process inside is told."""

    def described(self, **changes: Any) -> dict[str, Any]:
        granted = TunnelSettings(**{"lease": LEASE, "mtu_bytes": 1400} | changes)
        return describe(AdapterSettings(granted, 1300), True)

    def test_without_split_tunnelling_everything_goes_through(self) -> None:
        found = self.described()
        self.assertEqual(found["routes"], ["0.0.0.0/0", "::/0"])
        self.assertEqual(found["unreachable"], [])
        self.assertEqual(found["mtu_bytes"], 1300)

    def test_only_families_that_have_an_address_are_routed(self) -> None:
        only = Lease(IPv4Interface("10.99.0.7/24"))
        self.assertEqual(self.described(lease=only)["routes"], ["0.0.0.0/0"])
        found = self.described(
            lease=only,
            split_include=(IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8")),
            split_exclude=(IPv6Network("fd01::/16"),),
        )
        self.assertNotIn("fd00::/8", found["routes"])
        self.assertEqual(found["unreachable"], [])

    def test_resolvers_and_the_inner_network_are_reached_beside_what_is_included(self) -> None:
        found = self.described(
            split_include=(IPv4Network("10.20.0.0/16"),),
            split_exclude=(IPv4Network("10.20.30.0/24"),),
            dns=(IPv4Address("10.50.0.1"),),
        )
        self.assertEqual(
            found["routes"], ["10.20.0.0/16", "10.99.0.0/24", "fd99::/64", "10.50.0.1/32"]
        )
        self.assertEqual(found["unreachable"], ["10.20.30.0/24"])

    def test_a_domain_cannot_smuggle_lines_into_the_resolver_s_file(self) -> None:
        found = self.described(default_domain="a.test\nnameserver 192.0.2.1 b\x1b[2J c")
        self.assertFalse([each for each in found["search"] if "\n" in each or "\x1b" in each])

    def test_every_key_has_its_help(self) -> None:
        for attribute in attrs.fields(Settings):
            self.assertTrue(attribute.metadata["help"].endswith("."), attribute.name)


class AdapterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.inside = FakeInside()
        self.applied = describe(AdapterSettings(GRANTED, 1400), True)
        self.adapter = NamespaceAdapter(
            cast(Any, self.clock),
            OpenedTun(-1, "vpn0", 0),
            cast(Inside, self.inside),
            self.applied,
            1400,
        )

    def connect(self, host: str = "h", port: int = 80) -> Deferred[int]:
        return Deferred.fromCoroutine(self.adapter.connect(host, port, 5.0))

    def test_failures_become_those_of_twisted(self) -> None:
        kinds: dict[str, type[Exception]] = {
            "refused": ConnectionRefusedError,
            "unreachable": NoRouteError,
            "timed out": TCPTimedOutError,
            "no such host": DNSLookupError,
            "failed": ConnectError,
            "something new": ConnectError,
        }
        for kind, error in kinds.items():
            connecting = self.connect()
            self.inside.waiting[-1].callback(({"failure": kind, "why": "so it is"}, -1))
            failure = self.failureResultOf(connecting, error)
            self.assertIs(failure.type, error)
            self.assertIn("so it is", str(failure.value))

    def test_a_descriptor_is_handed_on(self) -> None:
        connecting = self.connect()
        self.inside.waiting[0].callback(({}, 77))
        self.assertEqual(self.successResultOf(connecting), 77)
        self.assertEqual(
            self.inside.asked, [{"do": "connect", "host": "h", "port": 80, "timeout_s": 5.0}]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_cannot_be_is_not_even_asked(self) -> None:
        for port in (0, -1, 65536):
            self.failureResultOf(self.connect(port=port), ConnectError)
        for host in ("a\0b", "a\nb"):
            self.failureResultOf(self.connect(host), DNSLookupError)
        self.assertEqual(self.inside.asked, [])

    def test_time_is_limited_and_nobody_waits_afterwards(self) -> None:
        connecting = self.connect()
        self.clock.advance(5.1)
        self.failureResultOf(connecting, TCPTimedOutError)
        self.assertEqual(self.inside.cancelled, 1)

    def test_cancelling_stops_waiting(self) -> None:
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual(self.inside.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_so_many_at_a_time_and_the_others_in_their_turn(self) -> None:
        connecting = [self.connect() for _ in range(MOST_CONNECTING + 2)]
        self.assertEqual(len(self.inside.asked), MOST_CONNECTING)
        self.inside.waiting[0].callback(({}, 7))
        self.assertEqual(len(self.inside.asked), MOST_CONNECTING + 1)
        connecting[1].cancel()
        self.failureResultOf(connecting[1], CancelledError)
        self.assertEqual(len(self.inside.asked), MOST_CONNECTING + 2)

    def test_only_differences_are_applied(self) -> None:
        Deferred.fromCoroutine(self.adapter.apply(AdapterSettings(GRANTED, 1400)))
        self.assertEqual(self.inside.asked, [])
        applying = Deferred.fromCoroutine(self.adapter.apply(AdapterSettings(GRANTED, 1200)))
        self.assertEqual(self.inside.asked[0]["settings"]["mtu_bytes"], 1200)
        self.assertEqual(self.adapter.mtu_bytes, 1400)
        self.inside.waiting[0].callback(({}, -1))
        self.successResultOf(applying)
        self.assertEqual(self.adapter.mtu_bytes, 1200)

    def test_what_cannot_be_applied_is_told(self) -> None:
        applying = Deferred.fromCoroutine(self.adapter.apply(AdapterSettings(GRANTED, 1200)))
        self.inside.waiting[0].callback(({"failure": "failed", "why": "no room"}, -1))
        self.failureResultOf(applying, TunUnavailable)
        self.assertEqual(self.adapter.mtu_bytes, 1400)

    def test_a_command_gives_its_status_or_why_it_cannot_run(self) -> None:
        running = Deferred.fromCoroutine(self.adapter.run(["true"]))
        self.inside.waiting[0].callback(({"status": 143}, -1))
        self.assertEqual(self.successResultOf(running), 143)
        running = Deferred.fromCoroutine(self.adapter.run(["true"]))
        self.inside.waiting[1].callback(({"failure": "failed", "why": "no memory"}, -1))
        failure = self.failureResultOf(running, TunUnavailable)
        self.assertIn("true cannot be run: no memory", str(failure.value))


class ForbiddenTests(unittest.TestCase):
    """The text names what forbids user namespaces."""

    def test_the_setting_is_named(self) -> None:
        with TemporaryDirectory() as directory:
            file = Path(directory, "setting")
            for path, wrong, helps in child._HINTS:
                file.write_text(f"{wrong}\n")
                with patch.object(child, "_HINTS", ((str(file), wrong, helps),)):
                    text = child.why_forbidden(errno.EPERM)
                self.assertIn(helps, text)
                self.assertIn(path.removeprefix("/proc/sys/").replace("/", "."), text)
                file.write_text("7\n")
                with patch.object(child, "_HINTS", ((str(file), wrong, helps),)):
                    self.assertIn("seccomp", child.why_forbidden(errno.EPERM))


class FailureTests(unittest.TestCase):
    def test_kinds(self) -> None:
        for error, kind in (
            (socket.gaierror(-2, "Name or service not known"), "no such host"),
            (UnicodeError("label too long"), "no such host"),
            (TimeoutError("timed out"), "timed out"),
            (OSError(errno.ETIMEDOUT, "timed out"), "timed out"),
            (OSError(errno.ECONNREFUSED, "refused"), "refused"),
            (OSError(errno.ENETUNREACH, "no way"), "unreachable"),
            (OSError(errno.EHOSTUNREACH, "no way"), "unreachable"),
            (OSError(errno.EMFILE, "too many files"), "failed"),
            (TunUnavailable("no"), "failed"),
        ):
            found = child.failure_of(error)
            self.assertEqual(found["failure"], kind, error)
            self.assertTrue(found["why"])


class ProcessTests(unittest.TestCase):
    def test_those_of_a_network_are_found_without_oneself(self) -> None:
        network = network_of("self")
        self.assertRegex(network, r"net:\[\d+\]")
        found = processes_in(network)
        self.assertIn(os.getppid(), found)
        self.assertNotIn(os.getpid(), found)
        self.assertEqual(processes_in("net:[1]"), [])

    def test_a_process_that_is_not_there_is_in_none(self) -> None:
        self.assertEqual(network_of(2**22 + 1), "")
