"""What a router does with a packet that is too long for the next link: here, for a tunnel.

Nothing is sent here and no rate is limited; both are the caller's. An answer goes back to where
the packet came from, fragments go on to the tunnel.

Source: RFC 791, RFC 1122 section 3.2.2, RFC 1191, RFC 1812 section 4.3.2, RFC 4443 section 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from anyvpn.packets.checksums import internet_checksum

# From the protocol
_IPV4_BYTES = 20
_IPV6_BYTES = 40
_FRAGMENT_EXTENSION_BYTES = 8
_ICMP_HEADER = Struct("!BBHHH")
_ICMPV6_HEADER = Struct("!BBHI")
_ICMP = 1
_ICMPV6 = 58
_UNREACHABLE, _FRAGMENTATION_NEEDED = 3, 4
_PACKET_TOO_BIG = 2
_ICMP_QUERIES = frozenset((0, 8, 9, 10, 13, 14, 15, 16, 17, 18))
_ICMPV6_FIRST_QUERY = 128
_ICMPV6_REDIRECT = 137
_DO_NOT_FRAGMENT, _MORE_FRAGMENTS, _OFFSET_MASK = 0x4000, 0x2000, 0x1FFF
_LONGEST_IPV4_ANSWER_BYTES = 576
_LONGEST_IPV6_ANSWER_BYTES = 1280
_OPTION_END, _OPTION_NONE = 0, 1
_OPTION_COPIED = 0x80
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60

# Ours
_ANSWER_HOPS = 64
_MOST_EXTENSIONS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """An ICMP packet for the sender, with the MTU that would fit; the packet itself is lost."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class Fragments:
    """The packet in pieces that fit, to be sent instead of it, in order."""

    packets: tuple[bytes, ...]


