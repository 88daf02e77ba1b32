"""Tests of anyvpn.backends.authorizer_static_hours."""

from __future__ import annotations

from datetime import datetime

import pytest

from anyvpn.backends.authorizer_static_hours import AccessHours, seconds_left

MONDAY = 23


def left_s(day: int, time: str, *hours: str) -> float:
    hour, minute = map(int, time.split(":"))
    now = datetime(2026, 11, day, hour, minute)
    return seconds_left(map(AccessHours.read, hours), now)


class AccessHoursTests:
    @pytest.mark.parametrize(
        ("day", "time", "hours", "minutes"),
        [
            (MONDAY, "07:00", "Mon-Fri 07:00-19:00", 720),
            (MONDAY, "06:59", "Mon-Fri 07:00-19:00", 0),
            (MONDAY, "19:00", "Mon-Fri 07:00-19:00", 0),
            (MONDAY - 1, "12:00", "Mon-Fri 07:00-19:00", 0),
            (MONDAY - 1, "12:00", "fri-mon 7:00-19:00", 420),
            (MONDAY, "23:00", "Mon 22:00-06:00", 420),
            (MONDAY + 1, "05:00", "Mon 22:00-06:00", 60),
            (MONDAY + 1, "23:00", "Mon 22:00-06:00", 0),
            (MONDAY, "03:00", "Sun 22:00-06:00", 180),
            (MONDAY, "12:00", "Mon 00:00-24:00", 720),
        ],
    )
    def test_what_is_left_of_them(self, day: int, time: str, hours: str, minutes: int) -> None:
        assert left_s(day, time, hours) == minutes * 60

    def test_hours_that_follow_one_another_are_one(self) -> None:
        assert left_s(MONDAY, "18:00", "Mon 07:00-19:00", "Mon 19:00-21:00") == 3 * 3600
        assert left_s(MONDAY, "18:00", "Mon-Tue 00:00-24:00") == 30 * 3600

    def test_all_of_the_week_never_ends(self) -> None:
        assert left_s(MONDAY, "18:00", "Mon-Sun 00:00-24:00") == float("inf")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Mon",
            "07:00-19:00",
            "Mon 7-19",
            "Foo 07:00-19:00",
            "Mon 25:00-26:00",
            "Mon 1:60-2:00",
            "Mon 07:00-07:00",
            "Mon-Fri 07:00-19:00 x",
            "Mon 24:01-25:00",
        ],
    )
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"is not like|is no day|is no time|begins when"):
            AccessHours.read(text)
