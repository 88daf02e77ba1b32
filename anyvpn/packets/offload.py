"""The kernel's offloads at the tun device: super-packets to segments, and segments back.

A frame is a `virtio_net_hdr` and an IP packet behind it. One read of the device gives up to
64 KB of one TCP flow in one frame; `split_super_packets` cuts it into the packets that go
through tunnels. `merge_segments` (merging.py) does the reverse for what goes to the device.
Both leave alone what they do not understand: the kernel on either side judges it.

    virtio_net_hdr, 10 bytes in the machine's byte order (a 12-byte one has a word more):
    flags (1)  gso_type (1)  hdr_len (2)  gso_size (2)  csum_start (2)  csum_offset (2)

Source: virtio 1.2, section 5.1.6; Linux, include/uapi/linux/virtio_net.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct

from anyvpn.packets.checksums import MODULUS, segment_sums, word_sum
from anyvpn.packets.header_layouts import udp_layout, varying_layout
from anyvpn.packets.merging import merge_segments

__all__ = ["merge_segments", "packets_in", "split_super_packets"]

# From the protocol
_VNET_HEADER = Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_GSO_TCP_IPV4 = 1
_GSO_TCP_IPV6 = 4
_GSO_UDP = 5
_GSO_ECN = 0x80
_IPV4_BYTES = 20
_IPV6_BYTES = 40
_TCP_BYTES = 20
_TCP_FLAGS_AT = 13
_UDP_BYTES = 8
_TCP = 6
_UDP = 17
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80


_Part = tuple[list[int], int, int]
"""Segments that are alike: sums of their payloads, its size, and flags that they must not have."""


def split_super_packets(frames: Sequence[bytes], header_bytes: int) -> list[bytes]:
    """Frames of the device as plain IP packets with complete checksums, in the same order.

    A frame whose header does not fit its packet gives that packet untouched.
    """
    if not header_bytes:
        return list(frames)
    packets: list[bytes] = []
    next_frame = 0
    count = len(frames)
    while next_frame < count:
        frame = frames[next_frame]
        next_frame += 1
        if len(frame) <= header_bytes or not frame[0] & _NEEDS_CHECKSUM:
            packets.append(frame[header_bytes:])
            continue
        # hdr_len is a hint that not every sender gets right; the packet's own headers tell
        _, gso_type, _, gso_bytes, start, offset = _VNET_HEADER.unpack_from(frame)
        if gso_type and 0 < gso_bytes < len(frame) - header_bytes - start:
            packets += _split(frame[header_bytes:], gso_type & ~_GSO_ECN, gso_bytes, start)
            continue
        # Single segments of a flow come in a row, all alike but for what they carry
        size, header, first = len(frame), frame[:header_bytes], next_frame - 1
        while (
            next_frame < count
            and len(frames[next_frame]) == size
            and frames[next_frame].startswith(header)
        ):
            next_frame += 1
        packets += _complete_checksums(frames[first:next_frame], header_bytes, start, offset)
    return packets


def packets_in(frame: bytes, header_bytes: int) -> int:
    """How many packets a frame of the device would be cut to."""
    if not header_bytes or len(frame) <= header_bytes:
        return 1
    _, gso_type, headers_bytes, gso_bytes, _, _ = _VNET_HEADER.unpack_from(frame)
    payload_bytes = len(frame) - header_bytes - int(headers_bytes)
    return max(1, -(-payload_bytes // int(gso_bytes))) if gso_type and gso_bytes else 1


def _complete_checksums(
    frames: Sequence[bytes], header_bytes: int, start: int, offset: int
) -> list[bytes]:
    """Sum each packet from `start` and fill the field in, where the pseudo-header's sum waits.

    The frames have one size.
    """
    begin = header_bytes + start
    field = begin + offset
    size = len(frames[0])
    if field + 2 > size:
        return [frame[header_bytes:] for frame in frames]
    sums = segment_sums(b"".join([frame[begin:] for frame in frames]), size - begin)
    return [
        b"".join(
            (
                frame[header_bytes:field],
                # Never zero, which in UDP means "none"; 65535 is the same number
                (-covered_sum % MODULUS or MODULUS).to_bytes(2, "big"),
                frame[field + 2 :],
            )
        )
        for frame, covered_sum in zip(frames, sums, strict=True)
    ]


def _split(packet: bytes, kind: int, gso_bytes: int, ip_bytes: int) -> list[bytes]:
    version = packet[0] >> 4
    if version == 4:
        fits = ip_bytes == (packet[0] & 0x0F) * 4 >= _IPV4_BYTES
        protocol = packet[9] if fits else 0
    elif version == 6:
        fits = ip_bytes >= _IPV6_BYTES
        # Behind extension headers we take the kernel's word for the protocol
        protocol = packet[6] if ip_bytes == _IPV6_BYTES else 0
    else:
        return [packet]
    if not fits:
        return [packet]
    if kind == (_GSO_TCP_IPV4 if version == 4 else _GSO_TCP_IPV6) and protocol in (0, _TCP):
        return _split_tcp(packet, version, ip_bytes, gso_bytes)
    if kind == _GSO_UDP and protocol in (0, _UDP):
        return _split_udp(packet, version, ip_bytes, gso_bytes)
    return [packet]


def _split_tcp(packet: bytes, version: int, ip_bytes: int, gso_bytes: int) -> list[bytes]:
    if len(packet) < ip_bytes + _TCP_BYTES:
        return [packet]
    tcp_bytes = (packet[ip_bytes + 12] >> 4) * 4
    headers_bytes = ip_bytes + tcp_bytes
    if tcp_bytes < _TCP_BYTES or len(packet) <= headers_bytes:
        return [packet]
    payload = packet[headers_bytes:]
    sums = segment_sums(payload, gso_bytes)
    last = len(sums) - 1
    # FIN and PSH belong to the last byte, CWR to the first; all between have the same flags
    second = 1 if last and packet[ip_bytes + _TCP_FLAGS_AT] & _CWR else 0
    parts = (
        (sums[:second], gso_bytes, _FIN | _PSH),
        (sums[second:last], gso_bytes, _FIN | _PSH | _CWR),
        (sums[last:], len(payload) - last * gso_bytes, _CWR if last else 0),
    )
    cut = _cut_ipv4 if version == 4 else _cut_ipv6
    return cut(packet[:headers_bytes], ip_bytes, payload, parts)


def _cut_ipv4(headers: bytes, ip_bytes: int, payload: bytes, parts: Iterable[_Part]) -> list[bytes]:
    layout = varying_layout(4, ip_bytes, len(headers))
    service, ident, fragment, _, flow, sequence, window, _, rest = layout.unpack(headers)
    flags = window[5]
    ip_sum = word_sum(service[:2] + fragment + flow[:-4]) + len(headers)
    tcp_sum = word_sum(flow[:8] + flow[-4:] + window + rest) + _TCP + len(headers) - ip_bytes
    pack = layout.pack
    packets: list[bytes] = []
    start = 0
    for payload_sums, size, wrong_flags in parts:
        service = service[:2] + (len(headers) + size).to_bytes(2, "big")
        window = _without(window, flags, wrong_flags)
        wanted_ip_sum = ip_sum + size
        wanted_sum = tcp_sum + size - (flags & wrong_flags)
        for payload_sum in payload_sums:
            end = start + size
            ip_checksum = -(wanted_ip_sum + ident) % MODULUS
            checksum = -(wanted_sum + sequence + payload_sum) % MODULUS
            header = pack(
                service,
                ident,
                fragment,
                ip_checksum,
                flow,
                sequence,
                window,
                checksum,
                rest,
            )
            packets.append(header + payload[start:end])
            ident = (ident + 1) & 0xFFFF
            sequence = (sequence + size) & 0xFFFFFFFF
            start = end
    return packets


def _cut_ipv6(headers: bytes, ip_bytes: int, payload: bytes, parts: Iterable[_Part]) -> list[bytes]:
    layout = varying_layout(6, ip_bytes, len(headers))
    service, flow, sequence, window, _, rest = layout.unpack(headers)
    flags = window[5]
    tcp_sum = word_sum(flow[:32] + flow[-4:] + window + rest) + _TCP + len(headers) - ip_bytes
    pack = layout.pack
    packets: list[bytes] = []
    start = 0
    for payload_sums, size, wrong_flags in parts:
        length = len(headers) - _IPV6_BYTES + size
        service = service[:4] + length.to_bytes(2, "big") + service[6:]
        window = _without(window, flags, wrong_flags)
        wanted_sum = tcp_sum + size - (flags & wrong_flags)
        for payload_sum in payload_sums:
            end = start + size
            checksum = -(wanted_sum + sequence + payload_sum) % MODULUS
            header = pack(service, flow, sequence, window, checksum, rest)
            packets.append(header + payload[start:end])
            sequence = (sequence + size) & 0xFFFFFFFF
            start = end
    return packets


def _without(window: bytes, flags: int, wrong_flags: int) -> bytes:
    """TCP's fields from acknowledgement to window with those flags but for some."""
    return window[:5] + bytes((flags & ~wrong_flags,)) + window[6:]


