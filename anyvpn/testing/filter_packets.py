"""Inner packets of every kind that filters tell apart; checksums are left out."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from anyvpn.model.packet_filter import ICMP, ICMPV6, TCP, UDP

# From the protocol
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
_MORE_FRAGMENTS = 0x2000
_ECHO_REQUEST, _ECHO_REPLY = {ICMP: 8, ICMPV6: 128}, {ICMP: 0, ICMPV6: 129}


def ip_packet(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes = b"",
    *,
    options: bytes = b"",
    offset: int = 0,
    more: bool = False,
    ident: int = 9,
) -> bytes:
    """An IP packet of the addresses' version; a fragment at `offset`, in bytes, when there is one.

    `options` are IPv4's, a multiple of 4 bytes.
    """
    if len(source) == 4:
        size = 20 + len(options) + len(payload)
        fragment = offset // 8 | (_MORE_FRAGMENTS if more else 0)
        first = 0x40 | (20 + len(options)) // 4
        head = struct.pack("!BBHHHBBH", first, 0, size, ident, fragment, 64, protocol, 0)
        return head + source + destination + options + payload
    following = protocol
    if offset or more:
        payload = struct.pack("!BBHI", protocol, 0, offset | more, ident) + payload
        following = FRAGMENT
    head = struct.pack("!IHBB", 0x60000000, len(payload), following, 64)
    return head + source + destination + payload


def extension(following: int, *, words: int = 0, data: bytes = b"") -> bytes:
    """An IPv6 extension header of 8 bytes and so many words of 8 bytes more."""
    return (bytes((following, words)) + data).ljust(8 + 8 * words, b"\0")


def tcp(source_port: int, port: int, flags: int = ACK, payload: bytes = b"") -> bytes:
    """A TCP segment."""
    return struct.pack("!HHIIBBHHH", source_port, port, 1, 2, 0x50, flags, 500, 0, 0) + payload


def udp(source_port: int, port: int, payload: bytes = b"what is your address, please?") -> bytes:
    """A UDP datagram."""
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def icmp(kind: int, rest: bytes = bytes(4), quoted: bytes = b"") -> bytes:
    """An ICMP or ICMPv6 message."""
    return bytes((kind, 0, 0, 0)) + rest + quoted


def tcp_packet(
    source: bytes, source_port: int, destination: bytes, port: int, flags: int = ACK
) -> bytes:
    """A TCP packet."""
    return ip_packet(source, destination, TCP, tcp(source_port, port, flags))


def udp_packet(source: bytes, source_port: int, destination: bytes, port: int) -> bytes:
    """A UDP packet."""
    return ip_packet(source, destination, UDP, udp(source_port, port))


def echo(source: bytes, destination: bytes, ident: int, *, is_reply: bool = False) -> bytes:
    """A ping's packet."""
    protocol = ICMP if len(source) == 4 else ICMPV6
    kind = (_ECHO_REPLY if is_reply else _ECHO_REQUEST)[protocol]
    return ip_packet(source, destination, protocol, icmp(kind, struct.pack("!HH", ident, 1)))


def icmp_error(source: bytes, destination: bytes, quoted: bytes, kind: int | None = None) -> bytes:
    """An error about a packet, destination unreachable if nothing else is asked for."""
    if len(source) == 4:
        return ip_packet(source, destination, ICMP, icmp(kind or 3, bytes(4), quoted))
    return ip_packet(source, destination, ICMPV6, icmp(kind or 1, bytes(4), quoted))


def chain(protocol: int, kinds: Sequence[int]) -> tuple[int, bytes]:
    """Extension headers of these kinds before a protocol: the first kind, and their bytes."""
    headers = b""
    following = protocol
    for kind in reversed(kinds):
        headers = extension(following) + headers
        following = kind
    return following, headers
