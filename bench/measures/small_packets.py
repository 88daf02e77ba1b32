"""What small datagrams through a tunnel cost the gateway, at a rate that everybody can carry."""

from __future__ import annotations

from anyvpn.testing.programs import UnmetExpectation
from bench.measures.steady import watch_steady_state
from bench.measures.timing import Timing
from bench.topology import Topology
from bench.traffic import Datagrams
from bench.tunnel import OpenTunnel

# Ours
PACKETS_PER_S = 20_000
MOST_LOST_SHARE = 0.05
"""More than that is saturation, in which costs tell nothing."""


def measure_small_packets(
    topology: Topology, tunnel: OpenTunnel, timing: Timing, *, download: bool, size_bytes: int
) -> dict[str, float]:
    """CPU microseconds of the gateway for each datagram that arrives.

    Raises: UnmetExpectation: too many are lost.
    """
    datagrams = Datagrams(size_bytes, PACKETS_PER_S)
    steady = watch_steady_state(topology, tunnel, timing, download=download, datagrams=datagrams)
    amount = steady.amount
    if amount.lost > MOST_LOST_SHARE * (amount.lost + amount.packets):
        raise UnmetExpectation(
            f"{PACKETS_PER_S} datagrams of {size_bytes} bytes in a second are too many: "
            f"{amount.lost} lost, {amount.packets} received"
        )
    return {"cpu": steady.cpu_s / amount.packets * 1e6}
