"""Where the records of TLS begin and end, and how many of them have gone.

Whoever takes a connection's records over needs the number of the next one under the present keys.
TLS 1.2 counts from the change of ciphers, which can be seen; TLS 1.3 from the first record after
the handshake.
"""

from __future__ import annotations

# From the protocol (RFC 8446, section 5.1)
HEADER_BYTES = 5
_CHANGE_CIPHER_SPEC = 20
_TYPES = frozenset(range(20, 25))
_MAJOR_VERSION = 3
_LONGEST_BODY_BYTES = 2**14 + 2048


class RecordCount:
    """Counts the records of one direction."""

    __slots__ = ("is_broken", "since_ciphers", "since_handshake")

    def __init__(self) -> None:
        self.since_handshake = 0
        self.since_ciphers = 0
        self.is_broken = False
        """What came is no TLS: nothing can be said of it any more."""

    def take(self, data: bytes, most_bytes: int, *, only_one: bool = False) -> int:
        """Count whole records at the beginning of `data`; gives where the last of them ends.

        It goes on until `most_bytes` are reached. All is taken once it is no TLS.
        """
        at = 0
        while at < most_bytes and len(data) - at >= HEADER_BYTES and not self.is_broken:
            end = at + HEADER_BYTES + int.from_bytes(data[at + 3 : at + HEADER_BYTES], "big")
            self.is_broken = (
                data[at] not in _TYPES
                or data[at + 1] != _MAJOR_VERSION
                or end - at > HEADER_BYTES + _LONGEST_BODY_BYTES
            )
            if end > len(data):
                break
            count = 1
            if data[at] == _CHANGE_CIPHER_SPEC:
                self.since_ciphers = -1  # it is none of those after it
            elif not only_one:
                count = _alike(data, at, end - at, most_bytes)
            self.since_handshake += count
            self.since_ciphers += count
            at += count * (end - at)
            if only_one:
                break
        return len(data) if self.is_broken else at


def _alike(data: bytes, start: int, size: int, most_bytes: int) -> int:
    """How many whole records from `start` on have the same header as the first, which is whole.

    Packets in bulk have one length: their headers are compared byte by byte, all at once.
    """
    most = min(len(data) - start, most_bytes - start + size - 1) // size
    for place in range(start, start + HEADER_BYTES):
        column = data[place : start + most * size : size]
        most -= len(column.lstrip(column[:1]))
    return most
