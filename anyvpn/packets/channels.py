"""The channels of a tunnel at work: packets in, records or frames out, and the times of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from anyvpn.dtls.records import APPLICATION_DATA, RecordOpener, RecordSealer
from anyvpn.interfaces import ICSTPStream
from anyvpn.model.channels import RECORD_HEADER_BYTES, DTLSChannel, PeerPath
from anyvpn.model.liveness import ChannelActivity
from anyvpn.wire.compression import Compressor, Expander, compressor, expander
from anyvpn.wire.cstp import FrameReader, PacketKind, frame_data, frame_packet

_DATA = int(PacketKind.DATA)
_COMPRESSED = int(PacketKind.COMPRESSED)
_DPD_REQUEST = int(PacketKind.DPD_REQUEST)
_DISCONNECT = int(PacketKind.DISCONNECT)


class DatagramSender(Protocol):
    """What a DTLS channel sends through."""

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        """Send what can be sent now; gives the number of datagrams that were dropped."""


class Datagrams(DatagramSender, Protocol):
    """Where datagrams come from and go to."""

    on_handshake: Callable[[PeerPath, bytes], None]

    def start(self, received: Callable[[PeerPath, list[bytes]], None]) -> None:
        """Begin to hand over what comes, by sender."""


class _Times:
    """When a channel last did something; touched once a batch."""

    __slots__ = ("awaits_answer", "probed_at_s", "received_at_s", "round_trip_s", "sent_at_s")

    def __init__(self, now_s: float) -> None:
        self.received_at_s = now_s
        self.sent_at_s = now_s
        self.probed_at_s = 0.0
        self.round_trip_s = 0.0
        self.awaits_answer = False

    def probed(self, now_s: float) -> None:
        """A probe goes out."""
        self.probed_at_s = now_s
        self.awaits_answer = True

    def probe_answered(self, now_s: float) -> None:
        """The answer to the last probe came; an answer to nothing tells nothing."""
        if self.awaits_answer:
            self.awaits_answer = False
            self.round_trip_s = now_s - self.probed_at_s

    def activity(self) -> ChannelActivity:
        """The times as a value."""
        return ChannelActivity(
            self.received_at_s, self.sent_at_s, self.probed_at_s, self.round_trip_s
        )


class LiveDTLSChannel(_Times):
    """Seals and opens the records of one tunnel.

    It is `quiet` while the client sends its data over CSTP although this channel is there: then
    it carries none of ours either, until a record authenticates (protocol reference, 13.3).
    `head` is what every data record of the peer begins with.
    """

    __slots__ = (
        "_compressor",
        "_sealer",
        "_sender",
        "expander",
        "head",
        "opener",
        "path",
        "quiet",
        "tunnel_id",
    )

    def __init__(
        self, tunnel_id: int, channel: DTLSChannel, sender: DatagramSender, now_s: float
    ) -> None:
        super().__init__(now_s)
        keys = channel.keys
        self.tunnel_id = tunnel_id
        self.path = channel.path
        self.quiet = False
        self.head = bytes((APPLICATION_DATA,)) + keys.version + keys.epoch.to_bytes(2, "big")
        self.opener = RecordOpener(keys)
        encoding = channel.encoding
        self.expander: Expander | None = expander(encoding) if encoding else None
        self._compressor: Compressor | None = compressor(encoding) if encoding else None
        self._sealer = RecordSealer(keys)
        self._sender = sender

    def holds_whole_record(self, datagram: bytes) -> bool:
        """Whether it is one data record of this channel's epoch, and nothing else."""
        size = len(datagram) - RECORD_HEADER_BYTES
        return (
            size >= 0 and datagram[:5] == self.head and datagram[11:13] == size.to_bytes(2, "big")
        )

    def send_data(self, packets: Sequence[bytes], now_s: float) -> int:
        """Send packets; gives the number that was dropped."""
        self.sent_at_s = now_s
        if self._compressor is None:
            return self._sender.send(self.path, self._sealer.seal_packets(_DATA, packets))
        records: list[bytes] = []
        for packet in packets:
            payload = self._compressor.compress(packet)
            if payload is None:
                records += self._sealer.seal_packets(_DATA, (packet,))
            else:
                records += self._sealer.seal_packets(_COMPRESSED, (payload,))
        return self._sender.send(self.path, records)

    def send_control(self, kind: int, payload: bytes, now_s: float) -> None:
        """Send one packet that is not data."""
        self.sent_at_s = now_s
        if kind == _DPD_REQUEST:
            self.probed(now_s)
        self._sender.send(self.path, self._sealer.seal_packets(kind, (payload,)))


class LiveCSTPChannel(_Times):
    """Frames packets for a stream and reads frames from it.

    Control frames that a congested stream does not take wait here, a few of them, and so does
    the rest of a compressed batch, of which nothing may be left out. Other data waits at the
    tunnel, which may have another channel for it.
    """

    __slots__ = ("_compressor", "_waiting_frames", "expander", "reader", "stream")

    # Ours: a client probes far more seldom than a stream is congested
    MOST_WAITING_CONTROLS = 16

    def __init__(self, stream: ICSTPStream, now_s: float) -> None:
        super().__init__(now_s)
        self.stream = stream
        self.reader = FrameReader()
        encoding = stream.encoding
        self.expander: Expander | None = expander(encoding) if encoding else None
        self._compressor: Compressor | None = compressor(encoding) if encoding else None
        self._waiting_frames: list[bytes] = []

    def send_data(self, packets: Sequence[bytes], now_s: float) -> int:
        """Send packets; gives the number that was taken."""
        if self._waiting_frames:
            return 0
        if self._compressor is not None:
            self._waiting_frames = self._compressed(packets, self._compressor)
            self.send_waiting_frames(now_s)
            return len(packets)
        taken = self.stream.write_frames(frame_data(packets))
        if taken:
            self.sent_at_s = now_s
        return taken

    def send_control(self, kind: int, payload: bytes, now_s: float) -> None:
        """Send one packet that is not data, as soon as the stream takes it."""
        if kind == _DPD_REQUEST:
            self.probed(now_s)
        if kind == _DISCONNECT:  # nobody will be there to send it later
            self.stream.write_last(frame_packet(kind, payload))
            return
        if len(self._waiting_frames) < self.MOST_WAITING_CONTROLS:
            self._waiting_frames.append(frame_packet(kind, payload))
        self.send_waiting_frames(now_s)

    def send_waiting_frames(self, now_s: float) -> None:
        """Send what had to wait."""
        if self._waiting_frames:
            taken = self.stream.write_frames(self._waiting_frames)
            del self._waiting_frames[:taken]
            if taken:
                self.sent_at_s = now_s

    @staticmethod
    def _compressed(packets: Sequence[bytes], using: Compressor) -> list[bytes]:
        frames: list[bytes] = []
        for packet in packets:
            payload = using.compress(packet)
            if payload is None:
                frames += frame_data((packet,))
            else:
                frames.append(frame_packet(_COMPRESSED, payload))
        return frames
