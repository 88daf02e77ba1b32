"""Clients of a packet engine in memory, and the case that engines are tested with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface
from typing import TYPE_CHECKING

from zope.interface import implementer

from anyvpn.dtls.records import RecordOpener, RecordSealer
from anyvpn.interfaces import IPacketEngine, IPacketObserver
from anyvpn.model.channels import (
    ChannelName,
    DirectionKeys,
    DTLSChannel,
    PeerPath,
    RecordKeys,
    Suite,
)
from anyvpn.model.packet_filter import FilterRule
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.memory_channels import MemoryCSTPStream
from anyvpn.wire.cstp import FrameReader, PacketKind

if TYPE_CHECKING:
    from unittest import TestCase as _Case
else:
    _Case = object

CSTP, DTLS = ChannelName.CSTP, ChannelName.DTLS
DATA = int(PacketKind.DATA)
MTU_BYTES = 1400

_SUITE = Suite("PSK-AES256-GCM-SHA384", 0x00A9, "AES-256-GCM", "sha384", 32, 4)


@implementer(IPacketObserver)
class RecordingObserver:
    """Keeps what a tunnel's control plane is told."""

    def __init__(self) -> None:
        self.controls: list[tuple[ChannelName, int, bytes]] = []
        self.moves: list[PeerPath] = []

    def control_received(self, name: ChannelName, kind: int, payload: bytes) -> None:
        """A packet that is not data."""
        self.controls.append((name, kind, payload))

    def peer_moved(self, path: PeerPath) -> None:
        """The peer has another address."""
        self.moves.append(path)


class InnerClient:
    """A client of an engine: the other end of its channels, with inner addresses of its own."""

    def __init__(self, number: int, engine: IPacketEngine) -> None:
        self.number = number
        self.lease = Lease(
            IPv4Interface(f"10.99.0.{number}/24"), IPv6Interface(f"fd00::{number:x}/64")
        )
        self.path = PeerPath(0, ("192.0.2.1", 40_000 + number))
        self.observer = RecordingObserver()
        self.stream = MemoryCSTPStream()
        self._engine = engine
        self._read_frames = 0

    @property
    def ipv4(self) -> bytes:
        """Its IPv4 address."""
        return self.lease.addresses[0].packed

    @property
    def ipv6(self) -> bytes:
        """Its IPv6 address."""
        return self.lease.addresses[1].packed

    def attach(
        self, networks: Sequence[IPv4Network] = (), filters: Sequence[FilterRule] = ()
    ) -> None:
        """Become a tunnel with a CSTP channel."""
        self._engine.attach(
            self.number, self.lease, networks, MTU_BYTES, self.observer, filters=filters
        )
        self._engine.replace_channel(self.number, CSTP, self.stream)

    def open_dtls(self, early_packets: Sequence[bytes] = (), *, encoding: str = "") -> None:
        """Get a DTLS channel under new keys; the early packets were sent before it was there."""
        ours, theirs = (DirectionKeys(os.urandom(32), os.urandom(4)) for _ in range(2))
        keys = RecordKeys(b"\xfe\xfd", _SUITE, ours, theirs, 1, 0)
        mirrored = replace(keys, write=theirs, read=ours)
        self.sealer, self.opener = RecordSealer(mirrored), RecordOpener(mirrored)
        early = tuple(self.sealer.seal_packets(DATA, early_packets))
        channel = DTLSChannel(keys, self.path, early_records=early, encoding=encoding)
        self._engine.replace_channel(self.number, DTLS, channel)

    def frames(self) -> list[tuple[int, bytes]]:
        """What came over CSTP since the last call; each frame stands alone."""
        new = self.stream.frames[self._read_frames :]
        self._read_frames += len(new)
        read: list[tuple[int, bytes]] = []
        for frame in new:
            (one,) = FrameReader().receive(frame)
            read.append(one)
        return read

    def packet_to(self, destination: bytes = ANYWHERE, text: bytes = b"") -> bytes:
        """A packet that it may send."""
        return ipv4_packet(self.ipv4, destination, text)

    def packet_from(self, source: bytes = ANYWHERE, text: bytes = b"") -> bytes:
        """A packet that it should get."""
        return ipv4_packet(source, self.ipv4, text)


class PacketEngineHooks(_Case):
    """What a test of an engine needs to know of it."""

    def make_engine(self) -> IPacketEngine:
        """The engine under test, running."""
        raise NotImplementedError

    def send_from_kernel(self, packets: Sequence[bytes]) -> None:
        """Let the tun device give these packets, and the engine take them."""
        raise NotImplementedError

    def packets_to_kernel(self) -> list[bytes]:
        """What the tun device was given since the last call."""
        raise NotImplementedError

    def send_datagrams(self, path: PeerPath, datagrams: Sequence[bytes]) -> None:
        """Let datagrams come from a peer, and the engine take them."""
        raise NotImplementedError

    def datagrams_to(self, path: PeerPath) -> list[bytes]:
        """What went to that peer since the last call."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Move the engine's clock on."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.engine = self.make_engine()

    def client(self, number: int = 7, *, dtls: bool = False) -> InnerClient:
        """An attached client."""
        client = InnerClient(number, self.engine)
        client.attach()
        if dtls:
            client.open_dtls()
        return client

    def payloads_to(self, client: InnerClient) -> list[bytes]:
        """What came to the client over DTLS since the last call."""
        return client.opener.open_records(self.datagrams_to(client.path))

    def send_records(
        self, client: InnerClient, packets: Sequence[bytes], kind: int = DATA
    ) -> list[bytes]:
        """Let a client send over DTLS; gives the records, for sending them again."""
        records = client.sealer.seal_packets(kind, packets)
        self.send_datagrams(client.path, records)
        return records
