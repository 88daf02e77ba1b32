"""`anyvpn bench`: many sessions of one process at our gateway."""

from __future__ import annotations

import re
import signal
from json import loads
from pathlib import Path
from typing import Any

from anyvpn.testing.programs import Program, wait_until
from tests.interop.gateway import ANYVPN, NAME, PASSWORD, PORT, environment
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import Site
from tests.interop.terminal import Terminal

SESSIONS = 50


def command(site: Site, *options: str) -> list[str]:
    """How to begin it on a client's host."""
    words = [
        *(*ANYVPN, "bench", f"https://{NAME}:{PORT}", "--cafile", str(site.gateway.ca_file)),
        *("--resolve", f"{NAME}:{GATEWAY_ADDRESS}", "--no-profile", *options),
    ]
    return site.network.host(1).namespace.command(words)


def begun(site: Site, *options: str, password: str = PASSWORD) -> Program:
    """The command, which nobody sits at."""
    given = ("--user", "alice", "--passwd-on-stdin", "--non-inter", "--json")
    program = Program(
        "anyvpn bench",
        command(site, *given, *options),
        stdin=f"{password}\n",
        environment=environment(),
    )
    return site.started(program)


def report_of(program: Program) -> dict[str, Any]:
    """What it has printed at the end."""
    lines = program.output().splitlines()
    begin, end = lines.index("{"), lines.index("}")
    found: dict[str, Any] = loads("\n".join(lines[begin : end + 1]))
    return found


class LoadTests:
    def test_fifty_sessions_come_ping_and_go(self, site: Site) -> None:
        since = site.gateway.program.position
        program = begun(
            *(site, "--sessions", str(SESSIONS), "--rate", "100", "--hold", "3"),
            *("--ping", site.gateway.inner_addresses[0]),
        )
        assert program.wait_for_end(90) == 0, program.output()
        report = report_of(program)
        assert report["succeeded"] == report["connected"] == report["over_dtls"] == SESSIONS
        assert report["failed"] == report["lost"] == {}
        assert 1 < report["logins_per_s"] < 101
        assert 0 < report["round_trip_ms"]["p50"] < 1000
        assert report["pings_sent"] > SESSIONS
        assert report["pings_answered"] > 0.9 * report["pings_sent"]
        ended = r"session_ended\b.*user=alice\b.*said goodbye"
        log = wait_until(
            lambda: _all_in(site.gateway.program.output(since), ended), "all have said goodbye"
        )
        assert "Traceback" not in log

    def test_wrong_passwords_are_counted_as_what_they_are(self, site: Site) -> None:
        program = begun(site, "--sessions", "2", "--hold", "0", password="wrong")
        assert program.wait_for_end(20) == 1
        report = report_of(program)
        assert (report["succeeded"], report["connected"]) == (0, 0)
        assert list(report["failed"].values()) == [2]
        assert "Login failed" in next(iter(report["failed"]))

    def test_an_interruption_says_goodbye_and_what_there_was(self, site: Site) -> None:
        since = site.gateway.program.position
        program = begun(site, "--sessions", "2")
        program.wait_for("Opened: 2 of 2 connected")
        assert program.stop(signal.SIGINT) == 0, program.output()
        assert program.find("At the end: 2 of 2 connected")
        assert report_of(program)["connected"] == 2
        site.gateway.wait_for_event("session_ended", user="alice", since=since)

    def test_an_interruption_of_the_logins_does_so_too(self, site: Site) -> None:
        since = site.gateway.program.position
        program = begun(site, "--sessions", "2", "--rate", "0.01")
        program.wait_for("^1 of 2 connected")
        assert program.stop(signal.SIGINT) == 1
        assert program.find("Saying goodbye")
        assert not program.find("Traceback")
        assert report_of(program)["connected"] == 1
        site.gateway.wait_for_event("session_ended", user="alice", since=since)

    def test_sessions_that_the_gateway_takes_away_are_lost(self, site: Site) -> None:
        program = begun(site, "--sessions", "2")
        program.wait_for("Opened: 2 of 2 connected")
        site.gateway.stop()
        try:
            program.wait_for(r"^0 of 2 connected.*2 lost", limit_s=20)
        finally:
            site.gateway.start()
        assert program.stop(signal.SIGINT) == 1
        assert report_of(program)["lost"]


class TerminalTests:
    def test_one_answer_is_for_all_sessions(self, site: Site, tmp_path: Path) -> None:
        terminal = Terminal(
            command(site, "--sessions", "6", "--hold", "0"), environment(), tmp_path
        )
        terminal.wait_for(rb"Username: ")
        terminal.type("alice\n")
        terminal.wait_for(rb"Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for(rb"At the end: 6 of 6 connected")
        assert terminal.wait_for_end() == 0

    def test_nobody_is_asked_again_for_each_session(self, site: Site, tmp_path: Path) -> None:
        words = command(site, "--user", "alice", "--sessions", "6", "--hold", "0")
        terminal = Terminal(words, environment(), tmp_path)
        terminal.wait_for(rb"Password: ")
        terminal.type("wrong\n")
        shown = terminal.wait_for(rb"(?s).*  6 failed: Login failed")[0]
        assert b"Password: " not in shown
        assert terminal.wait_for_end() == 1


def _all_in(log: str, pattern: str) -> str:
    """The log, once it has the line for each session."""
    return log if len(re.findall(pattern, log)) >= SESSIONS else ""
