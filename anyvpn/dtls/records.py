"""DTLS records: cut them out of datagrams, seal and open them, refuse the same one twice."""

from __future__ import annotations

import os
from array import array
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anyvpn.dtls.cbc import CBCProtection
from anyvpn.errors import DTLSError
from anyvpn.model.channels import (
    AEAD_NONCE_BYTES,
    AEAD_TAG_BYTES,
    RECORD_HEADER_BYTES,
    DirectionKeys,
    RecordKeys,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "ALERT",
    "APPLICATION_DATA",
    "CHANGE_CIPHER_SPEC",
    "HANDSHAKE",
    "DirectionKeys",
    "Record",
    "RecordKeys",
    "RecordOpener",
    "RecordSealer",
    "hello_session_id",
    "split_datagram",
]

# From the protocol (RFC 6347, section 4.1; protocol reference, section 12.4)
CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
SEQUENCE_BITS: Final = 48
LONGEST_RECORD_BODY_BYTES: Final = 2**14 + 2048
_CLIENT_HELLO: Final = 1
_HANDSHAKE_HEADER_BYTES: Final = 12
_HELLO_VERSIONS: Final = (b"\x01\x00", b"\xfe\xff", b"\xfe\xfd")
_SESSION_ID_LENGTH_AT: Final = 59
_LONGEST_SESSION_ID_BYTES: Final = 32

# Ours
MOST_RECORDS_IN_DATAGRAM: Final = 64  # a flight has five; data comes one by one
WINDOW_RECORDS: Final = 1024  # must be a power of two; wide enough for two reordered bursts

_NEVER: Final = 0xFFFF  # the turn of slots that no number has been seen for

_HEADER = Struct(">B2sHHLH")  # content type, version, epoch, sequence (6 bytes), length
_AEAD_START = Struct(">3sQH8s")  # content type and version, epoch and sequence, length, nonce


class Record(NamedTuple):
    """Where one record lies in its datagram; `version` is the two bytes of its header."""

    content_type: int
    version: bytes
    epoch: int
    sequence: int
    body_range: range

    def body(self, datagram: bytes) -> bytes:
        """What follows the header."""
        return datagram[self.body_range.start : self.body_range.stop]

    def whole(self, datagram: bytes) -> bytes:
        """The record with its header, as `RecordOpener` wants it."""
        return datagram[self.body_range.start - RECORD_HEADER_BYTES : self.body_range.stop]


def split_datagram(datagram: bytes) -> list[Record]:
    """Find the records of a datagram, in order; what comes after a malformed one is dropped."""
    records: list[Record] = []
    offset = 0
    while len(datagram) - offset >= RECORD_HEADER_BYTES and len(records) < MOST_RECORDS_IN_DATAGRAM:
        content_type, version, epoch, high, low, length = _HEADER.unpack_from(datagram, offset)
        offset += RECORD_HEADER_BYTES
        if length > LONGEST_RECORD_BODY_BYTES or offset + length > len(datagram):
            break
        body_range = range(offset, offset + length)
        records.append(Record(content_type, version, epoch, high << 32 | low, body_range))
        offset += length
    return records


def hello_session_id(datagram: bytes) -> bytes | None:
    """The session id that a ClientHello names; None when this is none, or it names nothing.

    Source: protocol reference, section 12.4.
    """
    if len(datagram) <= _SESSION_ID_LENGTH_AT:
        return None
    content_type, version, epoch, _, _, length = _HEADER.unpack_from(datagram)
    hello_start = RECORD_HEADER_BYTES + _HANDSHAKE_HEADER_BYTES
    message_bytes = int.from_bytes(datagram[14:17], "big")
    fragment_offset = int.from_bytes(datagram[19:22], "big")
    fragment_bytes = int.from_bytes(datagram[22:25], "big")
    session_id_start = _SESSION_ID_LENGTH_AT + 1
    session_id_bytes = datagram[_SESSION_ID_LENGTH_AT]
    if (
        content_type != HANDSHAKE
        or version not in _HELLO_VERSIONS
        or epoch != 0
        or datagram[RECORD_HEADER_BYTES] != _CLIENT_HELLO
        or RECORD_HEADER_BYTES + length > len(datagram)
        or fragment_offset != 0
        or fragment_bytes > message_bytes
        or _HANDSHAKE_HEADER_BYTES + fragment_bytes > length
        or datagram[hello_start : hello_start + 2] not in _HELLO_VERSIONS
        or not 1 <= session_id_bytes <= _LONGEST_SESSION_ID_BYTES
        or session_id_start + session_id_bytes > hello_start + fragment_bytes
    ):
        return None
    return datagram[session_id_start : session_id_start + session_id_bytes]


