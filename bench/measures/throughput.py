"""What bulk TCP traffic through a tunnel costs the gateway, and how fast it goes."""

from __future__ import annotations

from bench.measures.steady import watch_steady_state
from bench.measures.timing import Timing
from bench.topology import Topology
from bench.tunnel import OpenTunnel

BYTES_PER_GB = 1e9


def measure_throughput(
    topology: Topology, tunnel: OpenTunnel, timing: Timing, *, download: bool, streams: int
) -> dict[str, float]:
    """CPU seconds of the gateway for each GB that arrives, and Gbit/s."""
    steady = watch_steady_state(topology, tunnel, timing, download=download, streams=streams)
    received_bytes = steady.amount.received_bytes
    return {
        "cpu": steady.cpu_s / received_bytes * BYTES_PER_GB,
        "rate": received_bytes * 8 / steady.amount.time_s / 1e9,
    }
