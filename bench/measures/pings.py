"""Round trips through a tunnel, idle and beside a download."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from anyvpn.testing.programs import Program, UnmetExpectation
from bench.measures.steady import steady_traffic
from bench.measures.timing import Timing
from bench.topology import INSIDE_ADDRESS, Topology
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
            stack.enter_context(steady_traffic(topology, tunnel, timing, download=True))
        output = tunnel.host.run(*_ping(tunnel, "-c", str(timing.pings), "-W", "1"), may_fail=True)
    times_ms = sorted(map(float, _TIME.findall(output)))
    if len(times_ms) < FEWEST_ANSWERED_SHARE * timing.pings:
        raise UnmetExpectation(f"{len(times_ms)} of {timing.pings} pings answered\n{output[-500:]}")
    return {"p50": _percentile(times_ms, 50), "p99": _percentile(times_ms, 99)}


@contextmanager
def pinging(
    topology: Topology, tunnel: OpenTunnel, timing: Timing, *, loaded: bool
) -> Iterator[None]:
    """The same for as long as it is wanted. Raises: UnmetExpectation: it has ended before."""
    with ExitStack() as stack:
        if loaded:
            stack.enter_context(steady_traffic(topology, tunnel, timing, download=True))
        program = Program("ping", tunnel.host.command(_ping(tunnel)))
        stack.callback(program.stop, signal.SIGINT)
        yield
        if not program.is_running:
            raise UnmetExpectation(f"ping has ended\n{program.output()[-500:]}")


def _ping(tunnel: OpenTunnel, *options: str) -> list[str]:
    pause = ("-i", str(1 / PINGS_PER_S))
    return ["ping", "-n", *pause, *options, "-I", tunnel.device, INSIDE_ADDRESS]


def _percentile(times_ms: list[float], percent: int) -> float:
    return times_ms[min(len(times_ms) - 1, len(times_ms) * percent // 100)]
