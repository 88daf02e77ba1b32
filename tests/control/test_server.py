"""The control socket: who may ask, and what may be asked at what cost."""

from __future__ import annotations

import json
import socket
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection

from anyvpn.control import server
from anyvpn.control.server import (
    MOST_CONNECTIONS,
    OWNER_ONLY,
    ControlReactor,
    control_factory,
    open_control,
)
from anyvpn.control.status import CONNECTION_TIME_S, GatewayStatus, SessionStatus, read_json
from anyvpn.errors import StartUpFailed
from tests.control.reported import ReportsCase

ADDRESS = UNIXAddress(None)


class AnswerTests(ReportsCase):
    def setUp(self) -> None:
        super().setUp()
        self.factory = control_factory(self.clock, self.reports)
        self.factory.doStart()  # type: ignore[no-untyped-call]

    def tearDown(self) -> None:
        self.factory.doStop()  # type: ignore[no-untyped-call]
        super().tearDown()

    def connection(self) -> StringTransportWithDisconnection:
        transport = StringTransportWithDisconnection()
        protocol = self.factory.buildProtocol(ADDRESS)
        assert protocol is not None
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def say(self, content: bytes) -> StringTransportWithDisconnection:
        transport = self.connection()
        cast(Any, transport.protocol).dataReceived(content)
        return transport

    def ask(self, path: str) -> tuple[bytes, bytes]:
        transport = self.say(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in range(5):
            self.clock.advance(0)
        assert not transport.connected, "one request, one answer"
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return head, body

    def test_the_status_is_one_object(self) -> None:
        head, body = self.ask("/status")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Type: application/json" in head
        assert read_json(body, GatewayStatus) == self.reports.gateway_status()

    def test_sessions_are_a_list_which_may_be_empty_or_long(self) -> None:
        with patch.object(server, "SESSIONS_AT_A_TIME", 2):
            for count in range(6):
                _, body = self.ask("/sessions")
                chunks = body.split(b"\r\n")[1::2]
                listed = read_json(b"".join(chunks), tuple[SessionStatus, ...])
                assert listed == tuple(self.sessions())
                assert len(listed) == count
                self.client().log_in()

    def test_there_is_nothing_else(self) -> None:
        for path in ("/", "/status/", "/sessions/1", "/../status", "/%2e%2e/etc/passwd"):
            assert self.ask(path)[0].startswith(b"HTTP/1.1 404 "), path

    def test_nothing_can_be_changed(self) -> None:
        transport = self.say(b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert transport.value().startswith(b"HTTP/1.1 405 ")
        assert not transport.connected

    def test_a_body_ends_the_connection_unread(self) -> None:
        for header in (b"Content-Length: 1000000000000", b"Transfer-Encoding: chunked"):
            transport = self.say(b"GET /status HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
            assert not transport.connected
            assert transport.value() == b""

    def test_garbage_ends_the_connection(self) -> None:
        for content in (b"\x16\x03\x01\r\n\r\n", b"x" * 100_000, b"GET /status HTTP/9\r\n\r\n"):
            assert not self.say(content).connected

    def test_whoever_says_nothing_is_let_go(self) -> None:
        silent, slow = self.connection(), self.connection()
        for _ in range(int(CONNECTION_TIME_S)):
            assert slow.connected
            cast(Any, slow.protocol).dataReceived(b"G")
            self.clock.advance(1)
        assert not silent.connected
        assert not slow.connected

    def test_so_many_at_a_time_and_no_more(self) -> None:
        open_ones = [self.connection() for _ in range(MOST_CONNECTIONS)]
        assert self.factory.buildProtocol(ADDRESS) is None
        open_ones.pop().loseConnection()
        self.ask("/status")
        for each in open_ones:
            each.loseConnection()

    def test_whoever_leaves_in_the_middle_of_a_list_costs_nothing_more(self) -> None:
        self.client().log_in()
        transport = self.say(b"GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n")
        cast(Any, transport.protocol).connectionLost(connectionDone)
        for _ in range(3):
            self.clock.advance(0)
        assert self.flushLoggedErrors() == []

    def test_a_failure_is_ours_to_see_alone(self) -> None:
        with patch.object(type(self.reports), "sessions", side_effect=ZeroDivisionError("inside")):
            transport = self.say(b"GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"inside" not in transport.value()
        assert not transport.connected
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1


class ListenTests(ReportsCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "gateway.sock"
        self.reactor = MemoryReactorClock()

    def open(self) -> None:
        open_control(cast(ControlReactor, self.reactor), self.path, self.reports)

    def refusal(self) -> str:
        with self.assertRaises(StartUpFailed) as caught:
            self.open()
        return str(caught.exception)

    def test_it_is_for_our_own_user_alone(self) -> None:
        self.open()
        ((path, _, _, mode, _),) = self.reactor.unixServers
        self.assertEqual((path, mode), (str(self.path), OWNER_ONLY))

    def test_what_a_killed_gateway_left_is_removed(self) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(str(self.path))
        self.open()
        self.assertFalse(self.path.exists())

    def test_a_live_one_is_left_alone(self) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as live:
            live.bind(str(self.path))
            live.listen()
            said = self.refusal()
        self.assertIn(f"control socket {self.path}: another process listens there", said)
        self.assertIn("enabled = false", said)
        self.assertTrue(self.path.is_socket())

    def test_what_is_no_socket_is_left_alone(self) -> None:
        self.path.write_text("precious")
        self.assertIn("something else has this name", self.refusal())
        self.assertEqual(self.path.read_text(), "precious")

    def test_why_it_cannot_be_is_said(self) -> None:
        error = CannotListenError(None, str(self.path).encode(), OSError(13, "Permission denied"))
        with patch.object(self.reactor, "listenUNIX", side_effect=error):
            self.assertIn("gateway.sock: Permission denied; [control]", self.refusal())


class DocumentTests(ReportsCase):
    def test_programs_find_the_keys_that_are_documented(self) -> None:
        written = json.loads(server.write_json(self.reports.gateway_status()))
        self.assertEqual(written["sessions"], {"granted": 0, "connected": 0, "dormant": 0})
        self.assertEqual(written["engine"]["name"], "python")
