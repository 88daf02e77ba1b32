"""Segments of a TCP flow, merged to one super-packet for the tun device.

The rules are those of the kernel's own GRO: cut again, a super-packet gives what was received,
but for IPv4 ids that stood still, which count up then.

Source: Linux, net/ipv4/tcp_offload.c; virtio 1.2, section 5.1.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from anyvpn.packets.checksums import MODULUS, internet_checksum, segment_sums, word_sum
from anyvpn.packets.tcp_layout import tcp_layout

# From the protocol
_VNET_HEADER = Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_GSO_TCP = {4: 1, 6: 4}
_TCP_FLAGS_AT, _TCP_CHECKSUM_AT = 13, 16
_TCP = 6
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


# Addresses and ports; whether it may be merged at all; what all segments of a super-packet
# share; id; checksum of the IP header; sequence; flags; checksum; bytes of both headers
_Segment = tuple[bytes, bool, tuple[bytes, ...], int, int, int, int, int, int]


def merge_segments(packets: Sequence[bytes], header_bytes: int) -> list[bytes]:
    """Packets as frames for the device; segments of a TCP flow become one super-packet.

    Flows may be interleaved: each packet keeps its place within its flow. Only segments whose
    checksums are right are merged, since the super-packet is given a new one.
    """
    if not header_bytes:
        return list(packets)
    plain_header = bytes(header_bytes)
    open_runs: dict[bytes, _Run] = {}
    items: list[bytes | _Run] = []
    for packet in packets:
        segment = _read(packet)
        if segment is None:
            # Anything but TCP may change places with TCP
            items.append(packet)
            continue
        flow, mergeable = segment[0], segment[1]
        run = open_runs.get(flow)
        if run is not None and mergeable and run.take(segment, packet):
            continue
        if not flow:
            open_runs.clear()
            items.append(packet)
        elif mergeable and not segment[6] & (_FIN | _PSH):
            open_runs[flow] = run = _Run(segment, packet)
            items.append(run)
        else:
            open_runs.pop(flow, None)
            items.append(packet)
    frames: list[bytes] = []
    for item in items:
        if isinstance(item, bytes):
            frames.append(plain_header + item)
        elif len(item.packets) > 1 and (frame := item.super_packet(header_bytes)) is not None:
            frames.append(frame)
        else:
            frames += [plain_header + packet for packet in item.packets]
    return frames


def _read(packet: bytes) -> _Segment | None:
    """The TCP segment in this packet; None when there is certainly no TCP in it.

    The flow is empty when it cannot be known: options of IP, fragments, extension headers.
    """
    size = len(packet)
    version = packet[0] >> 4 if size > _IPV4_BYTES else 0
    if version == 4:
        if packet[9] != _TCP:
            return None
        layout = _LAYOUTS.get((4, packet[32] >> 4)) if size > 32 else None
        # 0x45: no options; 0x3F: more fragments, or not the first one
        if layout is None or size < layout.size or packet[0] != 0x45 or packet[6] & 0x3F:
            return _UNKNOWN_FLOW
        service, length, ident, fragment, ip_checksum, flow, *tcp = layout.unpack_from(packet)
        sequence, acknowledge, flags, window, checksum, rest = tcp
        common = (service, fragment, acknowledge, window, rest)
        whole = length == size and not packet[7]
    elif version == 6 and size > _IPV6_BYTES:
        if packet[6] != _TCP:
            return _UNKNOWN_FLOW if packet[6] in _IPV6_EXTENSIONS else None
        layout = _LAYOUTS.get((6, packet[52] >> 4)) if size > 52 else None
        if layout is None or size < layout.size:
            return _UNKNOWN_FLOW
        label, length, hops, flow, *tcp = layout.unpack_from(packet)
        sequence, acknowledge, flags, window, checksum, rest = tcp
        ident = ip_checksum = 0
        common = (label, hops, acknowledge, window, rest)
        whole = length + _IPV6_BYTES == size
    else:
        return None
    mergeable = whole and size > layout.size and flags & ~(_ECE | _FIN | _PSH) == _ACK
    return flow, mergeable, common, ident, ip_checksum, sequence, flags, checksum, layout.size


_UNKNOWN_FLOW: _Segment = (b"", False, (), 0, 0, 0, 0, 0, 0)


class _Run:
    """Segments of one flow that follow each other without a gap."""

    __slots__ = (
        *("_common", "_closed", "_flags", "_ident_step", "_next_ident", "_next_sequence"),
        *("_segment_bytes", "_segments", "_size_bytes", "packets"),
    )

    def __init__(self, segment: _Segment, packet: bytes) -> None:
        _, _, self._common, ident, _, sequence, self._flags, _, header_bytes = segment
        self.packets = [packet]
        self._segments = [segment]
        self._segment_bytes = len(packet) - header_bytes
        self._size_bytes = len(packet)
        self._next_sequence = (sequence + self._segment_bytes) & 0xFFFFFFFF
        self._next_ident = ident
        self._ident_step = -1
        self._closed = False

    def take(self, segment: _Segment, packet: bytes) -> bool:
        """Add a segment when it continues this run; the header's size is part of `common`."""
        _, _, common, ident, _, sequence, flags, _, header_bytes = segment
        payload_bytes = len(packet) - header_bytes
        if (
            sequence != self._next_sequence
            or self._closed
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
        self._segments.append(segment)
        self._size_bytes += payload_bytes
        self._next_sequence = (sequence + payload_bytes) & 0xFFFFFFFF
        self._flags |= flags
        self._closed = payload_bytes < self._segment_bytes or bool(flags & (_FIN | _PSH))
        return True

    def _learn_ident_step(self, ident: int, packet: bytes) -> bool:
        """The second segment says whether ids count up or, without fragments, stay the same."""
        step = (ident - self._next_ident) & 0xFFFF
        # IPv6 has no id; IPv4's may stand still where DF makes it meaningless (RFC 6864)
        if step == 1 or (step == 0 and (packet[0] >> 4 == 6 or packet[6] & 0x40)):
            self._ident_step = step
            return True
        return False

    def super_packet(self, header_bytes: int) -> bytes | None:
        """The frame of all segments together; None when any of them is damaged."""
        first = self.packets[0]
        flow, *_, headers_bytes = self._segments[0]
        version = first[0] >> 4
        payload = b"".join([packet[headers_bytes:] for packet in self.packets])
        ip_bytes = _IPV4_BYTES if version == 4 else _IPV6_BYTES
        if not self._is_intact(payload, ip_bytes):
            return None
        tcp_bytes = headers_bytes - ip_bytes + len(payload)
        header = bytearray(first[:headers_bytes])
        if version == 4:
            header[2:4] = (headers_bytes + len(payload)).to_bytes(2, "big")
            header[10:12] = b"\0\0"
            header[10:12] = internet_checksum(bytes(header[:_IPV4_BYTES])).to_bytes(2, "big")
        else:
            header[4:6] = tcp_bytes.to_bytes(2, "big")
        header[ip_bytes + _TCP_FLAGS_AT] = self._flags
        pseudo_sum = (word_sum(flow[:-4]) + _TCP + tcp_bytes) % MODULUS
        checksum_at = ip_bytes + _TCP_CHECKSUM_AT
        header[checksum_at : checksum_at + 2] = pseudo_sum.to_bytes(2, "big")
        vnet_header = _VNET_HEADER.pack(
            *(_NEEDS_CHECKSUM, _GSO_TCP[version], headers_bytes),
            *(self._segment_bytes, ip_bytes, _TCP_CHECKSUM_AT),
        )
        return b"".join((vnet_header.ljust(header_bytes, b"\0"), header, payload))

    def _is_intact(self, payload: bytes, ip_bytes: int) -> bool:
        """Whether the checksums of all segments are right, over headers and payload."""
        flow, _, common, *_, headers_bytes = self._segments[0]
        left = len(payload)
        first_word, second_word, acknowledge, window, rest = common
        # The offset of TCP shares a word with the flags
        tcp_sum = (
            (word_sum(flow) + _TCP + headers_bytes - ip_bytes)
            + (word_sum(acknowledge[:4]) + (acknowledge[4] << 8))
            + (word_sum(window) + word_sum(rest))
        )
        ip_sum = word_sum(first_word) + word_sum(second_word) + word_sum(flow[:-4]) + headers_bytes
        size = self._segment_bytes
        for segment, payload_sum in zip(self._segments, segment_sums(payload, size), strict=True):
            size = min(size, left)
            left -= size
            _, _, _, ident, ip_checksum, sequence, flags, checksum, _ = segment
            if (tcp_sum + size + sequence + flags + checksum + payload_sum) % MODULUS:
                return False
            if ip_bytes == _IPV4_BYTES and (ip_sum + size + ident + ip_checksum) % MODULUS:
                return False
        return True
