"""Tests of anyvpn.backends.listener_script, with real scripts."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from anyvpn.backends.listener_script import ScriptListener, Settings, build
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IEventListener
from anyvpn.model.events import Counters, Event, EventKind
from anyvpn.testing.listener_contract import ListenerContract
from anyvpn.testing.programs import wait_until
from tests.backends.test_listener_json_lines import told

START = told(EventKind.SESSION_STARTED, 1010.0)
END = told(EventKind.SESSION_ENDED, 1070.0, Counters(1, 20, 3, 40))


def runs(process: int) -> bool:
    """Whether it is there, and does not merely wait for its parent to notice its end."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


class ScriptCase(TestCase):
    def script(self, text: str) -> Path:
        file = Path(self.mktemp())
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return file

    def make(self, text: str, **settings: Any) -> ScriptListener:
        script = self.script(text)
        own = Settings(script, script, **settings)
        return build(own, reactor)  # type: ignore[arg-type]  # trial's own

    async def said(self, text: str, *events: Event, **settings: Any) -> list[str]:
        made = self.make(text, **settings)
        with capturedLogs() as logged:
            for each in events:
                made.event_happened(each)
            await made.close()
        lines = [formatEvent(each) for each in logged]
        return [each.partition(" for ")[2] for each in lines if " for alice" in each]


class ContractTests(ScriptCase, ListenerContract):
    def make_listener(self) -> IEventListener:
        return self.make("exit 0")


class ScriptTests(ScriptCase):
    async def test_it_is_told_what_ocserv_tells(self) -> None:
        shown = (
            "echo $REASON $USERNAME $GROUPNAME $ID $IP_REAL $VHOST $STATS_BYTES_IN $STATS_DURATION"
        )
        assert await self.said(shown, START, END) == [
            "alice: connect alice a,b 7 192.0.2.7 staff",
            "alice: disconnect alice a,b 7 192.0.2.7 staff 20 60",
        ]

    async def test_other_events_run_nothing(self) -> None:
        progress = told(EventKind.SESSION_PROGRESS, 1020.0)
        failed = Event(EventKind.LOGIN_FAILED, 1.0, user="alice")
        assert await self.said("echo no", progress, failed) == []

    async def test_those_of_one_session_run_one_after_the_other(self) -> None:
        text = 'test $REASON = connect && sleep 0.2; echo "$REASON"'
        assert await self.said(text, START, END) == ["alice: connect", "alice: disconnect"]

    async def test_one_that_fails_is_told_with_what_it_said(self) -> None:
        [line] = await self.said("echo oh >&2; exit 3", START)
        assert line == "alice ended with status 3: oh"
        [line] = await self.said("kill -9 $$", START)
        assert line == "alice ended with signal 9: "

    async def test_one_that_never_ends_is_killed(self) -> None:
        [line] = await self.said("echo begun; exec sleep 60", START, time_s=0.8)
        assert line == "alice ran for more than 0.8 s and was killed: begun"

    async def test_one_that_never_ends_is_killed_with_what_it_has_started(self) -> None:
        [line] = await self.said("sleep 60 & echo $!; wait", START, time_s=0.8)
        said, _, number = line.rpartition(" ")
        assert said == "alice ran for more than 0.8 s and was killed:"
        wait_until(lambda: not runs(int(number)), "the end of what it has started")

    async def test_what_it_leaves_running_keeps_no_other_from_its_turn(self) -> None:
        """A daemon holds the output open that it was started with."""
        text = "sleep 5 & echo $!; test $REASON = disconnect || exit 3"
        before_s = reactor.seconds()  # type: ignore[attr-defined]  # trial's own
        lines = await self.said(text, START, END, time_s=30.0)
        assert reactor.seconds() - before_s < 4  # type: ignore[attr-defined]  # likewise
        first, second = (line.rpartition(" ") for line in lines)
        assert (first[0], second[0]) == ("alice ended with status 3:", "alice:"), lines
        for _, _, number in (first, second):
            assert runs(int(number))
            os.kill(int(number), signal.SIGKILL)

    async def test_what_it_prints_is_bounded_and_made_printable(self) -> None:
        [line] = await self.said("printf '\\033[2J'; yes | head -c 100000", START)
        assert line.startswith("alice: ?[2Jy y")
        assert len(line) < 5000

    def test_wrong_settings_are_refused_in_words(self) -> None:
        for settings, why in (
            ({}, "connect_script or disconnect_script"),
            ({"connect_script": Path("x"), "time_s": 0.0}, "time_s must be"),
            ({"connect_script": Path("x"), "max_parallel": 0}, "max_parallel must lie"),
        ):
            with pytest.raises(ValueError, match=why):
                Settings(**settings)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="connect_script: x is no file that can"):
            build(Settings(Path("x")), reactor)  # type: ignore[arg-type]
