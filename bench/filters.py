"""What packet filters cost: `python -m bench.filters` prints nanoseconds of the engine a packet.

An engine carries full-sized packets between a tun device and a DTLS channel in memory, so that its
whole work is in the figures but for the system calls. Each figure is the best CPU time of several
rounds, in which all cases take turns; ratios are those to a tunnel without filters. The compiled
engine is handed its packets by Python here, which its threads are not: without that its work, and
what filters are of it, would be less.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from rich.console import Console
from rich.table import Table
from twisted.internet.task import Clock

from anyvpn.model.packet_filter import TCP, FilterRule
from anyvpn.packets.engines import EngineChoice, engine_class
from anyvpn.packets.filtering import PacketFilter
from anyvpn.testing.filter_packets import ip_packet, tcp
from anyvpn.testing.inner_client import InnerClient
from anyvpn.testing.memory_channels import MemoryDatagrams
from anyvpn.testing.memory_tun import MemoryTun
from bench.machine import machine, versions

RULES = (0, 1, 10, 100)
ENGINES = ("python", "compiled")
BATCH = 64
PACKET_BYTES = 1400
ROUNDS, PACKETS_PER_ROUND = 60, 4096
SERVER = bytes((10, 1, 2, 3))


@dataclass(frozen=True, slots=True)
class Case:
    """How many rules, and how many flows the packets belong to, one after the other."""

    rules: int
    flows: int
    from_client: bool
    engine: EngineChoice = "python"

    def filters(self) -> list[FilterRule]:
        """Rules of which the last one matches."""
        others = [FilterRule(False, protocol=TCP, ports=((port, port),)) for port in range(1, 1000)]
        last = FilterRule(True, protocol=TCP, ports=((443, 443),))
        return [*others[: self.rules - 1], last] if self.rules else []

    def packets(self, client: InnerClient) -> list[bytes]:
        """One batch after the other; flows take turns, packet by packet."""
        payload = bytes(PACKET_BYTES - 40)
        made: list[bytes] = []
        for number in range(min(self.flows, PACKETS_PER_ROUND)):
            port = 10_000 + number
            ends = (client.ipv4, SERVER) if self.from_client else (SERVER, client.ipv4)
            ports = (port, 443) if self.from_client else (443, port)
            made.append(ip_packet(*ends, TCP, tcp(*ports, payload=payload)))
        return (made * (PACKETS_PER_ROUND // len(made) + 1))[:PACKETS_PER_ROUND]


class Bench:
    """An engine with a client for each case."""

    def __init__(self, case: Case) -> None:
        self._device, self._datagrams = MemoryTun(), MemoryDatagrams()
        engine = engine_class(case.engine)(Clock(), self._device, self._datagrams)
        engine.start()
        self._client = InnerClient(7, engine)
        self._client.attach((), case.filters())
        self._client.open_dtls()
        self._from_client = case.from_client
        self._packets = case.packets(self._client)
        self.best_ns = float("inf")

    def round(self) -> None:
        """Carry every packet once."""
        carry = self._records if self._from_client else self._injected
        batches = list(carry())
        gc.collect()
        begin = time.process_time_ns()
        for batch in batches:
            batch()
        self.best_ns = min(self.best_ns, (time.process_time_ns() - begin) / len(self._packets))
        self._device.written.clear()
        self._datagrams.take_sent(self._client.path)

    def _injected(self) -> Iterator[Callable[[], None]]:
        for start in range(0, len(self._packets), BATCH):
            batch = self._packets[start : start + BATCH]
            yield lambda batch=batch: self._device.inject(batch)  # type: ignore[misc]

    def _records(self) -> Iterator[Callable[[], None]]:
        client = self._client
        for start in range(0, len(self._packets), BATCH):
            records = client.sealer.seal_packets(0, self._packets[start : start + BATCH])
            yield lambda records=records: self._datagrams.feed(client.path, records)  # type: ignore[misc]


def judged_alone(engine: str, rules: int) -> float:
    """Nanoseconds for the first packet of a flow, which is compared with each rule."""
    filters = Case(rules, 1, True).filters()
    packets = [ip_packet(os.urandom(4), SERVER, TCP, tcp(1, 5000)) for _ in range(2000)]
    if engine == "python":
        judge = PacketFilter(filters)
        begin = time.process_time_ns()
        judge.passing(packets, 0.0, from_client=True)
    else:
        from anyvpn.packets._compiled import Core  # noqa: PLC0415 - optional
        from anyvpn.packets.core_rules import core_rules  # noqa: PLC0415 - needs it

        core = Core(True, 0)
        core.attach(1, [(bytes(4), 0)], 0, PACKET_BYTES, core_rules(tuple(filters)))
        begin = time.process_time_ns()
        core.take_packets(1, packets)
    return (time.process_time_ns() - begin) / len(packets)


def main() -> None:
    """Run all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, nargs="+", default=[1, 1000, 4000])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    options = parser.parse_args()
    console = Console(width=100)
    facts = {**machine(), "Python": versions()["Python"]}
    console.print(", ".join(facts.values()), highlight=False)
    table = Table("engine", "direction", "flows", "rules", "ns a packet", "ratio", box=None)
    for engine, from_client, flows in product(options.engines, (False, True), options.flows):
        rows(table, [Case(rules, flows, from_client, engine) for rules in RULES])
    console.print(table)
    console.print("the first packet of a flow that no rule allows, filter alone:")
    for engine in options.engines:
        costs = [f"{rules} rules: {judged_alone(engine, rules):.0f} ns" for rules in RULES[1:]]
        console.print(f"  {engine}: {', '.join(costs)}", highlight=False)


def rows(table: Table, cases: Sequence[Case]) -> None:
    """Measure cases that are compared with the first of them."""
    benches = [Bench(case) for case in cases]
    for _ in range(ROUNDS):
        for bench in benches:
            bench.round()
    for case, bench in zip(cases, benches, strict=True):
        direction = "from client" if case.from_client else "to client"
        ratio = bench.best_ns / benches[0].best_ns
        table.add_row(
            *(case.engine, direction, str(case.flows), str(case.rules)),
            *(f"{bench.best_ns:.0f}", f"{ratio:.2f}"),
        )


if __name__ == "__main__":
    main()
