"""CSTP frames: packets on the TLS connection, each behind eight bytes.

    byte 0..3   "STF" and 1
    byte 4..5   length of the payload, big-endian
    byte 6      kind
    byte 7      0

Source: protocol reference, section 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from anyvpn.errors import MalformedPacket, PacketTooLong

# From the protocol
MAGIC: Final = b"STF\x01"
HEADER_BYTES: Final = 8
LONGEST_RECEIVED_BYTES: Final = 16384  # of payload; a peer may spread a frame over two records
LONGEST_SENT_BYTES: Final = 16384 - HEADER_BYTES  # a frame must fit one TLS record
GOODBYE_BY_USER: Final = 0xB0

# Ours
LONGEST_GOODBYE_CHARACTERS: Final = 200  # it is for a log line

_HEADER = Struct(">IHBB")
_MAGIC_NUMBER: Final = int.from_bytes(MAGIC)


class PacketKind(IntEnum):
    """What a packet is, on CSTP and on DTLS alike."""

    DATA = 0
    DPD_REQUEST = 3
    DPD_RESPONSE = 4
    DISCONNECT = 5
    KEEPALIVE = 7
    COMPRESSED = 8
    TERMINATE = 9


_DATA: Final = int(PacketKind.DATA)


class _DataHeaders(dict[int, bytes]):
    """Length to header, each made once: flows repeat the same few lengths."""

    def __missing__(self, length: int) -> bytes:
        if length > LONGEST_SENT_BYTES:
            raise PacketTooLong(f"a packet of {length} bytes")
        header = _HEADER.pack(_MAGIC_NUMBER, length, PacketKind.DATA, 0)
        self[length] = header
        return header


_data_headers = _DataHeaders()


def frame_packet(kind: int, payload: bytes) -> bytes:
    """One frame, which must travel in one TLS record.

    Raises: PacketTooLong: the payload exceeds 16376 bytes.
    """
    if len(payload) > LONGEST_SENT_BYTES:
        raise PacketTooLong(f"a payload of {len(payload)} bytes")
    return _HEADER.pack(_MAGIC_NUMBER, len(payload), kind, 0) + payload


def frame_data(packets: Sequence[bytes]) -> list[bytes]:
    """A data frame for each packet, none of them empty.

    Raises: PacketTooLong: one exceeds 16376 bytes.
    """
    headers = _data_headers
    return [headers[len(packet)] + packet for packet in packets]


class FrameReader:
    """Cuts a TLS connection's bytes into frames, however they were cut into records.

    Holds one unfinished frame at most. There is no way to find the next frame behind a
    malformed one: after an error the connection is of no more use.
    """

    __slots__ = ("_broken", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._broken = False

    @property
    def unfinished(self) -> bytes:
        """The beginning of a frame that is not complete."""
        return bytes(self._rest)

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """The kind and the payload of each frame that is complete now, unknown kinds included.

        Raises: MalformedPacket: now, and at each call after it.
        """
        if self._broken:
            raise MalformedPacket("the stream is broken since an earlier frame")
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted_bytes():
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames: list[tuple[int, bytes]] = []
        begin, end = 0, len(data)
        while end - begin >= HEADER_BYTES:
            magic, length, kind, zero = _HEADER.unpack_from(data, begin)
            if magic != _MAGIC_NUMBER or zero or length > LONGEST_RECEIVED_BYTES:
                self._broken = True
                raise MalformedPacket("not a CSTP frame")
            payload_begin = begin + HEADER_BYTES
            following = payload_begin + length
            if following > end:
                break
            frames.append((kind, data[payload_begin:following]))
            begin = following
        if begin < end:
            self._rest += data[begin:] if begin else data
            self._wanted_bytes()
        return frames

    def _wanted_bytes(self) -> int:
        """How long the rest must be for a frame to be complete, as far as is known."""
        rest = self._rest
        length = int.from_bytes(rest[4:6]) if len(rest) >= HEADER_BYTES else 0
        zero = rest[7] if len(rest) >= HEADER_BYTES else 0
        if not MAGIC.startswith(rest[: len(MAGIC)]) or zero or length > LONGEST_RECEIVED_BYTES:
            self._broken = True
            self._rest.clear()
            raise MalformedPacket("not a CSTP frame")
        return HEADER_BYTES + length


def data_and_others(
    frames: Sequence[tuple[int, bytes]],
) -> tuple[list[bytes], list[tuple[int, bytes]]]:
    """Data packets, and the other frames with their kinds."""
    packets = [payload for kind, payload in frames if kind == _DATA]
    if len(packets) == len(frames):
        return packets, []
    return packets, [frame for frame in frames if frame[0] != _DATA]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Why a side disconnects; gateways give no reason at all.

    Source: protocol reference, section 9.3.
    """

    reason: int | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.reason is None and self.text:
            raise ValueError("a goodbye's text needs a reason before it")
        if self.reason is not None and not 0 <= self.reason <= 0xFF:
            raise ValueError("a goodbye's reason is one byte")

    @property
    def ends_session(self) -> bool:
        """Only the user's own goodbye gives up the token; the others may mean to come back."""
        return self.reason == GOODBYE_BY_USER


def read_goodbye(payload: bytes) -> Goodbye:
    """What a DISCONNECT says; nothing of it is too strange to be read."""
    if not payload:
        return Goodbye()
    text = payload[1 : 1 + LONGEST_GOODBYE_CHARACTERS].decode("utf-8", "replace")
    return Goodbye(payload[0], _printable(text))


def write_goodbye(goodbye: Goodbye) -> bytes:
    """The payload of a DISCONNECT."""
    if goodbye.reason is None:
        return b""
    text = _printable(goodbye.text).encode("ascii", "replace")
    return bytes([goodbye.reason]) + text[:LONGEST_GOODBYE_CHARACTERS]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