def _split_udp(packet: bytes, version: int, ip_bytes: int, gso_bytes: int) -> list[bytes]:
    if len(packet) <= ip_bytes + _UDP_BYTES:
        return [packet]
    layout = udp_layout(version, ip_bytes)
    payload = packet[layout.size :]
    ident = 0
    if version == 4:
        service, _, ident, fragment, _, flow, _, _ = layout.unpack_from(packet)
        ip_sum = word_sum(service) + word_sum(fragment) + word_sum(flow[:-4])
        addresses = flow[:8]
    else:
        label, _, hops, flow, _, _ = layout.unpack_from(packet)
        addresses = flow[:32]
    udp_sum = word_sum(addresses) + word_sum(flow[-4:]) + _UDP
    packets: list[bytes] = []
    start = 0
    for payload_sum in segment_sums(payload, gso_bytes):
        segment = payload[start : start + gso_bytes]
        udp_length = _UDP_BYTES + len(segment)
        # The length counts twice: in the pseudo-header and in the header
        checksum = -(udp_sum + 2 * udp_length + payload_sum) % MODULUS or MODULUS
        if version == 4:
            length = ip_bytes + udp_length
            ip_checksum = -(ip_sum + length + ident) % MODULUS
            header = layout.pack(
                service, length, ident, fragment, ip_checksum, flow, udp_length, checksum
            )
            ident = (ident + 1) & 0xFFFF
        else:
            length = ip_bytes - _IPV6_BYTES + udp_length
            header = layout.pack(label, length, hops, flow, udp_length, checksum)
        packets.append(header + segment)
        start += gso_bytes
    return packets
