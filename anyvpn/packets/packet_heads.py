"""What filters look at in a packet: addresses, protocol, ports. Every byte of it is hostile.

Source: RFC 791, RFC 8200; for what is not read, RFC 1858, RFC 3128, RFC 5095.
"""

from __future__ import annotations

from typing import NamedTuple

from anyvpn.model.packet_filter import ICMP, ICMPV6, MOST_EXTENSIONS, TCP, UDP

# From the protocol
_IPV4_BYTES, _IPV6_BYTES = 20, 40
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_EXTENSIONS = frozenset((_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION))
_SHORTEST_EXTENSION_BYTES = 8
_IPV4_OFFSET_MASK = 0x1FFF
_OPTION_END, _OPTION_NONE = 0, 1
_SOURCE_ROUTES = (131, 137)
_TRANSPORT_BYTES = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
_QUOTED_BYTES = 8


class Head(NamedTuple):
    """The transport header begins at `start`.

    `numbers` are source and destination port, for ICMP 0 and the type, for other protocols zeros;
    None for fragments but the first, which have no transport header.
    """

    protocol: int
    source: bytes
    destination: bytes
    numbers: tuple[int, int] | None
    start: int


def read_head(packet: bytes, *, is_quoted: bool = False) -> Head | None:
    """The head of an IP packet, or of one that an ICMP error quotes; None: it must not pass."""
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return _read_ipv4(packet, is_quoted)
    if version == 6 and len(packet) >= _IPV6_BYTES:
        return _read_ipv6(packet, is_quoted)
    return None


def _read_ipv4(packet: bytes, is_quoted: bool) -> Head | None:
    header_bytes = (packet[0] & 0x0F) * 4
    if not _IPV4_BYTES <= header_bytes <= len(packet):
        return None
    if header_bytes > _IPV4_BYTES and not _may_pass(packet[_IPV4_BYTES:header_bytes]):
        return None
    offset = int.from_bytes(packet[6:8], "big") & _IPV4_OFFSET_MASK
    return _head(
        packet,
        protocol=packet[9],
        source=packet[12:16],
        destination=packet[16:20],
        offset=offset,
        start=header_bytes,
        is_quoted=is_quoted,
    )


def _may_pass(options: bytes) -> bool:
    """Whether there is no source route among IPv4 options, which would change the destination."""
    while options and options[0] != _OPTION_END:
        if options[0] == _OPTION_NONE:
            options = options[1:]
            continue
        size = options[1] if len(options) > 1 else 0
        if options[0] in _SOURCE_ROUTES or not 2 <= size <= len(options):
            return False
        options = options[size:]
    return True


def _read_ipv6(packet: bytes, is_quoted: bool) -> Head | None:
    following, start, offset = packet[6], _IPV6_BYTES, 0
    extensions = 0
    while following in _EXTENSIONS and not offset:
        extensions += 1
        if extensions > MOST_EXTENSIONS or len(packet) < start + _SHORTEST_EXTENSION_BYTES:
            return None
        size = _SHORTEST_EXTENSION_BYTES
        if following == _FRAGMENT:
            offset = int.from_bytes(packet[start + 2 : start + 4], "big") >> 3
        else:
            if following == _ROUTING and packet[start + 3]:
                return None  # the destination is not where it goes
            size *= packet[start + 1] + 1
        following = packet[start]
        start += size
    return _head(
        packet,
        protocol=following,
        source=packet[8:24],
        destination=packet[24:40],
        offset=offset,
        start=start,
        is_quoted=is_quoted,
    )


def _head(
    packet: bytes,
    *,
    protocol: int,
    source: bytes,
    destination: bytes,
    offset: int,
    start: int,
    is_quoted: bool,
) -> Head | None:
    if offset:
        if protocol == TCP and offset == 1:
            return None  # it would overwrite the flags of the first fragment
        return Head(protocol, source, destination, None, start)
    size = _TRANSPORT_BYTES.get(protocol, 0)
    if len(packet) < start + (min(size, _QUOTED_BYTES) if is_quoted else size):
        return None
    if protocol in (TCP, UDP):
        ports = int.from_bytes(packet[start : start + 4], "big")
        numbers = (ports >> 16, ports & 0xFFFF)
    else:
        numbers = (0, packet[start] if size else 0)
    return Head(protocol, source, destination, numbers, start)
