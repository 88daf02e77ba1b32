"""Counters of several tunnels add up."""

from __future__ import annotations

from anyvpn.model.events import Counters


class CountersTests:
    def test_sum_has_every_count_and_the_last_moment(self) -> None:
        first = Counters(1, 20, 3, 40, 5, 6, 7, 8, 9, data_at_s=100.0)
        second = Counters(10, 200, 30, 400, 50, 60, 70, 80, 90, data_at_s=90.0)
        assert first.plus(second) == Counters(11, 220, 33, 440, 55, 66, 77, 88, 99, data_at_s=100.0)
        assert first.plus(Counters()) == first
