"""Who takes part on this machine, and what each of them is measured by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.measures.throughput import measure_throughput
from bench.measures.timing import Timing
from bench.peers.anyconnect import AnyConnectPeer, connect_anyvpn, connect_openconnect
from bench.peers.certificates import Certificates
from bench.peers.ocserv import OcservGateway
from bench.peers.ours import OurGateway, engines
from bench.rows import COMPILED, COMPILED_OWN, OCSERV, PYTHON, PYTHON_OWN
from bench.topology import Topology
from bench.tunnel import Channel, OpenTunnel

_SUBJECTS = {"python": (PYTHON, PYTHON_OWN), "compiled": (COMPILED, COMPILED_OWN)}


class Peer(Protocol):
    """A gateway with a client."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """In the order in which they are measured."""

    def start(self) -> None:
        """Start the gateway and wait until it serves."""

    def connect(self, channel: Channel) -> OpenTunnel:
        """A tunnel over that channel. Raises: UnmetExpectation."""

    def stop(self) -> None:
        """End the gateway; stopping twice does no harm."""


def peers(topology: Topology, directory: Path) -> dict[str, Peer]:
    """Everybody who can take part, by subject, in the order of the report."""
    certificates = Certificates(directory / "certificates")

    def peer(gateway: OcservGateway | OurGateway, *, own_client: bool) -> AnyConnectPeer:
        connect = connect_anyvpn if own_client else connect_openconnect
        return AnyConnectPeer(gateway, partial(connect, topology, gateway, directory))

    there: dict[str, Peer] = {
        OCSERV: peer(OcservGateway(topology, directory, certificates), own_client=False)
    }
    ours = {each: OurGateway(topology, directory, certificates, each) for each in engines()}
    for own_client in (False, True):
        for engine, gateway in ours.items():
            there[_SUBJECTS[engine][own_client]] = peer(gateway, own_client=own_client)
    return there


@dataclass(frozen=True, slots=True)
class TunnelMeasure:
    """Something to be measured of a tunnel; keys of the rows that it fills begin with `key`."""

    key: str
    channel: Channel
    run: Callable[[Topology, OpenTunnel, Timing], dict[str, float]]


TUNNEL_MEASURES = tuple(
    TunnelMeasure(
        f"{channel.value}.{'down' if download else 'up'}.{streams}",
        channel,
        partial(measure_throughput, download=download, streams=streams),
    )
    for channel in Channel
    for streams in (1, 8)
    for download in (True, False)
)
