"""Many clients at once: whether they share alike, and what one that stands still does to others."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench.measures.timing import Timing
from bench.topology import Topology
from bench.traffic import Traffic
from bench.tunnel import Channel, OpenTunnel

# Ours
STALLED_TIME_SHARE = 1 / 3
"""How long it is watched with one of them stalled, of the time that it was watched before."""


def measure_crowd(
    topology: Topology, connect: Callable[[Channel], OpenTunnel], timing: Timing
) -> dict[str, float]:
    """A download each: the smallest share over the largest, and the rest's throughput once one
    client is stopped, over what it was before."""
    with ExitStack() as stack:
        tunnels: list[OpenTunnel] = []
        for _ in range(timing.crowd_clients):
            tunnels.append(connect(Channel.DATAGRAMS))
            stack.callback(tunnels[-1].close)
        traffics = [stack.enter_context(Traffic(topology, each, download=True)) for each in tunnels]
        shares = _rates(traffics, timing.warm_up_s, timing.crowd_time_s)
        tunnels[0].send_signal(signal.SIGSTOP)
        stack.callback(tunnels[0].send_signal, signal.SIGCONT)
        stalled_s = max(1, round(timing.crowd_time_s * STALLED_TIME_SHARE))
        rest = _rates(traffics[1:], timing.warm_up_s, stalled_s)
    return {"share": min(shares) / max(shares), "stalled": sum(rest) / sum(shares[1:])}


def _rates(traffics: Sequence[Traffic], warm_up_s: int, time_s: int) -> list[float]:
    """Bytes in a second of each, from `warm_up_s` from now on."""
    first = [each.reports() + warm_up_s for each in traffics]
    amounts = []
    for traffic, begin in zip(traffics, first, strict=True):
        traffic.wait_for_report(begin + time_s)
        amounts.append(traffic.amount(begin, begin + time_s))
    return [each.received_bytes / each.time_s for each in amounts]
