"""The hellos of a handshake: what each side does with them, whatever follows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from anyvpn.dtls.flights import FlightExchange
from anyvpn.dtls.handshake_messages import (
    CLIENT_HELLO,
    EXTENDED_MASTER_SECRET,
    HELLO_VERIFY_REQUEST,
    NO_RENEGOTIATION,
    RANDOM_BYTES,
    RECORD_SIZE_LIMIT,
    RENEGOTIATION_INFO,
    RENEGOTIATION_SCSV,
    SERVER_HELLO,
    ClientHello,
    Extensions,
    Fragment,
    Message,
    ServerHello,
    read_cookie,
)
from anyvpn.dtls.suites import Version
from anyvpn.errors import HandshakeFailed

if TYPE_CHECKING:
    from collections.abc import Callable

# From the protocol
NO_COMPRESSION: Final = 0
WHOLE_RECORDS: Final = (2**14).to_bytes(2, "big")  # RFC 8449, section 4
_RANDOM_IN_HELLO: Final = slice(2, 2 + RANDOM_BYTES)


def answered_size_limit(hello: ClientHello) -> Extensions:
    """The record_size_limit to answer: what we send fits, so only "no limit" is agreed to."""
    if hello.extension(RECORD_SIZE_LIMIT) == WHOLE_RECORDS:
        return ((RECORD_SIZE_LIMIT, WHOLE_RECORDS),)
    return ()


def answered_security(hello: ClientHello) -> Extensions:
    """The renegotiation_info and extended_master_secret to answer, each only if offered."""
    answers: list[tuple[int, bytes]] = []
    if hello.extension(RENEGOTIATION_INFO) is not None or RENEGOTIATION_SCSV in hello.suites:
        answers.append((RENEGOTIATION_INFO, NO_RENEGOTIATION))
    if hello.extension(EXTENDED_MASTER_SECRET) is not None:
        answers.append((EXTENDED_MASTER_SECRET, b""))
    return tuple(answers)


class ServerExchange(FlightExchange):
    """A server's part: take one ClientHello, and know it again."""

    def __init__(self, *, version: Version, random: Callable[[int], bytes]) -> None:
        super().__init__(version=version, is_client=False, random=random)
        self._client_random = b""

    def _asks_for_flight(self, fragment: Fragment) -> bool:
        """A hello that comes again says that our answer did not arrive."""
        return (
            fragment.message_type == CLIENT_HELLO
            and fragment.offset == 0
            and fragment.body[_RANDOM_IN_HELLO] == self._client_random
        )

    def _read_hello(self, message: Message) -> ClientHello:
        """Raises: HandshakeFailed: it is no hello, or one that no answer fits."""
        if message.message_type != CLIENT_HELLO or self._client_random:
            raise HandshakeFailed(f"message {message.message_type} where a hello was due")
        hello = ClientHello.read(message.body)
        wanted = self._version.value
        is_newer = self._version is Version.DTLS12 and (
            hello.version[:1] == wanted[:1] and hello.version[1] <= wanted[1]
        )  # the minor version of DTLS counts downwards
        if hello.version != wanted and not is_newer:
            raise HandshakeFailed(
                f"the ClientHello is of version {hello.version.hex()}, not {wanted.hex()}"
            )
        if NO_COMPRESSION not in hello.compressions:
            raise HandshakeFailed("the ClientHello insists on compression")
        self._client_random = hello.random
        self._sign(message)
        return hello

    def _add_server_hello(
        self, session_id: bytes, suite_code: int, extensions: Extensions
    ) -> bytes:
        """Put a ServerHello into the flight; gives its random."""
        random = self._random(RANDOM_BYTES)
        hello = ServerHello(self._version.value, random, session_id, suite_code, extensions)
        self._add_message(SERVER_HELLO, hello.write())
        return random


class ClientExchange(FlightExchange):
    """A client's part: send the hello, with a cookie the second time if the server asks."""

    def __init__(self, *, version: Version, random: Callable[[int], bytes]) -> None:
        super().__init__(version=version, is_client=True, random=random)
        self._hello: ClientHello | None = None

    def _make_hello(self) -> ClientHello:
        raise NotImplementedError

    def start(self, now_s: float) -> list[bytes]:
        """The datagrams of the first flight."""
        self._hello = self._make_hello()
        self._begin_flight()
        self._add_message(CLIENT_HELLO, self._hello.write())
        self._retransmission.begin(now_s)
        return self._send_flight()

    def _send_cookie(self, message: Message) -> None:
        """Send the hello again with the cookie; the first exchange is not signed.

        Source: RFC 6347, section 4.2.1.
        """
        if self._hello is None or self._hello.cookie:
            raise HandshakeFailed("the server asked for a cookie again")
        cookie = read_cookie(message.body)
        if not cookie:
            raise HandshakeFailed("the server asked for an empty cookie")
        self._hello = replace(self._hello, cookie=cookie)
        self._transcript = b""
        self._begin_flight()
        self._add_message(CLIENT_HELLO, self._hello.write())

    def _read_hello(self, message: Message) -> ServerHello | None:
        """The ServerHello, or None if this was a HelloVerifyRequest, which is dealt with.

        Raises: HandshakeFailed: it is neither, or not what was asked for.
        """
        if message.message_type == HELLO_VERIFY_REQUEST:
            self._send_cookie(message)
            return None
        if message.message_type != SERVER_HELLO or self._hello is None:
            raise HandshakeFailed(f"message {message.message_type} where a hello was due")
        hello = ServerHello.read(message.body)
        if hello.version != self._version.value:
            raise HandshakeFailed(f"the server chose version {hello.version.hex()}")
        if hello.suite not in self._hello.suites:
            raise HandshakeFailed(f"the server chose suite {hello.suite:04x}, never offered")
        if hello.compression != NO_COMPRESSION:
            raise HandshakeFailed("the server chose compression")
        self._plaintext_version = self._version.value
        self._sign(message)
        return hello
