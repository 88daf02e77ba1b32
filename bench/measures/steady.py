"""Traffic in its steady state: what has arrived, and what it has cost the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.measures.timing import Timing
from bench.topology import Topology
from bench.traffic import Amount, Datagrams, Traffic
from bench.tunnel import OpenTunnel


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What there was between warm-up and end."""

    amount: Amount
    cpu_s: float


@contextmanager
def steady_traffic(
    topology: Topology,
    tunnel: OpenTunnel,
    timing: Timing,
    *,
    download: bool,
    streams: int = 1,
    datagrams: Datagrams | None = None,
) -> Iterator[Traffic]:
    """Traffic that has warmed up."""
    with Traffic(
        topology, tunnel, download=download, streams=streams, datagrams=datagrams
    ) as traffic:
        traffic.wait_for_report(timing.warm_up_s)
        yield traffic


def watch_steady_state(
    topology: Topology,
    tunnel: OpenTunnel,
    timing: Timing,
    *,
    download: bool,
    streams: int = 1,
    datagrams: Datagrams | None = None,
) -> SteadyState:
    """Let traffic flow. Raises: UnmetExpectation: it went another way than through the tunnel."""
    first, end = timing.warm_up_s, timing.warm_up_s + timing.time_s
    before = tunnel.counters()
    with steady_traffic(
        topology, tunnel, timing, download=download, streams=streams, datagrams=datagrams
    ) as traffic:
        cpu_before_s = tunnel.gateway.cpu_s()
        traffic.wait_for_report(end)
        cpu_s = tunnel.gateway.cpu_s() - cpu_before_s
        tunnel.check(before, tunnel.counters(), traffic.amount(0, end).received_bytes)
        return SteadyState(traffic.amount(first, end), cpu_s)
