"""Handshake messages: read, write, and put together from fragments.

A message is a header of 12 bytes (type, length (3), message sequence (2), fragment offset (3),
fragment length (3)) and a body. Source: RFC 6347, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from anyvpn.errors import HandshakeFailed

# From the protocol (RFC 5246, section 7.4; RFC 6347, section 4.3.2; protocol reference, 12.1)
HELLO_REQUEST: Final = 0
CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
HELLO_VERIFY_REQUEST: Final = 3
SERVER_KEY_EXCHANGE: Final = 12
SERVER_HELLO_DONE: Final = 14
CLIENT_KEY_EXCHANGE: Final = 16
FINISHED: Final = 20
HEADER_BYTES: Final = 12
RANDOM_BYTES: Final = 32
LONGEST_SESSION_ID_BYTES: Final = 32
EXTENDED_MASTER_SECRET: Final = 23
RECORD_SIZE_LIMIT: Final = 28
RENEGOTIATION_INFO: Final = 0xFF01
RENEGOTIATION_SCSV: Final = 0x00FF
NO_RENEGOTIATION: Final = b"\x00"

# Ours
LONGEST_MESSAGE_BYTES: Final = 4096  # hellos stay under 600 bytes; nothing else comes near
MOST_MESSAGES_AHEAD: Final = 8

Extensions = tuple[tuple[int, bytes], ...]


class Fragment(NamedTuple):
    """A piece of a message; all of it, nearly always."""

    message_type: int
    message_bytes: int
    message_sequence: int
    offset: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message."""

    message_type: int
    message_sequence: int
    body: bytes = field(repr=False)

    def encoded(self) -> bytes:
        """Header and body, as one fragment: so a message goes out, and so it is signed."""
        length = len(self.body).to_bytes(3, "big")
        sequence = self.message_sequence.to_bytes(2, "big")
        return bytes((self.message_type,)) + length + sequence + bytes(3) + length + self.body


def read_fragments(payload: bytes) -> list[Fragment]:
    """Cut a handshake record's payload; what comes after a malformed piece is dropped."""
    fragments: list[Fragment] = []
    offset = 0
    while len(payload) - offset >= HEADER_BYTES:
        message_bytes = int.from_bytes(payload[offset + 1 : offset + 4], "big")
        sequence = int.from_bytes(payload[offset + 4 : offset + 6], "big")
        fragment_offset = int.from_bytes(payload[offset + 6 : offset + 9], "big")
        fragment_bytes = int.from_bytes(payload[offset + 9 : offset + 12], "big")
        message_type = payload[offset]
        offset += HEADER_BYTES
        if offset + fragment_bytes > len(payload):
            break
        if fragment_offset + fragment_bytes > message_bytes:
            break
        body = payload[offset : offset + fragment_bytes]
        fragments.append(Fragment(message_type, message_bytes, sequence, fragment_offset, body))
        offset += fragment_bytes
    return fragments


@dataclass(slots=True)
class _Partial:
    """A message of which pieces are here: `missing` has a one for every byte that is not."""

    message_type: int
    body: bytearray
    missing: bytearray


class Reassembly:
    """Gives the peer's messages whole and in order, holding a bounded few that came early."""

    def __init__(self) -> None:
        self.next_sequence = 0
        self._partials: dict[int, _Partial] = {}

    def add(self, fragment: Fragment) -> None:
        """Keep a fragment; one that is too large, too far ahead or at odds is dropped."""
        ahead = fragment.message_sequence - self.next_sequence
        if not 0 <= ahead < MOST_MESSAGES_AHEAD:
            return
        if fragment.message_bytes > LONGEST_MESSAGE_BYTES:
            return
        partial = self._partials.get(fragment.message_sequence)
        if partial is None:
            partial = _Partial(
                fragment.message_type,
                bytearray(fragment.message_bytes),
                bytearray(b"\x01") * fragment.message_bytes,
            )
            self._partials[fragment.message_sequence] = partial
        elif (
            partial.message_type != fragment.message_type
            or len(partial.body) != fragment.message_bytes
        ):
            return
        end = fragment.offset + len(fragment.body)
        partial.body[fragment.offset : end] = fragment.body
        partial.missing[fragment.offset : end] = bytes(len(fragment.body))

    def next_message(self) -> Message | None:
        """Take the next message in order, if all of it is here."""
        partial = self._partials.get(self.next_sequence)
        if partial is None or any(partial.missing):
            return None
        del self._partials[self.next_sequence]
        message = Message(partial.message_type, self.next_sequence, bytes(partial.body))
        self.next_sequence += 1
        return message

    def skip_to(self, sequence: int) -> None:
        """Expect this message next, and forget the ones before it."""
        self.next_sequence = sequence
        self._partials = {at: kept for at, kept in self._partials.items() if at >= sequence}


