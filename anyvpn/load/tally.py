"""What has become of the sessions so far, for a line on the screen and for a report at the end."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any

# Ours
MOST_REASONS = 20
LONGEST_REASON_CHARACTERS = 200
OTHER_REASONS = "other reasons"
RECENT_ROUND_TRIPS = 1000


@dataclass(slots=True)
class Tally:
    """Times in seconds. `failed` and `lost` count by the reason: never there, and there no more."""

    asked: int
    connected: int = 0
    succeeded: int = 0
    over_dtls: int = 0
    opening_time_s: float = 0.0
    """From the first login until the last one was there or had failed."""
    login_times_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    round_trips_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_ROUND_TRIPS))
    pings_sent: int = 0
    pings_answered: int = 0

    @property
    def done(self) -> int:
        """How many logins have come to an end, good or bad."""
        return self.succeeded + self.failed.total()

    @property
    def logins_per_s(self) -> float:
        """On average, those that succeeded."""
        return self.succeeded / self.opening_time_s if self.opening_time_s else 0.0

    def login_failed(self, reason: str) -> None:
        """One that is never there."""
        _count(self.failed, reason)

    def session_lost(self, reason: str) -> None:
        """One that is there no more, and should be."""
        _count(self.lost, reason)

    def line(self) -> str:
        """How it is going, in one line."""
        parts = [
            f"{self.connected} of {self.asked} connected",
            f"{self.over_dtls} over UDP",
            f"{self.logins_per_s:.1f} logins/s",
        ]
        parts += [f"{self.failed.total()} failed"] if self.failed else []
        parts += [f"{self.lost.total()} lost"] if self.lost else []
        if self.round_trips_s:
            parts.append(f"round trip {median(self.round_trips_s) * 1000:.2f} ms")
        if self.pings_sent:
            parts.append(f"pings {self.pings_answered}/{self.pings_sent}")
        return ", ".join(parts)

    def report(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        times_ms = sorted(each * 1000 for each in self.login_times_s)
        return {
            "asked": self.asked,
            "connected": self.connected,
            "succeeded": self.succeeded,
            "over_dtls": self.over_dtls,
            "logins_per_s": self.logins_per_s,
            "login_ms": _spread(times_ms),
            "round_trip_ms": _spread(sorted(each * 1000 for each in self.round_trips_s)),
            "failed": dict(self.failed),
            "lost": dict(self.lost),
            "pings_sent": self.pings_sent,
            "pings_answered": self.pings_answered,
        }


def _count(reasons: Counter[str], reason: str) -> None:
    """A gateway that gives each its own reason does not fill the memory."""
    short = reason[:LONGEST_REASON_CHARACTERS]
    known = short in reasons or len(reasons) < MOST_REASONS
    reasons[short if known else OTHER_REASONS] += 1


def _spread(figures: list[float]) -> dict[str, float]:
    if not figures:
        return {}
    return {
        "p50": figures[len(figures) // 2],
        "p99": figures[len(figures) * 99 // 100],
        "most": figures[-1],
    }
