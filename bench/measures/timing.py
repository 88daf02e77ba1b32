"""How long, how often and with how many is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds are whole ones: iperf3 reports by the second."""

    repeats: int = 3
    warm_up_s: int = 2
    time_s: int = 5
    pings: int = 1000
    """The slowest in a hundred are ten of them, and not the mishap of a moment."""
    logins: int = 40
    few_sessions: int = 50
    many_sessions: int = 250
    """Memory is what sessions cost between these two numbers of them."""
    idle_sessions: int = 10_000
    idle_time_s: int = 30
    """As long as there is between two probes of a session."""
    crowd_clients: int = 24
    crowd_time_s: int = 60


QUICK = Timing(
    repeats=1,
    warm_up_s=1,
    time_s=1,
    pings=100,
    logins=5,
    few_sessions=2,
    many_sessions=12,
    idle_sessions=20,
    idle_time_s=2,
    crowd_clients=3,
    crowd_time_s=3,
)