def too_big(
    packet: bytes,
    mtu_bytes: int,
    source: IPv4Address | None,
    source_ipv6: IPv6Address | None,
) -> Answer | Fragments | None:
    """What becomes of an IP packet longer than `mtu_bytes`; None: it is dropped in silence.

    `source` and `source_ipv6` are the gateway's own inner addresses; without the one of the
    packet's family there is no answer.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return _too_big_ipv4(packet, mtu_bytes, source)
    if version == 6 and source_ipv6 is not None and _may_answer_ipv6(packet):
        return Answer(_packet_too_big(packet, mtu_bytes, source_ipv6))
    return None


def _too_big_ipv4(
    packet: bytes, mtu_bytes: int, source: IPv4Address | None
) -> Answer | Fragments | None:
    header_bytes = (packet[0] & 0x0F) * 4
    if header_bytes < _IPV4_BYTES or len(packet) < header_bytes:
        return None
    if int.from_bytes(packet[2:4], "big") != len(packet):
        return None
    fragment = int.from_bytes(packet[6:8], "big")
    if not fragment & _DO_NOT_FRAGMENT:
        return _fragments(packet, header_bytes, mtu_bytes)
    if source is None or fragment & _OFFSET_MASK or not _may_answer_ipv4(packet, header_bytes):
        return None
    return Answer(_fragmentation_needed(packet, mtu_bytes, source))


def _may_answer_ipv4(packet: bytes, header_bytes: int) -> bool:
    """No answer to an ICMP error, nor to who or what is not one host."""
    if packet[9] == _ICMP and packet[header_bytes : header_bytes + 1] not in _ICMP_QUERY_BYTES:
        return False
    sender, destination = packet[12], packet[16]
    return 0 < sender < 224 and sender != 127 and destination < 224


_ICMP_QUERY_BYTES = frozenset(bytes((kind,)) for kind in _ICMP_QUERIES)


def _fragmentation_needed(packet: bytes, mtu_bytes: int, source: IPv4Address) -> bytes:
    """ICMP type 3, code 4, that quotes as much of the packet as fits in 576 bytes."""
    quoted = packet[: _LONGEST_IPV4_ANSWER_BYTES - _IPV4_BYTES - _ICMP_HEADER.size]
    kind = (_UNREACHABLE, _FRAGMENTATION_NEEDED)
    checksum = internet_checksum(_ICMP_HEADER.pack(*kind, 0, 0, mtu_bytes) + quoted)
    message = _ICMP_HEADER.pack(*kind, checksum, 0, mtu_bytes) + quoted
    header = bytearray(_IPV4_BYTES)
    header[0] = 0x45
    header[2:4] = (_IPV4_BYTES + len(message)).to_bytes(2, "big")
    header[6] = _DO_NOT_FRAGMENT >> 8
    header[8], header[9] = _ANSWER_HOPS, _ICMP
    header[12:16] = source.packed
    header[16:20] = packet[12:16]
    header[10:12] = internet_checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + message


def _fragments(packet: bytes, header_bytes: int, mtu_bytes: int) -> Fragments | None:
    header = packet[:header_bytes]
    later_header = header[:_IPV4_BYTES] + _copied_options(header[_IPV4_BYTES:])
    payload = packet[header_bytes:]
    old = int.from_bytes(header[6:8], "big")
    offset, more = old & _OFFSET_MASK, old & _MORE_FRAGMENTS
    packets: list[bytes] = []
    start = 0
    while start < len(payload):
        # Every fragment but the last is a multiple of 8 bytes
        room = (mtu_bytes - len(header)) & ~7
        if len(payload) - start <= mtu_bytes - len(header):
            room = len(payload) - start
        if room <= 0 or offset > _OFFSET_MASK:
            return None
        piece = payload[start : start + room]
        start += room
        more_now = _MORE_FRAGMENTS if start < len(payload) else more
        packets.append(_with_fragment(header, offset | more_now, piece))
        offset += room // 8
        header = later_header
    return Fragments(tuple(packets))


def _with_fragment(header: bytes, fragment: int, payload: bytes) -> bytes:
    changed = bytearray(header)
    changed[0] = 0x40 | len(header) // 4
    changed[2:4] = (len(header) + len(payload)).to_bytes(2, "big")
    changed[6:8] = fragment.to_bytes(2, "big")
    changed[10:12] = b"\0\0"
    changed[10:12] = internet_checksum(bytes(changed)).to_bytes(2, "big")
    return bytes(changed) + payload


def _copied_options(options: bytes) -> bytes:
    """The options that belong into every fragment, padded; options that lie end the list."""
    copied = b""
    while options and options[0] != _OPTION_END:
        if options[0] == _OPTION_NONE:
            options = options[1:]
            continue
        size = options[1] if len(options) > 1 else 0
        if not 2 <= size <= len(options):
            break
        if options[0] & _OPTION_COPIED:
            copied += options[:size]
        options = options[size:]
    return copied + bytes(-len(copied) % 4)


def _may_answer_ipv6(packet: bytes) -> bool:
    """No answer to an ICMPv6 error or redirect, nor to who or what is not one host."""
    if len(packet) < _IPV6_BYTES:
        return False
    sender, destination = packet[8:24], packet[24:40]
    if not any(sender) or sender[0] == 0xFF or destination[0] == 0xFF:
        return False
    following, start = packet[6], _IPV6_BYTES
    for _ in range(_MOST_EXTENSIONS):
        if len(packet) < start + _FRAGMENT_EXTENSION_BYTES:
            break
        if following == _FRAGMENT:
            if int.from_bytes(packet[start + 2 : start + 4], "big") & ~7 and (
                packet[start] == _ICMPV6
            ):
                return False
            size = _FRAGMENT_EXTENSION_BYTES
        elif following in (_HOP_BY_HOP, _ROUTING, _DESTINATION):
            size = (packet[start + 1] + 1) * 8
        else:
            break
        following, start = packet[start], start + size
    if following != _ICMPV6:
        return True
    kind = packet[start] if start < len(packet) else 0
    return kind >= _ICMPV6_FIRST_QUERY and kind != _ICMPV6_REDIRECT


def _packet_too_big(packet: bytes, mtu_bytes: int, source: IPv6Address) -> bytes:
    """ICMPv6 type 2, that quotes as much of the packet as fits in 1280 bytes."""
    quoted = packet[: _LONGEST_IPV6_ANSWER_BYTES - _IPV6_BYTES - _ICMPV6_HEADER.size]
    addresses = source.packed + packet[8:24]
    size = _ICMPV6_HEADER.size + len(quoted)
    pseudo = addresses + size.to_bytes(4, "big") + bytes((0, 0, 0, _ICMPV6))
    unsummed = _ICMPV6_HEADER.pack(_PACKET_TOO_BIG, 0, 0, mtu_bytes) + quoted
    checksum = internet_checksum(pseudo + unsummed)
    message = _ICMPV6_HEADER.pack(_PACKET_TOO_BIG, 0, checksum, mtu_bytes) + quoted
    header = b"\x60\0\0\0" + size.to_bytes(2, "big") + bytes((_ICMPV6, _ANSWER_HOPS)) + addresses
    return header + message
