"""What sessions cost a gateway, apart from their traffic: to come, to be there, and very many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from anyvpn.testing.programs import UnmetExpectation
from bench.load import LONGEST_SILENCE_S, Load
from bench.measures.timing import Timing
from bench.peers.gateway import Gateway
from bench.topology import Topology

# Ours
SETTLE_TIME_S = 2.0
"""What a login leaves behind is gone by then."""
MOST_LOGINS_PER_S = 200
"""One after the other, on a machine that is faster than any that we know."""


def measure_logins(topology: Topology, gateway: Gateway, timing: Timing) -> dict[str, float]:
    """Milliseconds for a login with everything up to the answer to CONNECT, one after the other.

    By certificate, so there is no password hash on either side; without DTLS. The wall time has
    the client's part in it, which is the same for all.
    """
    with Load(topology, gateway, 2, dtls=False, logins_at_once=1) as first:
        first.wait_until_open()  # whatever the gateway does once is done
    cpu_before_s = gateway.processes.cpu_s()
    with Load(topology, gateway, timing.logins, dtls=False, logins_at_once=1) as load:
        load.wait_until_open()
        cpu_s = gateway.processes.cpu_s() - cpu_before_s
        report = load.finish()
    return {"cpu": cpu_s / timing.logins * 1000, "wall": 1000 / report["logins_per_s"]}


@contextmanager
def logging_in(topology: Topology, gateway: Gateway, timing: Timing) -> Iterator[None]:
    """Logins as they are measured, but more of them, for as long as somebody looks.

    Raises: UnmetExpectation: they end before.
    """
    logins = MOST_LOGINS_PER_S * (timing.time_s + 2 * LONGEST_SILENCE_S)
    with Load(topology, gateway, logins, dtls=False, logins_at_once=1) as load:
        load.wait_until_begun()
        yield
        if load.connected() == logins:
            raise UnmetExpectation(f"{logins} logins are over too soon")


def measure_memory(topology: Topology, gateway: Gateway, timing: Timing) -> dict[str, float]:
    """KiB for a session with both of its channels that does nothing."""
    with Load(topology, gateway, timing.few_sessions, dtls=True) as few:
        few.wait_until_settled()
        time.sleep(SETTLE_TIME_S)
        before_bytes = gateway.processes.pss_bytes()
        added = timing.many_sessions - timing.few_sessions
        with Load(topology, gateway, added, dtls=True) as more:
            more.wait_until_settled()
            time.sleep(SETTLE_TIME_S)
            after_bytes = gateway.processes.pss_bytes()
    return {"memory": (after_bytes - before_bytes) / added / 1024}


def measure_idle(
    topology: Topology, gateway: Gateway, timing: Timing
) -> Iterator[dict[str, float]]:
    """How many of very many sessions stay, with their probes, and what that takes, by turns."""
    with Load(topology, gateway, timing.idle_sessions, dtls=False) as load:
        load.wait_until_open(may_fail=True)  # the figure is how many there are
        time.sleep(SETTLE_TIME_S)
        for _ in range(timing.repeats):
            cpu_before_s, began_at_s = gateway.processes.cpu_s(), time.monotonic()
            time.sleep(timing.idle_time_s)
            cpu_s = gateway.processes.cpu_s() - cpu_before_s
            passed_s = time.monotonic() - began_at_s
            yield {
                "rss": gateway.processes.rss_bytes() / 1e6,
                "core": cpu_s / passed_s * 100,
                "held": load.connected(),
            }
