"""Round trips through a tunnel, idle and beside a download."""

from __future__ import annotations

import re
from contextlib import ExitStack

from anyvpn.testing.programs import UnmetExpectation
from bench.measures.timing import Timing
from bench.topology import INSIDE_ADDRESS, Topology
from bench.traffic import Traffic
from bench.tunnel import OpenTunnel

# Ours
PINGS_PER_S = 200
FEWEST_ANSWERED_SHARE = 0.8
_TIME = re.compile(r"\btime=([\d.]+) ms")


def measure_pings(
    topology: Topology, tunnel: OpenTunnel, timing: Timing, *, loaded: bool
) -> dict[str, float]:
    """Milliseconds of the median and of the slowest in a hundred.

    Raises: UnmetExpectation: most of them are lost.
    """
    with ExitStack() as stack:
        if loaded:
            traffic = stack.enter_context(Traffic(topology, tunnel, download=True))
            traffic.wait_for_report(timing.warm_up_s)
        output = tunnel.host.run(
            *("ping", "-n", "-i", str(1 / PINGS_PER_S), "-c", str(timing.pings), "-W", "1"),
            *("-I", tunnel.device, INSIDE_ADDRESS),
            may_fail=True,
        )
    times_ms = sorted(map(float, _TIME.findall(output)))
    if len(times_ms) < FEWEST_ANSWERED_SHARE * timing.pings:
        raise UnmetExpectation(f"{len(times_ms)} of {timing.pings} pings answered\n{output[-500:]}")
    return {"p50": _percentile(times_ms, 50), "p99": _percentile(times_ms, 99)}


def _percentile(times_ms: list[float], percent: int) -> float:
    return times_ms[min(len(times_ms) - 1, len(times_ms) * percent // 100)]
