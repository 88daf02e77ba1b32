"""Tests of the listeners that write files, and of what they have in common."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from anyvpn.backends import accounting, listener_json_lines, listener_sqlite
from anyvpn.backends.accounting import Writer
from anyvpn.backends.listener_json_lines import JSONLines
from anyvpn.backends.listener_sqlite import SQLiteAccounting
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IEventListener
from anyvpn.model.authentication import Identity
from anyvpn.model.events import Counters, Event, EventKind
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.session import EndReason, Granted, SessionRecord
from anyvpn.testing.listener_contract import ListenerContract
from anyvpn.testing.programs import wait_until

RECORD = SessionRecord(
    token_digest=bytes(range(32)),
    session_id=7,
    identity=Identity("alice", frozenset(("b", "a"))),
    profile="staff",
    policy=GroupPolicy("p"),
    granted_at_s=1000.0,
    state=Granted(2000.0),
    peer_address="192.0.2.7",
    started_at_s=1010.0,
)


NONE = Counters()


def told(kind: EventKind, at_s: float, counters: Counters = NONE, **more: Any) -> Event:
    record = replace(RECORD, counters=counters)
    return Event(
        kind,
        at_s,
        user="alice",
        peer="192.0.2.7",
        session_id=7,
        session=record,
        counters=counters,
        **more,
    )


class FileCase(TestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())

    def json_lines(self, *only: str) -> JSONLines:
        settings = listener_json_lines.Settings(self.file, only)
        made = listener_json_lines.build(settings, reactor)  # type: ignore[arg-type]  # trial's
        self.addCleanup(made.close)
        return made

    def sqlite(self) -> SQLiteAccounting:
        settings = listener_sqlite.Settings(self.file)
        made = listener_sqlite.build(settings, reactor)  # type: ignore[arg-type]  # likewise
        self.addCleanup(made.close)
        return made

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def rows(self) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file)) as connection:
            query = "SELECT accounting_id, ended, reason, duration_s, received_bytes FROM sessions"
            return connection.execute(query).fetchall()


class JSONLinesContractTests(FileCase, ListenerContract):
    def make_listener(self) -> IEventListener:
        return self.json_lines()


class SQLiteContractTests(FileCase, ListenerContract):
    def make_listener(self) -> IEventListener:
        return self.sqlite()


class JSONLinesTests(FileCase):
    def test_a_line_has_whatever_is_known(self) -> None:
        made = self.json_lines()
        made.event_happened(Event(EventKind.LOGIN_FAILED, 0.5, user="ä\n", detail="wrong"))
        made.event_happened(
            told(EventKind.SESSION_ENDED, 1070.5, Counters(1, 2, 3, 4), reason=EndReason.IDLE)
        )
        made.close()
        first, second = self.written()
        assert first == {
            "time": "1970-01-01T00:00:00.500+00:00",
            "event": "login_failed",
            "user": "ä\n",
            "detail": "wrong",
        }
        assert second["reason"] == "idle"
        assert second["duration_s"] == 60.5
        assert second["groups"] == ["a", "b"]
        assert (second["received_packets"], second["sent_bytes"]) == (1, 4)
        assert second["accounting_id"] == "0001020304050607"

    def test_only_what_is_wanted_is_written(self) -> None:
        made = self.json_lines("session_ended")
        made.event_happened(Event(EventKind.LOGIN_FAILED, 1.0))
        made.event_happened(told(EventKind.SESSION_ENDED, 1070.0))
        made.close()
        [line] = self.written()
        assert line["event"] == "session_ended"

    def test_a_file_that_was_moved_away_is_begun_anew(self) -> None:
        made = self.json_lines()
        made.event_happened(Event(EventKind.LOGIN_FAILED, 1.0, user="first"))
        made.close()
        again = self.json_lines()
        done = threading.Event()
        again.event_happened(Event(EventKind.LOGIN_FAILED, 1.0, user="second"))
        again._writer.put(done.set)
        assert done.wait(5)
        self.file.rename(self.file.with_suffix(".1"))
        again.event_happened(Event(EventKind.LOGIN_FAILED, 1.0, user="third"))
        again.close()
        assert [each["user"] for each in self.written()] == ["third"]
        moved = self.file.with_suffix(".1").read_text().splitlines()
        assert [json.loads(each)["user"] for each in moved] == ["first", "second"]

    def test_a_full_disk_costs_events_until_there_is_room(self) -> None:
        self.file.symlink_to("/dev/full")
        made = self.json_lines()
        lost = 20_000 // len(listener_json_lines.line_of(told(EventKind.SESSION_ENDED, 1.0)))
        with capturedLogs() as logged:
            for _ in range(lost):
                made.event_happened(told(EventKind.SESSION_ENDED, 1.0))
            wait_until(lambda: made._writer._dropped == lost, "that all are lost")
            self.file.unlink()
            made.event_happened(Event(EventKind.LOGIN_FAILED, 1.0, user="bob"))
            made.event_happened(Event(EventKind.LOGIN_FAILED, 1.0, user="carol"))
            made.close()
        assert [each["user"] for each in self.written()] == ["bob", "carol"]
        assert [formatEvent(each).partition(" ")[2] for each in logged] == [
            "cannot be written: [Errno 28] No space left on device",
            f"is written again; {lost} events are lost",
        ]

    def test_the_end_of_a_gateway_whose_disk_is_full_is_no_error(self) -> None:
        self.file.symlink_to("/dev/full")
        made = self.json_lines()
        made.event_happened(told(EventKind.SESSION_ENDED, 1.0))
        made.close()

    def test_wrong_settings_are_refused_in_words(self) -> None:
        with pytest.raises(ValueError, match='only: there is no event "login"; there are'):
            listener_json_lines.Settings(self.file, ("login",))
        settings = listener_json_lines.Settings(self.file / "no" / "file")
        with pytest.raises(ConfigurationError, match=r"file: the directory .* does not exist"):
            listener_json_lines.build(settings, reactor)  # type: ignore[arg-type]


class SQLiteTests(FileCase):
    def test_a_session_is_one_row_from_its_start_to_its_end(self) -> None:
        made = self.sqlite()
        for kind, at_s, moved in (
            (EventKind.SESSION_STARTED, 1010.0, 0),
            (EventKind.SESSION_PROGRESS, 1020.0, 10),
            (EventKind.SESSION_ENDED, 1030.0, 20),
        ):
            made.event_happened(told(kind, at_s, Counters(received_bytes=moved)))
        made.close()
        ended = "1970-01-01T00:17:10.000+00:00"
        assert self.rows() == [("0001020304050607", ended, None, 20.0, 20)]

    def test_an_end_is_final(self) -> None:
        made = self.sqlite()
        made.event_happened(told(EventKind.SESSION_ENDED, 1030.0, reason=EndReason.LOGOUT))
        made.event_happened(told(EventKind.SESSION_PROGRESS, 1040.0, Counters(received_bytes=9)))
        made.close()
        [row] = self.rows()
        assert (row[2], row[4]) == ("logout", 0)

    def test_sessions_without_a_tunnel_are_none(self) -> None:
        made = self.sqlite()
        event = told(EventKind.SESSION_ENDED, 1030.0)
        assert event.session is not None
        made.event_happened(replace(event, session=replace(event.session, started_at_s=0.0)))
        made.close()
        assert not self.file.exists()

    def test_files_of_others_are_refused(self) -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        with pytest.raises(ConfigurationError, match="is a file of another program"):
            self.sqlite()
        self.file.write_bytes(b"rubbish" * 100)
        with pytest.raises(ConfigurationError, match=r"file: .* cannot be used"):
            self.sqlite()


class WriterTests(TestCase):
    def writer(self) -> Writer:
        made = Writer("the file", reactor, ends=lambda: None)  # type: ignore[arg-type]
        self.addCleanup(made.close)
        return made

    def test_failures_are_told_once_and_so_is_their_end(self) -> None:
        made = self.writer()
        done: list[int] = []
        with capturedLogs() as logged:
            for _ in range(3):
                made.put(lambda: 1 / 0)
            made.put(done.append, 1)
            made.close()
        assert done == [1]
        said = [formatEvent(each) for each in logged]
        assert [each for each in said if "the file" in each] == [
            "the file cannot be written: division by zero",
            "the file is written again; 3 events are lost",
        ]

    def test_a_disk_that_stands_still_costs_bounded_memory(self) -> None:
        self.patch(accounting, "MOST_WAITING", 10)  # type: ignore[no-untyped-call]  # trial's own
        made = self.writer()
        gate, done = threading.Event(), []  # type: ignore[var-annotated]
        made.put(gate.wait)
        for number in range(100):
            made.put(done.append, number)
        with capturedLogs() as logged:
            gate.set()
            made.close()
        assert done == list(range(9))
        assert [formatEvent(each) for each in logged] == [
            "the file is written again; 91 events are lost"
        ]

    def test_a_slow_disk_holds_the_end_of_the_gateway_up_for_a_bounded_time(self) -> None:
        """As an SQLite file does that another program has locked: five seconds for each event."""
        self.patch(accounting, "END_TIME_S", 0.3)  # type: ignore[no-untyped-call]  # likewise
        made = self.writer()
        for _ in range(50):
            made.put(time.sleep, 0.1)
        begun_s = time.monotonic()
        with capturedLogs() as logged:
            made.close()
        assert time.monotonic() - begun_s < 1.5
        [line] = [
            formatEvent(each) for each in logged if each["log_namespace"].startswith("anyvpn")
        ]
        assert re.fullmatch(r"the file: 4\d events are lost at the end", line), line
