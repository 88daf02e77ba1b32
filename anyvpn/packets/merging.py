"""Segments of a TCP flow, datagrams of a UDP flow: one super-packet for the tun device.

The rules are those of the kernel's own GRO: cut again, a super-packet gives what was received,
but for IPv4 ids that stood still, which count up then.

Source: Linux, net/ipv4/tcp_offload.c, net/ipv4/udp_offload.c; virtio 1.2, section 5.1.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct

from anyvpn.packets.checksums import MODULUS, internet_checksum, segment_sums, word_sum
from anyvpn.packets.header_layouts import tcp_layout, udp_layout

# From the protocol
_VNET_HEADER = Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_TCP_SEQUENCE_AT, _TCP_OFFSET_AT, _TCP_FLAGS_AT = 4, 12, 13
_UDP_LENGTH_AT, _UDP_BYTES = 4, 8
_CHECKSUM_BYTES = 2
_TCP_BYTES, _LONGEST_TCP_BYTES = 20, 60
_PLAIN_IPV4 = 0x45  # without options
_FIN, _PSH, _ACK, _ECE = 0x01, 0x08, 0x10, 0x40
_IPV4_BYTES, _IPV6_BYTES = 20, 40
_LONGEST_PACKET_BYTES = 0xFFFF
# Next headers of IPv6 behind which a TCP header may still follow
_IPV6_EXTENSIONS = frozenset((0, 43, 44, 51, 60, 135, 139, 140))

# Ours: the layouts of headers without IP options, by the high half of TCP's offset byte
_LAYOUTS = {
    (version, words): tcp_layout(version, ip_bytes, words * 4)
    for version, ip_bytes in ((4, _IPV4_BYTES), (6, _IPV6_BYTES))
    for words in range(5, 16)
}
_UDP_LAYOUTS = {4: udp_layout(4, _IPV4_BYTES), 6: udp_layout(6, _IPV6_BYTES)}


@dataclass(frozen=True, slots=True)
class _Protocol:
    """A transport whose packets are merged, at most so many.

    `gso` is its kind of super-packet by IP's version; of UDP the kernel refuses longer ones.
    """

    number: int
    gso: dict[int, int]
    checksum_at: int
    most_parts: int
    counts_bytes: bool
    """Whether there is a sequence number, which the payload moves on."""


_TCP = _Protocol(6, {4: 1, 6: 4}, 16, most_parts=_LONGEST_PACKET_BYTES, counts_bytes=True)
_UDP = _Protocol(17, {4: 5, 6: 5}, 6, most_parts=64, counts_bytes=False)


# Its flow; whether it may be merged at all; what all parts of a super-packet share; id; sequence;
# flags; bytes of both headers; protocol
_Segment = tuple[bytes, bool, tuple[bytes, ...], int, int, int, int, _Protocol]


def merge_segments(
    packets: Sequence[bytes], header_bytes: int, *, takes_datagrams: bool = False
) -> list[bytes]:
    """Packets as frames for the device; segments of a TCP flow become one super-packet.

    So do datagrams of a UDP flow where the device `takes_datagrams`. Flows may be interleaved:
    each packet keeps its place within its flow. Only packets whose checksums are right are merged,
    since the super-packet is given a new one.
    """
    if not header_bytes:
        return list(packets)
    plain_header = bytes(header_bytes)
    open_runs: dict[bytes, _Run] = {}
    items: list[bytes | _Run] = []
    runs: list[_Run] = []
    at, count = 0, len(packets)
    while at < count:
        packet = packets[at]
        at += 1
        if not open_runs and _carries_nothing(packet):
            items.append(packet)
            continue
        segment = _read(packet, takes_datagrams)
        if segment is None:
            # Anything but what is merged may change places with that
            items.append(packet)
            continue
        flow, mergeable = segment[0], segment[1]
        run = open_runs.get(flow)
        if run is not None and mergeable and run.take(segment, packet):
            at = run.take_alike(packets, at)
            continue
        if not flow:
            open_runs.clear()
            items.append(packet)
        elif mergeable and not segment[5] & (_FIN | _PSH):
            open_runs[flow] = run = _Run(segment, packet)
            items.append(run)
            runs.append(run)
        else:
            open_runs.pop(flow, None)
            items.append(packet)
    intact = _intact_runs(runs) if runs else ()
    frames: list[bytes] = []
    for item in items:
        if isinstance(item, bytes):
            frames.append(plain_header + item)
        elif item in intact:
            frames.append(item.super_packet(header_bytes))
        else:
            frames += [plain_header + packet for packet in item.packets]
    return frames


def _intact_runs(runs: Sequence[_Run]) -> set[_Run]:
    """Runs of several packets, none of them damaged; what has one size is summed in one call."""
    alike: dict[tuple[int, int], list[_Run]] = {}
    for run in runs:
        if len(run.packets) > 1 and run.may_be_intact():
            alike.setdefault((len(run.packets[0]), run.ip_bytes), []).append(run)
    intact: set[_Run] = set()
    for (size, ip_bytes), group in alike.items():
        segments: list[bytes] = []
        ends: list[int] = []
        for run in group:
            # Only the last of a run may be shorter
            segments += run.packets if len(run.packets[-1]) == size else run.packets[:-1]
            ends.append(len(segments))
        sums = segment_sums(b"".join(segments), size, ip_bytes)
        begin = 0
        for run, end in zip(group, ends, strict=True):
            if {each % MODULUS for each in sums[begin:end]} == {run.wanted_sum(size)}:
                intact.add(run)
            begin = end
    return intact


def _carries_nothing(packet: bytes) -> bool:
    """Whether this is a mere acknowledgement over IPv4, a quick look."""
    size = len(packet)
    return (
        _IPV4_BYTES + _TCP_BYTES <= size <= _IPV4_BYTES + _LONGEST_TCP_BYTES
        and packet[0] == _PLAIN_IPV4
        and packet[9] == _TCP.number
        and size == _IPV4_BYTES + (packet[_IPV4_BYTES + _TCP_OFFSET_AT] >> 4) * 4
    )


def _read(packet: bytes, takes_datagrams: bool) -> _Segment | None:
    """The part of a flow that this packet is; None when it is certainly no such.

    The flow is empty when it cannot be known: options of IP, fragments, extension headers.
    """
    size = len(packet)
    version = packet[0] >> 4 if size > _IPV4_BYTES else 0
    if version == 4:
        protocol = packet[9]
        if takes_datagrams and protocol == _UDP.number:
            return _read_datagram(packet, 4)
        if protocol != _TCP.number:
            return None
        layout = _LAYOUTS.get((4, packet[32] >> 4)) if size > 32 else None
        if layout is None or size < layout.size or _hides_flow(packet):
            return _UNKNOWN_FLOW
        service, length, ident, fragment, _, flow, *tcp = layout.unpack_from(packet)
        sequence, acknowledge, flags, window, _, rest = tcp
        common = (service, fragment, acknowledge, window, rest)
        whole = length == size and not packet[7]
    elif version == 6 and size > _IPV6_BYTES:
        protocol = packet[6]
        if takes_datagrams and protocol == _UDP.number:
            return _read_datagram(packet, 6)
        if protocol != _TCP.number:
            return _UNKNOWN_FLOW if protocol in _IPV6_EXTENSIONS else None
        layout = _LAYOUTS.get((6, packet[52] >> 4)) if size > 52 else None
        if layout is None or size < layout.size:
            return _UNKNOWN_FLOW
        label, length, hops, flow, *tcp = layout.unpack_from(packet)
        sequence, acknowledge, flags, window, _, rest = tcp
        ident = 0
        common = (label, hops, acknowledge, window, rest)
        whole = length + _IPV6_BYTES == size
    else:
        return None
    mergeable = whole and size > layout.size and flags & ~(_ECE | _FIN | _PSH) == _ACK
    return flow, mergeable, common, ident, sequence, flags, layout.size, _TCP


def _read_datagram(packet: bytes, version: int) -> _Segment:
    size = len(packet)
    layout = _UDP_LAYOUTS[version]
    if size < layout.size or (version == 4 and _hides_flow(packet)):
        return _UNKNOWN_FLOW
    if version == 4:
        service, length, ident, fragment, _, flow, udp_bytes, checksum = layout.unpack_from(packet)
        common = (service, fragment)
        whole = length == size and not packet[7]
    else:
        label, length, hops, flow, udp_bytes, checksum = layout.unpack_from(packet)
        ident = 0
        common = (label, hops)
        whole = length + _IPV6_BYTES == size
    header_bytes = layout.size
    intact = udp_bytes == size - header_bytes + _UDP_BYTES and checksum != 0
    mergeable = whole and intact and size > header_bytes
    return flow + b"u", mergeable, common, ident, 0, 0, header_bytes, _UDP


def _hides_flow(packet: bytes) -> bool:
    """Whether an IPv4 packet has options, or is a fragment."""
    # 0x3F: more fragments, or not the first one
    return packet[0] != _PLAIN_IPV4 or bool(packet[6] & 0x3F)


_UNKNOWN_FLOW: _Segment = (b"", False, (), 0, 0, 0, 0, _TCP)


class _Run:
    """Packets of one flow that follow each other without a gap."""

    __slots__ = (
        *("_closed", "_common", "_flags", "_headers_bytes", "_ident_step", "_is_intact"),
        *("_next_ident", "_next_sequence", "_protocol", "_segment_bytes", "_size_bytes"),
        *("ip_bytes", "packets"),
    )

    def __init__(self, segment: _Segment, packet: bytes) -> None:
        _, _, self._common, ident, sequence, self._flags, headers_bytes, self._protocol = segment
        self._headers_bytes = headers_bytes
        self.ip_bytes = _IPV4_BYTES if packet[0] >> 4 == 4 else _IPV6_BYTES
        self._is_intact = self._has_intact_ip_header(packet)
        self.packets = [packet]
        self._segment_bytes = len(packet) - headers_bytes
        self._size_bytes = len(packet)
        self._next_sequence = sequence
        self._move_on(self._segment_bytes)
        self._next_ident = ident
        self._ident_step = -1
        self._closed = False

    def take(self, segment: _Segment, packet: bytes) -> bool:
        """Add a segment when it continues this run; the header's size is part of `common`."""
        _, _, common, ident, sequence, flags, headers_bytes, _ = segment
        payload_bytes = len(packet) - headers_bytes
        if (
            sequence != self._next_sequence
            or self._closed
            or len(self.packets) == self._protocol.most_parts
            or payload_bytes > self._segment_bytes
            or common != self._common
            or (flags ^ self._flags) & _ECE
            or self._size_bytes + payload_bytes > _LONGEST_PACKET_BYTES
        ):
            return False
        if self._ident_step < 0:
            if not self._learn_ident_step(ident, packet):
                return False
        elif ident != self._next_ident:
            return False
        self._next_ident = (ident + self._ident_step) & 0xFFFF
        self.packets.append(packet)
        self._is_intact = self._is_intact and self._has_intact_ip_header(packet)
        self._size_bytes += payload_bytes
        self._move_on(payload_bytes)
        self._flags |= flags
        self._closed = payload_bytes < self._segment_bytes or bool(flags & (_FIN | _PSH))
        return True

    def take_alike(self, packets: Sequence[bytes], start: int) -> int:
        """Add those from `start` on that continue this run as its last did; gives where they end.

        A look that is quick for bulk traffic. Up to the transport's checksum a header is one
        number, and that of the next packet is so much more; it stops before any field would flow
        over. What is behind the checksum stays the same. Whoever follows in this way has an intact
        IP header if the last one had, for id and checksum make up for each other.
        """
        if self._closed:
            return start
        last = self.packets[-1]
        size, step = len(last), self._segment_bytes
        checksum_at = self.ip_bytes + self._protocol.checksum_at
        from_bytes = int.from_bytes
        most = (_LONGEST_PACKET_BYTES - self._size_bytes) // step
        most = min(most, self._protocol.most_parts - len(self.packets))
        difference = 0
        if self._protocol.counts_bytes:
            sequence_end = self.ip_bytes + _TCP_SEQUENCE_AT + 4
            sequence = from_bytes(last[sequence_end - 4 : sequence_end])
            most = min(most, (0xFFFFFFFF - sequence) // step)
            difference = step << 8 * (checksum_at - sequence_end)
        if self._ident_step:
            most = min(most, 0xFFFF - from_bytes(last[4:6]), from_bytes(last[10:12]))
            difference += (1 << 8 * (checksum_at - 6)) - (1 << 8 * (checksum_at - 12))
        rest_at, rest_end = checksum_at + _CHECKSUM_BYTES, self._headers_bytes
        rest = last[rest_at:rest_end]
        expected = from_bytes(last[:checksum_at]) + difference
        at = start
        end = min(len(packets), start + most)
        while at < end:
            packet = packets[at]
            if (
                len(packet) != size
                or from_bytes(packet[:checksum_at]) != expected
                or packet[rest_at:rest_end] != rest
            ):
                break
            expected += difference
            at += 1
        taken = at - start
        self.packets += packets[start:at]
        self._size_bytes += taken * step
        self._move_on(taken * step)
        self._next_ident = (self._next_ident + taken * self._ident_step) & 0xFFFF
        return at

    def _move_on(self, payload_bytes: int) -> None:
        if self._protocol.counts_bytes:
            self._next_sequence = (self._next_sequence + payload_bytes) & 0xFFFFFFFF

    def _learn_ident_step(self, ident: int, packet: bytes) -> bool:
        """The second one says whether ids count up or, without fragments, stay the same."""
        step = (ident - self._next_ident) & 0xFFFF
        # IPv6 has no id; IPv4's may stand still where DF makes it meaningless (RFC 6864)
        if step == 1 or (step == 0 and (packet[0] >> 4 == 6 or packet[6] & 0x40)):
            self._ident_step = step
            return True
        return False

    def may_be_intact(self) -> bool:
        """Whether no IP header is damaged, nor the last packet if it is a shorter one."""
        last = self.packets[-1]
        size = len(last)
        return self._is_intact and (
            size == len(self.packets[0]) or word_sum(last[self.ip_bytes :]) == self.wanted_sum(size)
        )

    def wanted_sum(self, size: int) -> int:
        """What a packet of that size must add up to behind its IP header."""
        return -self._pseudo_sum(size - self.ip_bytes) % MODULUS

    def super_packet(self, header_bytes: int) -> bytes:
        """The frame of all of them together."""
        first, protocol = self.packets[0], self._protocol
        headers_bytes, ip_bytes = self._headers_bytes, self.ip_bytes
        version = first[0] >> 4
        rest_bytes = self._size_bytes - ip_bytes
        header = bytearray(first[:headers_bytes])
        if version == 4:
            header[2:4] = self._size_bytes.to_bytes(2, "big")
            header[10:12] = b"\0\0"
            header[10:12] = internet_checksum(bytes(header[:_IPV4_BYTES])).to_bytes(2, "big")
        else:
            header[4:6] = rest_bytes.to_bytes(2, "big")
        if protocol is _TCP:
            header[ip_bytes + _TCP_FLAGS_AT] = self._flags
        else:
            length_at = ip_bytes + _UDP_LENGTH_AT
            header[length_at : length_at + 2] = rest_bytes.to_bytes(2, "big")
        checksum_at = ip_bytes + protocol.checksum_at
        checksum = self._pseudo_sum(rest_bytes)
        header[checksum_at : checksum_at + _CHECKSUM_BYTES] = checksum.to_bytes(2, "big")
        vnet_header = _VNET_HEADER.pack(
            *(_NEEDS_CHECKSUM, protocol.gso[version], headers_bytes),
            *(self._segment_bytes, ip_bytes, protocol.checksum_at),
        )
        pieces: list[bytes | bytearray] = [vnet_header.ljust(header_bytes, b"\0"), header]
        pieces += [packet[headers_bytes:] for packet in self.packets]
        return b"".join(pieces)

    def _pseudo_sum(self, rest_bytes: int) -> int:
        addresses = self.packets[0][12 if self.ip_bytes == _IPV4_BYTES else 8 : self.ip_bytes]
        return (_addresses_sum(addresses) + self._protocol.number + rest_bytes) % MODULUS

    def _has_intact_ip_header(self, packet: bytes) -> bool:
        header = packet[:_IPV4_BYTES]
        return self.ip_bytes == _IPV6_BYTES or not int.from_bytes(header, "big") % MODULUS


@lru_cache(maxsize=1024)
def _addresses_sum(addresses: bytes) -> int:
    return word_sum(addresses)
