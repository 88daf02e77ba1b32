"""What is inside a DTLS record: one byte of kind, then the packet.

Source: protocol reference, section 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from anyvpn.errors import MalformedPacket, PacketTooLong
from anyvpn.wire.cstp import PacketKind

# From the protocol
LONGEST_PACKET_BYTES: Final = 16384 - 1  # a record's plaintext without the kind

_DATA: Final = int(PacketKind.DATA)


class SplitPayloads(NamedTuple):
    """A batch, sorted: data packets, others with their kinds, and how many were no packets."""

    data: list[bytes]
    others: list[tuple[int, bytes]]
    malformed: int


def join_payload(kind: int, packet: bytes) -> bytes:
    """The payload of one record.

    Raises: PacketTooLong: the packet exceeds 16383 bytes.
    """
    if len(packet) > LONGEST_PACKET_BYTES:
        raise PacketTooLong(f"a packet of {len(packet)} bytes")
    return bytes((kind,)) + packet


def split_payload(payload: bytes) -> tuple[int, bytes]:
    """The kind and the packet of one record.

    Raises: MalformedPacket: nothing is there, or more than a record can hold.
    """
    if not 1 <= len(payload) <= 1 + LONGEST_PACKET_BYTES:
        raise MalformedPacket(f"a DTLS payload of {len(payload)} bytes")
    return payload[0], payload[1:]


def split_payloads(payloads: Sequence[bytes]) -> SplitPayloads:
    """Sort a batch of records; one that is malformed takes no other with it."""
    data = [payload[1:] for payload in payloads if payload and payload[0] == _DATA]
    others: list[tuple[int, bytes]] = []
    malformed = 0
    if len(data) != len(payloads):
        others = [(payload[0], payload[1:]) for payload in payloads if payload and payload[0]]
        malformed = len(payloads) - len(data) - len(others)
    return SplitPayloads(data, others, malformed)
