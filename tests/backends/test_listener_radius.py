"""Tests of anyvpn.backends.listener_radius, with a server of the tests'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyrad.packet import AcctPacket
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from anyvpn.backends import radius_packets as packets
from anyvpn.backends.listener_radius import RadiusAccounting, Settings, build
from anyvpn.backends.radius_settings import ServerSettings
from anyvpn.interfaces import IEventListener
from anyvpn.model.authentication import Identity
from anyvpn.model.events import Counters, Event, EventKind
from anyvpn.model.session import EndReason
from anyvpn.testing.listener_contract import ListenerContract
from tests.backends.test_listener_json_lines import RECORD, told

HOST = "127.0.0.1"
SECRET = b"radius-secret"
START, PROGRESS, END = (
    EventKind.SESSION_STARTED,
    EventKind.SESSION_PROGRESS,
    EventKind.SESSION_ENDED,
)


class Server(DatagramProtocol):
    """Acknowledges all requests but the first `silent` ones, and keeps them."""

    def __init__(self) -> None:
        self.silent = 0
        self.asked: list[Any] = []

    def datagramReceived(self, datagram: bytes, source: Any) -> None:
        request = AcctPacket(packet=datagram, secret=SECRET, dict=packets.DICTIONARY)
        assert request.VerifyAcctRequest()
        self.asked.append(request)
        if len(self.asked) > self.silent:
            answer = request.CreateReply()
            answer.code = packets.ACCOUNTING_RESPONSE
            self.transport.write(answer.ReplyPacket(), source)  # type: ignore[union-attr]


class RadiusCase(TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.port = reactor.listenUDP(0, self.server, interface=HOST)  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)

    def make(self) -> RadiusAccounting:
        secret = Path(self.mktemp())
        secret.write_bytes(SECRET + b"\n")
        server = ServerSettings(HOST, secret, self.port.getHost().port)
        return build(Settings((server,), tries=1, time_s=0.1, retry_after_s=0.1), reactor)

    async def tell(self, *events: Event) -> list[Any]:
        """What the server was asked then."""
        made = self.make()
        for each in events:
            made.event_happened(each)
        await made.close()
        return self.server.asked


class ContractTests(RadiusCase, ListenerContract):
    def make_listener(self) -> IEventListener:
        return self.make()


class RequestTests(RadiusCase):
    async def test_a_session_starts_reports_and_stops(self) -> None:
        ended = told(END, 1070.9, Counters(1, 2, 3, 4), reason=EndReason.IDLE)
        asked = await self.tell(told(START, 1010.0), told(PROGRESS, 1020.0), ended)
        assert [each["Acct-Status-Type"] for each in asked] == [[1], [3], [2]]
        start, _, stop = asked
        assert {each["Acct-Session-Id"][0] for each in asked} == {RECORD.accounting_id}
        assert "Acct-Session-Time" not in start
        assert stop["Acct-Session-Time"] == [60]
        assert stop["Acct-Terminate-Cause"] == [4]
        assert (stop["Acct-Input-Octets"], stop["Acct-Output-Octets"]) == ([2], [4])
        assert (stop["Acct-Input-Packets"], stop["Acct-Output-Packets"]) == ([1], [3])

    async def test_octets_beyond_32_bits_are_counted_on(self) -> None:
        [asked] = await self.tell(told(END, 1070.0, Counters(2**33 + 1, 5 * 2**32 + 7, 3, 2**32)))
        assert (asked["Acct-Input-Gigawords"], asked["Acct-Input-Octets"]) == ([5], [7])
        assert (asked["Acct-Output-Gigawords"], asked["Acct-Output-Octets"]) == ([1], [0])
        assert asked["Acct-Input-Packets"] == [1]

    async def test_what_the_server_gave_at_the_login_comes_back(self) -> None:
        """RFC 2865, sections 5.1 and 5.25."""
        attributes = {"Class": ("0x00ff", "cafe"), "User-Name": ("alice@example.com",)}
        event = told(START, 1010.0)
        assert event.session is not None
        session = replace(event.session, identity=Identity("alice", frozenset(), attributes))
        [asked] = await self.tell(replace(event, session=session))
        assert asked["Class"] == [b"\x00\xff", b"cafe"]
        assert asked["User-Name"] == ["alice@example.com"]

    async def test_what_fits_into_no_attribute_costs_itself_alone(self) -> None:
        event = told(START, 1010.0)
        assert event.session is not None
        identity = Identity("ä" * 200, frozenset(), {"Class": ("x" * 300, "good")})
        [asked] = await self.tell(replace(event, session=replace(event.session, identity=identity)))
        assert asked["Class"] == [b"good"]
        assert asked["User-Name"] == ["ä" * 126]


class ServerTests(RadiusCase):
    async def test_what_is_not_acknowledged_is_told_again_in_order(self) -> None:
        self.server.silent = 2
        with capturedLogs() as logged:
            asked = await self.tell(told(START, 1010.0), told(END, 1070.0))
        kinds = [each["Acct-Status-Type"][0] for each in asked]
        assert kinds == [1, 1, 1, 2]
        said = [formatEvent(each) for each in logged]
        assert [each for each in said if "accounting" in each] == [
            f"RADIUS accounting waits: no RADIUS server answers: {HOST}:{self.port.getHost().port} "
            "does not answer",
            "RADIUS accounting goes on",
        ]

    async def test_a_report_that_is_lost_is_made_good_by_the_next(self) -> None:
        self.server.silent = 1
        asked = await self.tell(told(PROGRESS, 1020.0), told(PROGRESS, 1030.0))
        assert [each["Event-Timestamp"] for each in asked] == [[1020], [1030]]


class SettingsTests:
    def test_wrong_settings_are_refused_in_words(self) -> None:
        server = ServerSettings(HOST, Path("secret"))
        for changes, why in (
            ({"servers": ()}, "servers must have one"),
            ({"nas_identifier": ""}, "nas_identifier must not be empty"),
            ({"tries": 0}, "tries must lie"),
            ({"time_s": 0.0}, "time_s must be"),
            ({"retry_after_s": 0.0}, "retry_after_s must be"),
        ):
            with pytest.raises(ValueError, match=why):
                Settings(**{"servers": (server,), **changes})  # type: ignore[arg-type]
