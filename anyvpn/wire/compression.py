"""Compressed packets: oc-lz4 and lzs, packet by packet, and deflate, which remembers.

Off unless the operator switches it on: the length of what is compressed before it is encrypted
tells of its content.

Source: protocol reference, section 10.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

from anyvpn.errors import CompressionError
from anyvpn.wire.lzs import expand_lzs, shrink_lzs

try:
    from lz4 import block as _lz4_block
except ImportError:  # the extra "lz4" is not installed
    _lz4_block = None

# From the protocol
LONGEST_PACKET_BYTES: Final = 16384
_DEFLATE_WINDOW_BITS: Final = -12
_LONGEST_WINDOW_BITS: Final = -15  # expands streams of any window
_CHECKSUM_BYTES: Final = 4

# Ours
SMALLEST_COMPRESSED_BYTES: Final = 40  # as openconnect has it: less than this is all header

ENCODINGS: Final = (*(("oc-lz4",) if _lz4_block is not None else ()), "lzs", "deflate")
"""What can be offered or granted here, the best first."""

DTLS_ENCODINGS: Final = tuple(encoding for encoding in ENCODINGS if encoding != "deflate")
"""The same for DTLS, where packets are lost and nothing can be remembered."""


class Compressor(Protocol):
    """One direction of one channel, at the sender."""

    def compress(self, packet: bytes) -> bytes | None:
        """The payload of a COMPRESSED packet; None to send the packet as it is.

        With deflate each payload must be sent, in this order: the peer builds on it.
        """


class Expander(Protocol):
    """One direction of one channel, at the receiver."""

    def expand(self, payload: bytes) -> bytes:
        """The packet, at most 16384 bytes.

        Raises: CompressionError: after it, a deflate channel stays broken.
        """


def compressor(encoding: str) -> Compressor:
    """A new compressor of this encoding.

    Raises: ValueError: it is not one of ENCODINGS.
    """
    return _pair(encoding)[0]()


def expander(encoding: str) -> Expander:
    """A new expander of this encoding.

    Raises: ValueError: it is not one of ENCODINGS.
    """
    return _pair(encoding)[1]()


def _pair(encoding: str) -> tuple[type[Compressor], type[Expander]]:
    if encoding not in ENCODINGS:
        raise ValueError(f"no such encoding here: {encoding!r}")
    return _CLASSES[encoding]


def _worth_trying(packet: bytes) -> bool:
    return SMALLEST_COMPRESSED_BYTES <= len(packet) <= LONGEST_PACKET_BYTES


class _LZ4Compressor:
    def compress(self, packet: bytes) -> bytes | None:
        if not _worth_trying(packet):
            return None
        payload: bytes = _lz4_block.compress(packet, store_size=False)
        return payload if len(payload) < len(packet) else None


class _LZ4Expander:
    def expand(self, payload: bytes) -> bytes:
        if not payload:
            raise CompressionError("an empty LZ4 block")
        try:
            packet: bytes = _lz4_block.decompress(payload, uncompressed_size=LONGEST_PACKET_BYTES)
        except (_lz4_block.LZ4BlockError, ValueError, OverflowError):
            raise CompressionError("not an LZ4 block of at most 16384 bytes") from None
        return packet


class _LZSCompressor:
    def compress(self, packet: bytes) -> bytes | None:
        if not _worth_trying(packet):
            return None
        payload = shrink_lzs(packet)
        return payload if len(payload) < len(packet) else None


class _LZSExpander:
    def expand(self, payload: bytes) -> bytes:
        if len(payload) > LONGEST_PACKET_BYTES:
            raise CompressionError(f"a compressed packet of {len(payload)} bytes")
        return expand_lzs(payload, LONGEST_PACKET_BYTES)


class _DeflateCompressor:
    """Raw deflate over all packets; each ends in a sync flush and the checksum of all so far."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(wbits=_DEFLATE_WINDOW_BITS)
        self._checksum = zlib.adler32(b"")

    def compress(self, packet: bytes) -> bytes | None:
        if not _worth_trying(packet):
            return None
        self._checksum = zlib.adler32(packet, self._checksum)
        compressed = self._stream.compress(packet) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return compressed + self._checksum.to_bytes(_CHECKSUM_BYTES)


class _DeflateExpander:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=_LONGEST_WINDOW_BITS)
        self._checksum = zlib.adler32(b"")
        self._broken = False

    def expand(self, payload: bytes) -> bytes:
        if self._broken:
            raise CompressionError("the deflate stream is broken since an earlier packet")
        self._broken = True
        if not _CHECKSUM_BYTES < len(payload) <= 2 * LONGEST_PACKET_BYTES:
            raise CompressionError(f"a deflated packet of {len(payload)} bytes")
        try:
            packet = self._stream.decompress(payload[:-_CHECKSUM_BYTES], LONGEST_PACKET_BYTES + 1)
        except zlib.error:
            raise CompressionError("not a deflate stream") from None
        if len(packet) > LONGEST_PACKET_BYTES or self._stream.eof:
            raise CompressionError("a deflated packet that is too long, or the end of the stream")
        self._checksum = zlib.adler32(packet, self._checksum)
        if payload[-_CHECKSUM_BYTES:] != self._checksum.to_bytes(_CHECKSUM_BYTES):
            raise CompressionError("a deflated packet whose checksum is wrong")
        self._broken = False
        return packet


_CLASSES: Final[dict[str, tuple[type[Compressor], type[Expander]]]] = {
    "oc-lz4": (_LZ4Compressor, _LZ4Expander),
    "lzs": (_LZSCompressor, _LZSExpander),
    "deflate": (_DeflateCompressor, _DeflateExpander),
}