class RecordSealer:
    """Seals what we send under one set of keys, each record under the next sequence number."""

    def __init__(self, keys: RecordKeys, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._version = keys.version
        self._next = keys.epoch << SEQUENCE_BITS | keys.write_sequence
        self._end = keys.epoch + 1 << SEQUENCE_BITS
        self._fixed_iv = keys.write.fixed_iv
        self._cbc: CBCProtection | None = None
        if keys.suite.mac_key_bytes:
            self._cbc = CBCProtection(keys.write, random)
        else:
            self._encrypt = AESGCM(keys.write.key).encrypt

    def seal(self, payload: bytes, content_type: int = APPLICATION_DATA) -> bytes:
        """Make one record.

        Raises: DTLSError: the sequence numbers of this epoch are used up.
        """
        return self._seal(content_type, b"", (payload,))[0]

    def seal_packets(self, kind: int, packets: Sequence[bytes]) -> list[bytes]:
        """Make one record per packet, with the kind byte before each.

        Raises: DTLSError: the sequence numbers of this epoch are used up.
        """
        return self._seal(APPLICATION_DATA, bytes((kind,)), packets)

    def _seal(self, content_type: int, kind: bytes, packets: Sequence[bytes]) -> list[bytes]:
        first = self._next
        end = first + len(packets)
        if end > self._end:
            raise DTLSError("no sequence number is left in this epoch")
        self._next = end
        head = bytes((content_type,)) + self._version
        sealed: list[bytes] = []
        if self._cbc is not None:
            for number, packet in enumerate(packets, first):
                sequence = number.to_bytes(8, "big")
                body = self._cbc.seal(sequence + head, kind + packet)
                sealed.append(head + sequence + len(body).to_bytes(2, "big") + body)
            return sealed
        encrypt = self._encrypt
        fixed_iv = self._fixed_iv
        append = sealed.append
        last_size = -1
        for number, packet in enumerate(packets, first):
            sequence = number.to_bytes(8, "big")
            size = len(packet)
            if size != last_size:
                last_size = size
                plain_bytes = len(kind) + size
                covered = head + plain_bytes.to_bytes(2, "big")
                body_bytes = plain_bytes + AEAD_NONCE_BYTES + AEAD_TAG_BYTES
                length = body_bytes.to_bytes(2, "big")
            explicit_nonce = sequence
            body = encrypt(fixed_iv + sequence, kind + packet, sequence + covered)
            append(b"".join((head, sequence, length, explicit_nonce, body)))
        return sealed


class RecordOpener:
    """Opens what the peer sends under one set of keys: one content type of one epoch.

    A record counts as `replayed` when its sequence number was seen before or is older than the
    window, and as `forged` when it does not authenticate. The window moves for authenticated
    records only. It is a ring with a slot per sequence number modulo its size, which holds in
    which turn of the ring that number was seen, counted modulo 65,535 so that two bytes hold it:
    a number within the window that its slot does not tell of cannot have been.
    """

    def __init__(
        self,
        keys: RecordKeys,
        *,
        content_type: int = APPLICATION_DATA,
        window_records: int = WINDOW_RECORDS,
    ) -> None:
        self.forged = 0
        self.replayed = 0
        self._head = bytes((content_type,)) + keys.version
        self._first = keys.epoch << SEQUENCE_BITS
        self._mask = window_records - 1
        self._shift = self._mask.bit_length()
        self._seen = array("H", [_NEVER]) * window_records
        self._highest = -1
        self._fixed_iv = keys.read.fixed_iv
        self._aead: AESGCM | None = None
        self._cbc: CBCProtection | None = None
        if keys.suite.mac_key_bytes:
            self._cbc = CBCProtection(keys.read, os.urandom)
        else:
            self._aead = AESGCM(keys.read.key)

    @property
    def highest(self) -> int:
        """The highest sequence number of a good record so far; -1 before the first."""
        return self._highest

    def open(self, record: bytes | memoryview) -> bytes | None:
        """The payload of one whole record, or None for one that is not good."""
        opened = self.open_records((bytes(record),))
        return opened[0] if opened else None

    def open_records(self, records: Sequence[bytes]) -> list[bytes]:
        """The payloads of those whole records, each `bytes`, that are good; in order."""
        payloads: list[bytes] = []
        place = 0
        while place < len(records):
            opened, place = self.open_leading(records, place)
            payloads += opened
            place += 1  # what is none of its records is passed over
        return payloads

    def open_leading(self, records: Sequence[bytes], start: int) -> tuple[list[bytes], int]:
        """The payloads of good records from `start` on, and where the first is that is foreign.

        Foreign is whatever is not one whole record of this content type and epoch.
        """
        head = self._head
        first = self._first
        seen = self._seen
        highest = self._highest
        mask = self._mask
        shift = self._shift
        fixed_iv = self._fixed_iv
        cbc = self._cbc
        decrypt = self._aead.decrypt if self._aead is not None else None
        smallest = RECORD_HEADER_BYTES + AEAD_NONCE_BYTES + AEAD_TAG_BYTES
        payloads: list[bytes] = []
        append = payloads.append
        last_size = -1
        body_bytes = 0
        covered = b""
        end = len(records)
        for place in range(start, end):
            record = records[place]
            size = len(record)
            if size != last_size:
                if not smallest <= size <= RECORD_HEADER_BYTES + LONGEST_RECORD_BODY_BYTES:
                    end = place
                    break
                last_size = size
                body_bytes = size - RECORD_HEADER_BYTES
                covered = head + (size - smallest).to_bytes(2, "big")
            type_and_version, number, length, nonce = _AEAD_START.unpack_from(record)
            number -= first
            if type_and_version != head or length != body_bytes or number >> SEQUENCE_BITS:
                end = place
                break
            slot = number & mask
            turn = (number >> shift) % _NEVER
            if number <= highest and (number < highest - mask or seen[slot] == turn):
                self.replayed += 1
                continue
            payload: bytes | None = None
            if decrypt is not None:
                try:
                    payload = decrypt(fixed_iv + nonce, record[21:], record[3:11] + covered)
                except InvalidTag:
                    payload = None  # counted below
            elif cbc is not None:
                payload = cbc.open(record[3:11] + head, record[13:])
            if payload is None:
                self.forged += 1
                continue
            seen[slot] = turn
            if number > highest:  # noqa: PLR1730 - max() would be one more call per packet
                highest = number
            append(payload)
        self._highest = highest
        return payloads, end
