"""When a lost tunnel is tried to be got back, and when it is given up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

# Ours
DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""The first try comes at once; the last delay is repeated."""
STEADY_AFTER_S = 10.0
"""A link that was lost sooner was none: tries go on where they were, with their growing delays."""


class Try(NamedTuple):
    """One try: its number, from 1, and how long to wait before it."""

    attempt: int
    delay_s: float


class Tries:
    """The tries of a tunnel within `limit_s` of its loss; the first is made in any case."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._lost_at_s = 0.0
        self._attempt = 0
        self._delays = retry_delays()

    def begin_anew(self) -> None:
        """Try at once again."""
        self._attempt = 0
        self._delays = retry_delays()

    def link_lost(self, lived_s: float) -> None:
        """A link that has lived for that long is lost."""
        if lived_s >= STEADY_AFTER_S:
            self.begin_anew()

    def next_try(self, now_s: float) -> Try | None:
        """The next one; None when the time is up."""
        if not self._attempt:
            self._lost_at_s = now_s
        delay_s = next(self._delays)
        if self._attempt and self.lost_for_s(now_s) + delay_s > self._limit_s:
            return None
        self._attempt += 1
        return Try(self._attempt, delay_s)

    def lost_for_s(self, now_s: float) -> float:
        """How long there has been no steady link."""
        return now_s - self._lost_at_s


def retry_delays() -> Iterator[float]:
    """How long to wait before each try, without end."""
    yield from DELAYS_S
    yield from repeat(DELAYS_S[-1])