class _Reader:
    """Takes a hello apart from its front."""

    def __init__(self, name: str, body: bytes) -> None:
        self._name = name
        self._body = body
        self._offset = 0

    def take(self, length: int) -> bytes:
        start = self._offset
        self._offset += length
        if self._offset > len(self._body):
            raise HandshakeFailed(f"the {self._name} is cut short")
        return self._body[start : self._offset]

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def vector(self, length_bytes: int) -> bytes:
        return self.take(self.number(length_bytes))

    def session_id(self) -> bytes:
        session_id = self.vector(1)
        if len(session_id) > LONGEST_SESSION_ID_BYTES:
            raise HandshakeFailed(f"the {self._name} has a session id of over 32 bytes")
        return session_id

    def extensions(self) -> Extensions:
        """The extensions, the last part of a hello; a hello may end without any."""
        if self._offset == len(self._body):
            return ()
        block = _Reader(self._name, self.vector(2))
        self.end()
        found: list[tuple[int, bytes]] = []
        while block._offset < len(block._body):
            found.append((block.number(2), block.vector(2)))
        return tuple(found)

    def end(self) -> None:
        if self._offset != len(self._body):
            raise HandshakeFailed(f"the {self._name} has bytes left over")


def _vector(length_bytes: int, content: bytes) -> bytes:
    return len(content).to_bytes(length_bytes, "big") + content


def _write_extensions(extensions: Extensions) -> bytes:
    if not extensions:
        return b""
    parts = (kind.to_bytes(2, "big") + _vector(2, content) for kind, content in extensions)
    return _vector(2, b"".join(parts))


def _find_extension(extensions: Extensions, kind: int) -> bytes | None:
    return next((content for found, content in extensions if found == kind), None)


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client offers; `version` is two bytes, `suites` are numbers."""

    version: bytes
    random: bytes
    session_id: bytes
    suites: tuple[int, ...]
    extensions: Extensions = ()
    cookie: bytes = b""
    compressions: bytes = b"\x00"

    @classmethod
    def read(cls, body: bytes) -> ClientHello:
        """Raises: HandshakeFailed: the body is malformed."""
        reader = _Reader("ClientHello", body)
        version = reader.take(2)
        random = reader.take(RANDOM_BYTES)
        session_id = reader.session_id()
        cookie = reader.vector(1)
        codes = reader.vector(2)
        if len(codes) % 2:
            raise HandshakeFailed("the ClientHello has half a cipher suite")
        suites = tuple(int.from_bytes(codes[at : at + 2], "big") for at in range(0, len(codes), 2))
        compressions = reader.vector(1)
        extensions = reader.extensions()
        return cls(version, random, session_id, suites, extensions, cookie, compressions)

    def write(self) -> bytes:
        """The body of the message."""
        return (
            self.version
            + self.random
            + _vector(1, self.session_id)
            + _vector(1, self.cookie)
            + _vector(2, b"".join(code.to_bytes(2, "big") for code in self.suites))
            + _vector(1, self.compressions)
            + _write_extensions(self.extensions)
        )

    def extension(self, kind: int) -> bytes | None:
        """The content of one extension, or None when it is not there."""
        return _find_extension(self.extensions, kind)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """What a server took of it."""

    version: bytes
    random: bytes
    session_id: bytes
    suite: int
    extensions: Extensions = ()
    compression: int = 0

    @classmethod
    def read(cls, body: bytes) -> ServerHello:
        """Raises: HandshakeFailed: the body is malformed."""
        reader = _Reader("ServerHello", body)
        version = reader.take(2)
        random = reader.take(RANDOM_BYTES)
        session_id = reader.session_id()
        suite = reader.number(2)
        compression = reader.number(1)
        return cls(version, random, session_id, suite, reader.extensions(), compression)

    def write(self) -> bytes:
        """The body of the message."""
        return (
            self.version
            + self.random
            + _vector(1, self.session_id)
            + self.suite.to_bytes(2, "big")
            + bytes((self.compression,))
            + _write_extensions(self.extensions)
        )

    def extension(self, kind: int) -> bytes | None:
        """The content of one extension, or None when it is not there."""
        return _find_extension(self.extensions, kind)


def read_cookie(body: bytes) -> bytes:
    """The cookie of a HelloVerifyRequest.

    Raises: HandshakeFailed: the body is malformed.
    """
    reader = _Reader("HelloVerifyRequest", body)
    reader.take(2)
    cookie = reader.vector(1)
    reader.end()
    return cookie


def write_cookie(version: bytes, cookie: bytes) -> bytes:
    """The body of a HelloVerifyRequest."""
    return version + _vector(1, cookie)


def read_psk_identity(body: bytes) -> bytes:
    """The identity in a ClientKeyExchange of plain PSK.

    Raises: HandshakeFailed: the body is malformed. Source: RFC 4279, section 2.
    """
    reader = _Reader("ClientKeyExchange", body)
    identity = reader.vector(2)
    reader.end()
    return identity


def write_psk_identity(identity: bytes) -> bytes:
    """The body of a ClientKeyExchange of plain PSK."""
    return _vector(2, identity)
