"""What has become of the sessions."""

from __future__ import annotations

import json

from anyvpn.load.tally import (
    LONGEST_REASON_CHARACTERS,
    MOST_REASONS,
    OTHER_REASONS,
    Tally,
)


class LineTests:
    def test_it_says_what_matters_and_no_more(self) -> None:
        tally = Tally(10, connected=3, succeeded=4, over_dtls=2, opening_time_s=2.0)
        assert tally.line() == "3 of 10 connected, 2 over UDP, 2.0 logins/s"

    def test_troubles_and_times_are_added_when_there_are_any(self) -> None:
        tally = Tally(10)
        tally.login_failed("no")
        tally.session_lost("gone")
        tally.round_trips_s.extend((0.003, 0.001, 0.002))
        tally.pings_sent, tally.pings_answered = 5, 4
        assert tally.line().endswith("1 failed, 1 lost, round trip 2.00 ms, pings 4/5")


class ReasonTests:
    def test_the_same_ones_are_counted_together(self) -> None:
        tally = Tally(3)
        for reason in ("no", "never", "no"):
            tally.login_failed(reason)
        assert tally.failed == {"no": 2, "never": 1}
        assert tally.done == 3

    def test_a_gateway_full_of_reasons_does_not_fill_the_memory(self) -> None:
        tally = Tally(1)
        for number in range(1000):
            tally.session_lost(f"{number} " + "x" * 1000)
        assert len(tally.lost) == MOST_REASONS + 1
        assert tally.lost[OTHER_REASONS] == 1000 - MOST_REASONS
        assert max(map(len, tally.lost)) == LONGEST_REASON_CHARACTERS


class ReportTests:
    def test_times_are_shown_by_their_spread(self) -> None:
        tally = Tally(100, succeeded=100)
        tally.login_times_s.extend(each / 1000 for each in range(100, 0, -1))
        report = json.loads(json.dumps(tally.report()))
        assert report["login_ms"] == {"p50": 51.0, "p99": 100.0, "most": 100.0}
        assert report["round_trip_ms"] == {}
        assert report["succeeded"] == 100
