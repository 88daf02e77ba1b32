"""How long and how often is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds are whole ones: iperf3 reports by the second."""

    warm_up_s: int = 2
    time_s: int = 5
    repeats: int = 3


QUICK = Timing(warm_up_s=1, time_s=1, repeats=1)
