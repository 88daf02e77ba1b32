from __future__ import annotations

import unittest
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from anyvpn.backends.listener_log import LONGEST_TEXT, Settings, build, describe
from anyvpn.interfaces import IEventListener
from anyvpn.model.events import Counters, Event, EventKind
from anyvpn.testing.listener_contract import ListenerContract


class LogListenerContractTests(ListenerContract, TestCase):
    def make_listener(self) -> IEventListener:
        return build(Settings(), None)


def lines_of(*events: Event, omit: tuple[str, ...] = ()) -> list[str]:
    logged: list[LogEvent] = []
    observer = cast(ILogObserver, logged.append)
    globalLogPublisher.addObserver(observer)
    try:
        listener = build(Settings(omit), None)
        for event in events:
            listener.event_happened(event)
    finally:
        globalLogPublisher.removeObserver(observer)
    return [formatEvent(event) for event in logged if "event_kind" in event]


class LineTests(unittest.TestCase):
    def test_line_has_kind_and_all_that_is_known(self) -> None:
        event = Event(
            EventKind.LOGIN_SUCCEEDED,
            1.0,
            user="alice",
            peer="192.0.2.7",
            session_id=7,
            profile="staff",
            detail="password",
        )
        assert lines_of(event) == [
            "login_succeeded user=alice peer=192.0.2.7 session=7 profile=staff detail=password"
        ]

    def test_unknown_words_are_left_out(self) -> None:
        assert lines_of(Event(EventKind.GATEWAY_STARTED, 1.0)) == ["gateway_started"]

    def test_text_with_spaces_is_quoted(self) -> None:
        event = Event(EventKind.SESSION_ENDED, 1.0, detail="idle time-out")
        assert lines_of(event) == ['session_ended detail="idle time-out"']

    def test_hostile_name_cannot_forge_a_line_or_a_word(self) -> None:
        name = 'x\nlogin_succeeded user=root\r\x1b[2J\u2028 " \\ {user} \udcff\U000e0001'
        (line,) = lines_of(Event(EventKind.LOGIN_FAILED, 1.0, user=name, peer="192.0.2.7"))
        assert line == (
            'login_failed user="x\\u000alogin_succeeded user=root\\u000d\\u001b[2J\\u2028'
            ' \\" \\\\ {user} \\udcff\\U000e0001" peer=192.0.2.7'
        )

    @given(st.text(st.characters(exclude_categories=())))
    def test_any_text_stays_one_printable_value(self, text: str) -> None:
        line = describe(Event(EventKind.LOGIN_FAILED, 1.0, user=text, detail="end"), None)
        assert line.isprintable()
        assert line.endswith(" detail=end")
        value = line.removeprefix("login_failed ").removesuffix("detail=end").strip()
        if value and not value.startswith('user="'):
            assert not set(value.removeprefix("user=")) & set(' ="')

    def test_long_text_is_cut(self) -> None:
        line = describe(Event(EventKind.LOGIN_FAILED, 1.0, user="x" * 100_000), None)
        assert len(line) < 2 * LONGEST_TEXT

    def test_end_has_counters_and_durations(self) -> None:
        counters = Counters(1, 2, 3, 4, 5, 6, 7, 8, 9, 10.0)
        lines = lines_of(
            Event(EventKind.LOGIN_SUCCEEDED, 100.0, session_id=7),
            Event(EventKind.TUNNEL_OPENED, 110.0, session_id=7),
            Event(EventKind.TUNNEL_CLOSED, 130.4, session_id=7, counters=counters),
            Event(EventKind.TUNNEL_RESUMED, 140.0, session_id=7),
            Event(EventKind.TUNNEL_CLOSED, 141.0, session_id=7),
            Event(EventKind.SESSION_ENDED, 160.0, session_id=7),
            Event(EventKind.SESSION_ENDED, 161.0, session_id=7),
        )
        assert lines[2] == (
            "tunnel_closed session=7 duration_s=20 received_packets=1 received_bytes=2 "
            "sent_packets=3 sent_bytes=4 dropped_spoofed=5 dropped_malformed=6 "
            "dropped_queue_full=7 dropped_unroutable=8 dropped_filtered=9"
        )
        assert lines[4:] == [
            "tunnel_closed session=7 duration_s=1",
            "session_ended session=7 duration_s=60",
            "session_ended session=7",
        ]

    def test_omitted_kinds_are_not_logged_but_count_for_durations(self) -> None:
        lines = lines_of(
            Event(EventKind.LOGIN_SUCCEEDED, 1.0, session_id=7),
            Event(EventKind.SESSION_ENDED, 3.0, session_id=7),
            omit=("login_succeeded",),
        )
        assert lines == ["session_ended session=7 duration_s=2"]

    def test_unknown_kind_to_omit_is_refused_with_the_likely_one(self) -> None:
        with pytest.raises(ValueError, match='did you mean "tls_failed"'):
            Settings(("tls_fail",))
