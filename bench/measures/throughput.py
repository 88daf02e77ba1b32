"""What bulk TCP traffic through a tunnel costs the gateway, and how fast it goes."""

from __future__ import annotations

from bench.measures.timing import Timing
from bench.topology import Topology
from bench.traffic import Traffic
from bench.tunnel import OpenTunnel

BYTES_PER_GB = 1e9


def measure_throughput(
    topology: Topology, tunnel: OpenTunnel, timing: Timing, *, download: bool, streams: int
) -> dict[str, float]:
    """CPU seconds of the gateway per GB that arrives, and Gbit/s; both of the steady state."""
    first, end = timing.warm_up_s, timing.warm_up_s + timing.time_s
    with Traffic(topology, tunnel, download=download, streams=streams) as traffic:
        traffic.wait_for_report(first)
        cpu_before_s, before = tunnel.gateway.cpu_s(), tunnel.counters()
        traffic.wait_for_report(end)
        cpu_s, after = tunnel.gateway.cpu_s() - cpu_before_s, tunnel.counters()
        amount = traffic.amount(first, end)
    tunnel.check(before, after, amount.received_bytes)
    return {
        "cpu": cpu_s / amount.received_bytes * BYTES_PER_GB,
        "rate": amount.received_bytes * 8 / amount.time_s / 1e9,
    }
