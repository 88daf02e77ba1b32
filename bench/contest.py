"""Who takes part on this machine, and what each of them is measured by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.measures.crowd import measure_crowd
from bench.measures.pings import measure_pings, pinging
from bench.measures.sessions import logging_in, measure_idle, measure_logins, measure_memory
from bench.measures.small_packets import PACKETS_PER_S, measure_small_packets
from bench.measures.steady import steady_traffic
from bench.measures.throughput import measure_throughput
from bench.measures.timing import Timing
from bench.peers import openvpn, wireguard
from bench.peers.anyconnect import AnyConnectPeer, connect_anyvpn, connect_openconnect
from bench.peers.certificates import Certificates
from bench.peers.gateway import Gateway
from bench.peers.ocserv import OcservGateway
from bench.peers.openvpn import OpenVPNPeer
from bench.peers.ours import OurGateway, engines
from bench.peers.wireguard import WireGuardPeer
from bench.rows import (
    COMPILED,
    COMPILED_OWN,
    OCSERV,
    OPENVPN,
    PYTHON,
    PYTHON_OWN,
    WIREGUARD,
)
from bench.topology import Topology
from bench.traffic import Datagrams
from bench.tunnel import Channel, OpenTunnel

_OURS = {"python": (PYTHON, PYTHON_OWN), "compiled": (COMPILED, COMPILED_OWN)}
_GATEWAYS = (OCSERV, PYTHON, COMPILED)


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


@dataclass(frozen=True, slots=True)
class Contestants:
    """By subject, in the order of the report; `missing` says why somebody is not there."""

    peers: dict[str, Peer]
    missing: dict[str, str]


def contestants(topology: Topology, directory: Path) -> Contestants:
    """Everybody who could take part."""
    certificates = Certificates(directory / "certificates")
    peers: dict[str, Peer] = {}
    missing: dict[str, str] = {}

    def peer(gateway: Gateway, *, own_client: bool = False) -> AnyConnectPeer:
        connect = connect_anyvpn if own_client else connect_openconnect
        return AnyConnectPeer(gateway, partial(connect, topology, gateway, directory))

    peers[OCSERV] = peer(OcservGateway(topology, directory, certificates))
    there = {each: OurGateway(topology, directory, certificates, each) for each in engines()}
    for own_client in (False, True):
        for engine, subjects in _OURS.items():
            if engine in there:
                peers[subjects[own_client]] = peer(there[engine], own_client=own_client)
            else:
                missing[subjects[own_client]] = f"there is no {engine} engine here"
    if why := wireguard.why_not():
        missing[WIREGUARD] = why
    else:
        peers[WIREGUARD] = WireGuardPeer(topology, directory)
    if why := openvpn.why_not():
        missing[OPENVPN] = why
    else:
        peers[OPENVPN] = OpenVPNPeer(topology, certificates)
    return Contestants(peers, missing)


@dataclass(frozen=True, slots=True)
class TunnelMeasure:
    """Something to be measured of a tunnel; keys of the rows that it fills begin with `key`."""

    key: str
    channel: Channel
    run: Callable[[Topology, OpenTunnel, Timing], dict[str, float]]
    meanwhile: Callable[[Topology, OpenTunnel, Timing], AbstractContextManager[object]]
    """What goes on while it is measured, for whoever wants to look at that for longer."""


@dataclass(frozen=True, slots=True)
class GatewayMeasure:
    """Something to be measured of a gateway with clients of its own, by those `subjects`.

    What takes long to set up is set up `once`, and measured as often as there are rounds.
    """

    key: str
    run: Callable[[Topology, AnyConnectPeer, Timing], Iterable[dict[str, float]]]
    subjects: tuple[str, ...] = _GATEWAYS
    once: bool = False
    meanwhile: Callable[[Topology, Gateway, Timing], AbstractContextManager[object]] | None = None
    """What goes on while its CPU time is measured; without it there is no profile."""


def _tunnel_measures() -> list[TunnelMeasure]:
    found = []
    for channel in Channel:
        for streams in (1, 8):
            for direction, download in (("down", True), ("up", False)):
                run = partial(measure_throughput, download=download, streams=streams)
                traffic = partial(steady_traffic, download=download, streams=streams)
                key = f"{channel.value}.{direction}.{streams}"
                found.append(TunnelMeasure(key, channel, run, traffic))
    for size_bytes in (100, 512):
        for direction, download in (("down", True), ("up", False)):
            small = partial(measure_small_packets, download=download, size_bytes=size_bytes)
            datagrams = Datagrams(size_bytes, PACKETS_PER_S)
            traffic = partial(steady_traffic, download=download, datagrams=datagrams)
            key = f"dtls.{direction}.udp{size_bytes}"
            found.append(TunnelMeasure(key, Channel.DATAGRAMS, small, traffic))
    for state, loaded in (("idle", False), ("loaded", True)):
        pings = partial(measure_pings, loaded=loaded)
        going_on = partial(pinging, loaded=loaded)
        found.append(TunnelMeasure(f"dtls.ping.{state}", Channel.DATAGRAMS, pings, going_on))
    return found


TUNNEL_MEASURES = tuple(_tunnel_measures())
GATEWAY_MEASURES = (
    GatewayMeasure(
        "login",
        lambda t, peer, timing: [measure_logins(t, peer.gateway, timing)],
        meanwhile=logging_in,
    ),
    GatewayMeasure("session", lambda t, peer, timing: [measure_memory(t, peer.gateway, timing)]),
    GatewayMeasure(
        "idle",
        lambda t, peer, timing: measure_idle(t, peer.gateway, timing),
        subjects=(PYTHON, COMPILED),
        once=True,
    ),
    GatewayMeasure("crowd", lambda t, peer, timing: [measure_crowd(t, peer.connect, timing)]),
)
