"""Tests of anyvpn.cli.progress: a line for each event, and one below that stays."""

from __future__ import annotations

import errno
import io
import os
from ipaddress import IPv4Interface
from typing import Any, cast

import pytest

from anyvpn.cli.progress import Progress
from anyvpn.client.tunnel_status import TunnelStatus
from anyvpn.model.channels import ChannelName
from anyvpn.model.client_events import (
    AdapterChanged,
    CertificateWarning,
    ChannelChanged,
    ClientEvent,
    Disconnected,
    MessageShown,
    Phase,
    PhaseEntered,
    ProfileStored,
    Retrying,
    Traffic,
    TunnelReady,
)
from anyvpn.model.events import Counters
from anyvpn.model.tunnel_settings import Lease, TunnelSettings

SETTINGS = TunnelSettings(Lease(IPv4Interface("10.1.0.7/24")), 1400)
DTLS = ChannelName.DTLS


def shown(event: ClientEvent, verbosity: int = 0) -> str:
    output = io.StringIO()
    Progress(verbosity, output).event_happened(event)
    return output.getvalue()


class LineTests:
    @pytest.mark.parametrize(
        ("event", "line"),
        [
            (PhaseEntered(Phase.GROUP, "https://a"), "2  group selection: https://a\n"),
            (PhaseEntered(Phase.RECONNECTING), "-  reconnecting\n"),
            (MessageShown("Hello\nyou"), "   | Hello\n   | you\n"),
            (ProfileStored("a.xml", "/x/a.xml", True), "   profile a.xml stored in /x/a.xml\n"),
            (ProfileStored("a.xml", "", False), "   profile a.xml unchanged\n"),
            (
                TunnelReady(SETTINGS, "tun0", 1390, "TLSv1.3"),
                "Connected: 10.1.0.7 on tun0, MTU 1390, TLSv1.3\n",
            ),
            (ChannelChanged(DTLS, "DTLS X", "why"), "   data goes over UDP (DTLS X): why\n"),
            (AdapterChanged(1300, "why"), "-  reconnecting (adapter): MTU 1300, why\n"),
            (Retrying("why", 1, 0), "-  the tunnel is lost: why; try 1 now\n"),
            (Retrying("why", 3, 2), "-  the tunnel is lost: why; try 3 in 2 s\n"),
            (Disconnected("why"), "Disconnected: why\n"),
            (Traffic("sent", "a\nb"), "   > a\n   > b\n"),
            (Traffic("received", "a"), "   < a\n"),
        ],
    )
    def test_each_event_has_its_own(self, event: ClientEvent, line: str) -> None:
        assert shown(event) == line

    def test_nothing_that_a_gateway_says_steers_the_terminal(self) -> None:
        hostile = "a\x1b]0;owned\x07\r\u202e"
        for event in (
            MessageShown(hostile),
            PhaseEntered(Phase.GROUP, hostile),
            Retrying(hostile, 1, 0),
            Disconnected(hostile),
            ProfileStored(hostile, "", True),
            Traffic("received", hostile),
        ):
            assert not set("\x1b\x07\r\u202e") & set(shown(event))

    def test_warnings_alone_when_quiet(self) -> None:
        assert shown(MessageShown("Hello"), -1) == ""
        assert "--servercert pin" in shown(CertificateWarning("why", "pin"), -1)
        assert shown(Retrying("why", 1, 0), -1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


class Tunnel:
    """Has nothing but a status."""

    def __init__(self) -> None:
        self.received = self.sent = 0
        self.is_connected = True

    def status(self) -> TunnelStatus:
        counters = Counters(received_bytes=self.received, sent_bytes=self.sent)
        return TunnelStatus(
            is_connected=self.is_connected,
            channel=DTLS,
            cipher="DTLS TLS_PSK",
            tls="TLSv1.3",
            device="tun0",
            mtu_bytes=1390,
            settings=SETTINGS,
            counters=counters,
            round_trip_s=0.0123,
            connected_at_s=100.0,
            reconnects=0,
        )


class StatusLineTests:
    @pytest.fixture(autouse=True)
    def columns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.width = 100
        monkeypatch.setattr(
            os, "get_terminal_size", lambda number: os.terminal_size((self.width, 24))
        )

    def test_rates_are_those_since_the_last_look(self) -> None:
        output, tunnel = Terminal(), Tunnel()
        progress = Progress(0, output)
        progress.show_status(cast(Any, tunnel), 100.0)
        tunnel.received, tunnel.sent = 250_000, 1_000
        progress.show_status(cast(Any, tunnel), 102.0)
        last = output.getvalue().split("\r\x1b[K")[-1]
        assert last == ("UDP  in 1 Mbit/s  out 4 kbit/s  12.3 ms  0:00:02  10.1.0.7  DTLS TLS_PSK")

    def test_a_lost_link_is_no_connection(self) -> None:
        output, tunnel = Terminal(), Tunnel()
        tunnel.is_connected = False
        Progress(0, output).show_status(cast(Any, tunnel), 3700.0)
        assert "\r\x1b[Kno connection  in 0 bit/s" in output.getvalue()
        assert "1:00:00" in output.getvalue()

    @pytest.mark.parametrize(("width", "longest"), [(40, 39), (0, 79)])
    def test_it_never_wraps(self, width: int, longest: int) -> None:
        self.width = width
        output = Terminal()
        Progress(0, output).show_status(cast(Any, Tunnel()), 100.0)
        assert len(output.getvalue().removeprefix("\r\x1b[K")) <= longest

    def test_lines_go_above_it(self) -> None:
        output = Terminal()
        progress = Progress(0, output)
        progress.show_status(cast(Any, Tunnel()), 100.0)
        status = output.getvalue().removeprefix("\r\x1b[K")
        progress.say("news")
        assert output.getvalue().endswith(f"\r\x1b[Knews\n{status}")
        progress.end_status()
        assert output.getvalue().endswith(f"{status}\r\x1b[K")

    def test_a_terminal_that_goes_away_is_no_error(self) -> None:
        class Gone(Terminal):
            def flush(self) -> None:
                raise OSError(errno.EIO, "Input/output error")

        progress = Progress(0, Gone())
        progress.show_status(cast(Any, Tunnel()), 100.0)
        progress.say("news")
        progress.end_status()

    def test_there_is_none_without_a_terminal_or_when_quiet(self) -> None:
        for verbosity, output in ((0, io.StringIO()), (-1, Terminal())):
            progress = Progress(verbosity, output)
            progress.show_status(cast(Any, Tunnel()), 100.0)
            progress.end_status()
            assert output.getvalue() == ""
