"""Inner packets for tests: UDP over IPv4 and IPv6 with a text of one's choice."""

from __future__ import annotations

import struct

# From the protocol
DO_NOT_FRAGMENT = 0x4000

# Ours: an address outside of every tunnel (RFC 5737)
ANYWHERE = bytes((198, 51, 100, 7))


def ipv4_packet(
    source: bytes, destination: bytes, text: bytes = b"", *, flags: int = DO_NOT_FRAGMENT
) -> bytes:
    """An IPv4 packet with a good header checksum; UDP's is left out, as UDP allows."""
    udp = struct.pack("!HHHH", 4000, 4001, 8 + len(text), 0) + text
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 9, flags, 64, 17, 0)
    header += source + destination
    checksum = -int.from_bytes(header, "big") % 0xFFFF
    return header[:10] + checksum.to_bytes(2, "big") + header[12:] + udp


def ipv6_packet(source: bytes, destination: bytes, text: bytes = b"") -> bytes:
    """An IPv6 packet whose UDP checksum is left out, which no host would accept."""
    udp = struct.pack("!HHHH", 4000, 4001, 8 + len(text), 0) + text
    return struct.pack("!IHBB", 0x60000000, len(udp), 17, 64) + source + destination + udp
