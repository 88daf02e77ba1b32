"""IP and transport headers as one struct, to cut super-packets and to put them together."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct


@lru_cache(maxsize=256)
def tcp_layout(version: int, ip_bytes: int, tcp_bytes: int) -> Struct:
    """The struct of the headers of these sizes.

    IPv4: version and service (2), length, id, flags to protocol (4), checksum, addresses with
    options and ports (bytes), sequence, acknowledgement and offset (5), flags, window (2),
    checksum, the rest (bytes).
    IPv6: version to flow label (4), length, next header and hop limit (2), addresses with
    extensions and ports (bytes), then TCP as above.
    """
    start = f"!2sHH4sH{ip_bytes - 8}s" if version == 4 else f"!4sH2s{ip_bytes - 4}s"
    return Struct(f"{start}I5sB2sH{tcp_bytes - 18}s")


@lru_cache(maxsize=256)
def varying_layout(version: int, ip_bytes: int, headers_bytes: int) -> Struct:
    """The same headers by what differs between segments of one size, and what does not.

    IPv4: version to length (4), id, flags to protocol (4), checksum, addresses with options and
    ports (bytes), sequence, acknowledgement to window (8), checksum, the rest (bytes).
    IPv6: version to hop limit (8), addresses with extensions and ports (bytes), then as above.
    """
    start = f"!4sH4sH{ip_bytes - 8}s" if version == 4 else f"!8s{ip_bytes - 4}s"
    return Struct(f"{start}I8sH{headers_bytes - ip_bytes - 18}s")


@lru_cache(maxsize=64)
def udp_layout(version: int, ip_bytes: int) -> Struct:
    """IP and UDP header: IP and ports as in `tcp_layout`, then length and checksum."""
    start = f"!2sHH4sH{ip_bytes - 8}s" if version == 4 else f"!4sH2s{ip_bytes - 4}s"
    return Struct(f"{start}HH")
