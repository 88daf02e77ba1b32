"""Hours of the week in which sessions are allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(
    r"(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?\s+"
    r"(?P<from>\d\d?:\d\d)-(?P<to>\d\d?:\d\d)",
    re.IGNORECASE,
)
_MINUTES_OF_DAY = 24 * 60
_MINUTES_OF_WEEK = 7 * _MINUTES_OF_DAY


@dataclass(frozen=True, slots=True)
class AccessHours:
    """Some days of the week, from one minute of the day to another (minutes from midnight).

    Hours that end before they begin go on over midnight, into the next day.
    """

    days: frozenset[int]
    begin: int
    end: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Such as "Mon-Fri 07:00-19:00" or "Sat 22:00-06:00". Raises: ValueError."""
        found = _HOURS.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'"{text}" is not like "Mon-Fri 07:00-19:00"')
        first = _day(found["first"])
        last = _day(found["last"] or found["first"])
        days = frozenset((first + each) % 7 for each in range((last - first) % 7 + 1))
        begin, end = _minute(found["from"]), _minute(found["to"])
        if begin == end:
            raise ValueError(f'"{text}" begins when it ends; a whole day is 00:00-24:00')
        return cls(days, begin, end)

    def minutes_left(self, now: datetime) -> float | None:
        """How long they go on from now; None when they are over, or have not begun."""
        length = self.end - self.begin
        if length < 0:
            length += _MINUTES_OF_DAY
        seconds = now.second + now.microsecond / 1e6
        minute = now.weekday() * _MINUTES_OF_DAY + now.hour * 60 + now.minute + seconds / 60
        for day in self.days:
            since = (minute - day * _MINUTES_OF_DAY - self.begin) % _MINUTES_OF_WEEK
            if since < length:
                return length - since
        return None


def seconds_left(hours: Iterable[AccessHours], now: datetime) -> float:
    """How long access goes on from now, over hours that follow one another; 0: there is none.

    A week and more is infinity: the hours never end.
    """
    hours = tuple(hours)
    left = 0.0
    while left < _MINUTES_OF_WEEK:
        then = now + timedelta(minutes=left)
        more = max((each.minutes_left(then) or 0.0 for each in hours), default=0.0)
        if not more:
            return left * 60
        left += more
    return float("inf")


def _day(text: str) -> int:
    try:
        return _DAYS.index(text.lower())
    except ValueError:
        names = ", ".join(each.capitalize() for each in _DAYS)
        raise ValueError(f'"{text}" is no day; there are {names}') from None


def _minute(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or hour * 60 + minute > _MINUTES_OF_DAY:
        raise ValueError(f'"{text}" is no time of the day')
    return hour * 60 + minute
