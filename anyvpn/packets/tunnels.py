"""One tunnel on the packet path: its channels, what waits for them, what it has moved."""

from __future__ import annotations

from collections.abc import Sequence

from anyvpn.errors import CompressionError
from anyvpn.interfaces import IPacketObserver
from anyvpn.model.events import Counters
from anyvpn.model.group_policy import Network
from anyvpn.model.packet_filter import FilterRule
from anyvpn.model.tunnel_settings import Lease
from anyvpn.packets.channels import LiveCSTPChannel, LiveDTLSChannel
from anyvpn.packets.filtering import PacketFilter
from anyvpn.packets.path_mtu import Answer, Fragments, too_big
from anyvpn.packets.routing import Sources, source_in
from anyvpn.wire.compression import Expander
from anyvpn.wire.cstp import PacketKind

# Ours
MOST_WAITING_PACKETS = 64
"""How much waits for a congested CSTP channel: a burst, but no standing queue."""
MTU_ANSWERS_PER_S = 100

_DATA = int(PacketKind.DATA)
_COMPRESSED = int(PacketKind.COMPRESSED)

_NOT_ROUTED = (b"\xfe\x80", b"\0\0")  # link-local and unspecified: every IPv6 host sends some


class Tunnel:
    """Sends and judges a tunnel's packets; `cstp` and `dtls` are its channels, if they are there.

    Packets go over DTLS unless it is quiet, else over CSTP. They wait, a few of them, while
    CSTP is congested and while there is no channel at all.
    """

    __slots__ = (
        "_answers_left",
        "_answers_second",
        "_filter",
        "_waiting",
        "cstp",
        "data_at_s",
        "detached",
        "dropped_filtered",
        "dropped_malformed",
        "dropped_queue_full",
        "dropped_spoofed",
        "dropped_unroutable",
        "dtls",
        "identifier",
        "lease",
        "mtu_bytes",
        "networks",
        "observer",
        "received_bytes",
        "received_packets",
        "sent_bytes",
        "sent_packets",
        "sources",
    )

    def __init__(
        self,
        identifier: int,
        lease: Lease,
        networks: Sequence[Network],
        mtu_bytes: int,
        observer: IPacketObserver,
        *,
        filters: Sequence[FilterRule] = (),
    ) -> None:
        self.identifier = identifier
        self.lease = lease
        self.networks = tuple(networks)
        self.sources = Sources(lease.addresses, networks)
        self.mtu_bytes = mtu_bytes
        self.observer = observer
        self.cstp: LiveCSTPChannel | None = None
        self.dtls: LiveDTLSChannel | None = None
        self.detached = False
        self.received_packets = self.received_bytes = 0
        self.sent_packets = self.sent_bytes = 0
        self.dropped_spoofed = self.dropped_malformed = 0
        self.dropped_queue_full = self.dropped_unroutable = self.dropped_filtered = 0
        self.data_at_s = 0.0
        self._filter = PacketFilter(filters) if filters else None
        self._waiting: list[bytes] = []
        self._answers_second = 0
        self._answers_left = MTU_ANSWERS_PER_S

    def counters(self) -> Counters:
        """What it has moved so far."""
        return Counters(
            received_packets=self.received_packets,
            received_bytes=self.received_bytes,
            sent_packets=self.sent_packets,
            sent_bytes=self.sent_bytes,
            dropped_spoofed=self.dropped_spoofed,
            dropped_malformed=self.dropped_malformed,
            dropped_queue_full=self.dropped_queue_full,
            dropped_unroutable=self.dropped_unroutable,
            dropped_filtered=self.dropped_filtered,
            data_at_s=self.data_at_s,
        )

    def _passing(self, packets: list[bytes], now_s: float, *, from_client: bool) -> list[bytes]:
        """Those packets that the filter lets through; the others are counted."""
        if self._filter is None:
            return packets
        passing = self._filter.passing(packets, now_s, from_client=from_client)
        self.dropped_filtered += len(packets) - len(passing)
        return passing

    # --- to the client --------------------------------------------------------------------------

    def forward(self, packets: list[bytes], now_s: float) -> list[bytes]:
        """Send those packets that may come to the client; gives what `send` gives."""
        packets = self._passing(packets, now_s, from_client=False)
        return self.send(packets, now_s) if packets else []

    def send(self, packets: list[bytes], now_s: float) -> list[bytes]:
        """Send packets to the client; gives what their senders must be told (ICMP packets)."""
        answers: list[bytes] = []
        if max(map(len, packets)) > self.mtu_bytes:
            packets = self.fit(packets, answers, now_s)
        if packets:
            self.data_at_s = now_s
            self._send(packets, now_s)
        return answers

    def send_waiting(self, now_s: float) -> None:
        """Send what waits, if there is a channel that takes it."""
        if self.cstp is not None:
            self.cstp.send_waiting_frames(now_s)
        if self._waiting:
            packets, self._waiting = self._waiting, []
            self._send(packets, now_s)

    def _send(self, packets: list[bytes], now_s: float) -> None:
        dtls, cstp = self.dtls, self.cstp
        if dtls is not None and not (dtls.quiet and cstp is not None):
            dropped = dtls.send_data(packets, now_s)
            self.dropped_queue_full += dropped
            if dropped:
                packets = packets[: len(packets) - dropped]
        elif cstp is not None and not self._waiting:
            taken = cstp.send_data(packets, now_s)
            self._let_wait(packets[taken:])
            packets = packets[:taken]
        else:
            self._let_wait(packets)
            return
        self.sent_packets += len(packets)
        self.sent_bytes += sum(map(len, packets))

    def _let_wait(self, packets: Sequence[bytes]) -> None:
        room = MOST_WAITING_PACKETS - len(self._waiting)
        self._waiting.extend(packets[:room])
        self.dropped_queue_full += max(0, len(packets) - room)

    def fit(self, packets: list[bytes], answers: list[bytes], now_s: float) -> list[bytes]:
        """Replace packets that are longer than the tunnel's MTU by fragments or answers."""
        # The answer comes from the address that the sender knows: the client's own
        ipv4 = self.lease.ipv4.ip if self.lease.ipv4 is not None else None
        ipv6 = self.lease.ipv6.ip if self.lease.ipv6 is not None else None
        fitting: list[bytes] = []
        for packet in packets:
            if len(packet) <= self.mtu_bytes:
                fitting.append(packet)
                continue
            match too_big(packet, self.mtu_bytes, ipv4, ipv6):
                case Fragments(fragments):
                    fitting += fragments
                case Answer(answer):
                    self.dropped_unroutable += 1
                    if self._may_answer(now_s):
                        answers.append(answer)
                case None:
                    self.dropped_unroutable += 1
        return fitting

    def _may_answer(self, now_s: float) -> bool:
        if int(now_s) != self._answers_second:
            self._answers_second = int(now_s)
            self._answers_left = MTU_ANSWERS_PER_S
        self._answers_left -= 1
        return self._answers_left >= 0

    # --- from the client ------------------------------------------------------------------------

    def expand(
        self, frames: Sequence[tuple[int, bytes]], expander: Expander
    ) -> list[tuple[int, bytes]]:
        """Frames with the compressed packets as they were; what cannot be expanded is counted."""
        expanded: list[tuple[int, bytes]] = []
        for kind, payload in frames:
            if kind != _COMPRESSED:
                expanded.append((kind, payload))
                continue
            try:
                expanded.append((_DATA, expander.expand(payload)))
            except CompressionError:
                self.dropped_malformed += 1
        return expanded

    def accept(self, packets: list[bytes], now_s: float) -> list[bytes]:
        """Those packets that the client may send, counted."""
        if not self.sources.hold_all(packets):
            packets = [packet for packet in packets if self._accepts(packet)]
        packets = self._passing(packets, now_s, from_client=True)
        if packets:
            self.data_at_s = now_s
            self.received_packets += len(packets)
            self.received_bytes += sum(map(len, packets))
        return packets

    def _accepts(self, packet: bytes) -> bool:
        source = source_in(packet)
        if self.sources.hold(source):
            return True
        if not source:
            self.dropped_malformed += 1
        elif len(source) == 16 and source[:2] in _NOT_ROUTED:
            self.dropped_unroutable += 1
        else:
            self.dropped_spoofed += 1
        return False
