"""iperf3 through a tunnel: what its receiver counts while all is in a steady state."""

from __future__ import annotations

import itertools
import re
import signal
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from anyvpn.testing.programs import Program, wait_until
from bench.topology import INSIDE_ADDRESS, Topology
from bench.tunnel import OpenTunnel

# From iperf3: a line of its receiver for each second, with `--format k`
_REPORT = re.compile(
    r"\[ *(?P<who>SUM|\d+)\] +(?P<begin>[\d.]+)-(?P<end>[\d.]+) +sec "
    r".*? (?P<kilobits>\d+) Kbits/sec"
    r"(?:.* (?P<lost>-?\d+)/(?P<packets>\d+) )?"
)

# Ours
LONGER_THAN_ANY_MEASURE_S = 600
CONGESTION_CONTROL = "cubic"
"""Linux's own default; one that paces would cost whoever hands packets on, timer by timer."""
_FIRST_PORT, _PORTS = 5201, 1000

_ports = itertools.cycle(range(_FIRST_PORT, _FIRST_PORT + _PORTS))


@dataclass(frozen=True, slots=True)
class Datagrams:
    """UDP instead of TCP: datagrams of a size, at a rate that the sender keeps to."""

    size_bytes: int
    per_s: int


@dataclass(frozen=True, slots=True)
class Amount:
    """What has arrived within some time; `packets` and `lost` are of datagrams alone."""

    time_s: float
    received_bytes: float
    packets: int
    lost: int


def read_reports(output: str, streams: int) -> list[Amount]:
    """What iperf3 has told of so far, second by second; of several streams the sum."""
    found = []
    for line in output.splitlines():
        report = _REPORT.match(line)
        if report is not None and (report["who"] == "SUM") == (streams > 1):
            time_s = float(report["end"]) - float(report["begin"])
            lost = int(report["lost"] or 0)
            received_bytes = int(report["kilobits"]) * 1000 / 8 * time_s
            found.append(Amount(time_s, received_bytes, int(report["packets"] or 0) - lost, lost))
    return found


class Traffic:
    """One run of iperf3 between the client's host and the one inside, for as long as it is open."""

    def __init__(
        self,
        topology: Topology,
        tunnel: OpenTunnel,
        *,
        download: bool,
        streams: int = 1,
        datagrams: Datagrams | None = None,
    ) -> None:
        port = next(_ports)
        common = ("--port", str(port), "--format", "k", "--forceflush", "--interval", "1")
        self._server = Program(
            "iperf3 inside",
            topology.inside.command(["iperf3", "--server", "--one-off", *common]),
        )
        try:
            self._server.wait_for("Server listening")
            options = ["--reverse"] if download else []
            if datagrams is None:
                options += ["--congestion", CONGESTION_CONTROL]
            else:
                bits_per_s = datagrams.per_s * datagrams.size_bytes * 8
                options += ["--udp", "--length", str(datagrams.size_bytes)]
                options += ["--bitrate", str(bits_per_s)]
            self._client = Program(
                "iperf3 at the client",
                topology.client.command(
                    [
                        *("iperf3", "--client", INSIDE_ADDRESS, "--bind-dev", tunnel.device),
                        *("--time", str(LONGER_THAN_ANY_MEASURE_S), "--parallel", str(streams)),
                        *(*common, *options),
                    ]
                ),
            )
        except BaseException:
            self._server.kill()
            raise
        self._receiver = self._client if download else self._server
        self._streams = streams

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._client.stop(signal.SIGINT)
        self._server.stop(signal.SIGINT)

    def reports(self) -> int:
        """How many seconds the receiver has told of."""
        return len(self._reports())

    def wait_for_report(self, number: int) -> None:
        """Come back right when the receiver has told of that second, the first one is 1."""
        wait_until(
            lambda: self.reports() >= number or not self._receiver.is_running,
            f"iperf3 tells of second {number}\n{self._receiver.output()}",
            limit_s=number + 20.0,
        )
        assert self._receiver.is_running, self._receiver.output()[-2000:]

    def amount(self, first: int, end: int) -> Amount:
        """What has arrived from second `first` to before second `end`, counted from 0."""
        reports = self._reports()[first:end]
        return Amount(
            sum(each.time_s for each in reports),
            sum(each.received_bytes for each in reports),
            sum(each.packets for each in reports),
            sum(each.lost for each in reports),
        )

    def _reports(self) -> list[Amount]:
        return read_reports(self._receiver.output(), self._streams)
