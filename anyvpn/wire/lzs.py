"""LZS: the compression that Cisco gateways know, over strings of "0" and "1".

    literal      0, byte (8)
    match        1, offset, length
    offset       1, 1..127 (7)     or 0, 1..2047 (11)
    length       2: 00   3: 01   4: 10   5: 1100   6: 1101   7: 1110
                 8 and more: 1111, then groups of 4 that add up, 1111 for 15 and one to go on
    end          110000000, then zeros up to a byte

Python's own text and number conversions move the bits, so that no byte costs a loop of its own
on the way in.

Source: protocol reference, section 10.
"""

from __future__ import annotations

import re
from typing import Final

from anyvpn.errors import CompressionError

# From the protocol
_END: Final = "110000000"
_LITERAL_BITS: Final = 9
_LONGEST_NEAR_OFFSET: Final = 127
_LONGEST_OFFSET: Final = 2047
_LENGTH_CODES: Final = {2: "00", 3: "01", 4: "10", 5: "1100", 6: "1101", 7: "1110"}
_SMALLEST_LONG_LENGTH: Final = 8
_LENGTHS: Final = {code: length for length, code in _LENGTH_CODES.items()}

# Ours
_SHORTEST_MATCH_BYTES: Final = 3  # two bytes are found by chance too often to be worth a search
_COMPARED_AT_ONCE_BYTES: Final = 16

_LITERALS = re.compile(r"(?:0[01]{8})+")
_MATCH = re.compile(
    r"1(?:1([01]{7})|0([01]{11}))"
    r"(?:(00|01|10|1100|1101|1110)|1111((?:1111)*+)(0[01]{3}|10[01]{2}|110[01]|1110))"
)
_LITERAL_CODES: Final = tuple(f"{byte:09b}" for byte in range(256))


def expand_lzs(payload: bytes, limit_bytes: int) -> bytes:
    """The packet in `payload`, of at most `limit_bytes`; what follows the end is ignored.

    Raises: CompressionError.
    """
    bits = f"{int.from_bytes(payload):0{8 * len(payload)}b}"
    packet = bytearray()
    at = 0
    while True:
        literals = _LITERALS.match(bits, at)
        if literals is not None:
            run = bytearray(literals[0], "ascii")
            del run[::_LITERAL_BITS]
            packet += int(run, 2).to_bytes(len(run) // 8)
            at = literals.end()
        if len(packet) > limit_bytes:
            raise CompressionError(f"a packet of more than {limit_bytes} bytes")
        if bits.startswith(_END, at):
            return bytes(packet)
        match = _MATCH.match(bits, at)
        if match is None:
            raise CompressionError("an LZS packet without an end")
        at = match.end()
        near, far, short, groups, last_group = match.groups()
        offset = int(near or far, 2)
        if short:
            length = _LENGTHS[short]
        else:
            length = _SMALLEST_LONG_LENGTH + 15 * (len(groups) // 4) + int(last_group, 2)
        begin = len(packet) - offset
        if not offset or begin < 0:
            raise CompressionError("an LZS match before the packet's beginning")
        if len(packet) + length > limit_bytes:
            raise CompressionError(f"a packet of more than {limit_bytes} bytes")
        if length <= offset:
            packet += packet[begin : begin + length]
        else:
            packet += (packet[begin:] * (length // offset + 1))[:length]


def shrink_lzs(packet: bytes) -> bytes:
    """The packet in LZS, which may be longer than it was."""
    pieces: list[str] = []
    positions: dict[bytes, int] = {}
    at, end = 0, len(packet)
    while at < end:
        beginning = packet[at : at + _SHORTEST_MATCH_BYTES]
        earlier = positions.get(beginning)
        positions[beginning] = at
        if (
            earlier is None
            or at - earlier > _LONGEST_OFFSET
            or len(beginning) < _SHORTEST_MATCH_BYTES
        ):
            pieces.append(_LITERAL_CODES[packet[at]])
            at += 1
            continue
        length = _match_bytes(packet, earlier, at)
        offset = at - earlier
        near = offset <= _LONGEST_NEAR_OFFSET
        pieces.append(f"11{offset:07b}" if near else f"10{offset:011b}")
        pieces.append(_length_code(length))
        at += length
    pieces.append(_END)
    bits = "".join(pieces)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _match_bytes(packet: bytes, earlier: int, at: int) -> int:
    """How many bytes are the same from both places on; the ranges may overlap."""
    step = _COMPARED_AT_ONCE_BYTES
    length = _SHORTEST_MATCH_BYTES
    end = len(packet)
    while (
        at + length + step <= end
        and packet[earlier + length : earlier + length + step]
        == packet[at + length : at + length + step]
    ):
        length += step
    while at + length < end and packet[earlier + length] == packet[at + length]:
        length += 1
    return length


def _length_code(length: int) -> str:
    if length < _SMALLEST_LONG_LENGTH:
        return _LENGTH_CODES[length]
    full, last = divmod(length - _SMALLEST_LONG_LENGTH, 15)
    return "1111" + "1111" * full + f"{last:04b}"
