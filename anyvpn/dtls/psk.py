"""The PSK-NEGOTIATE handshake: plain PSK, the key being an export of the CSTP connection.

    client  ClientHello (the App-ID as session id)
    server  ServerHello (another session id), ServerHelloDone
    client  ClientKeyExchange (an identity of no meaning), ChangeCipherSpec, Finished
    server  ChangeCipherSpec, Finished

Written out here rather than left to OpenSSL, whose DTLS keeps time by the system's clock and
whose PSK calls are no public part of pyOpenSSL; what is left of it without certificates and
key exchange is little more than a resumption.

Source: protocol reference, section 12.1; RFC 4279; RFC 5487; RFC 7627.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from anyvpn.dtls.flights import DTLS10_BYTES
from anyvpn.dtls.handshake_messages import (
    CLIENT_KEY_EXCHANGE,
    EXTENDED_MASTER_SECRET,
    FINISHED,
    NO_RENEGOTIATION,
    RANDOM_BYTES,
    RENEGOTIATION_INFO,
    SERVER_HELLO_DONE,
    SERVER_KEY_EXCHANGE,
    ClientHello,
    Fragment,
    Message,
    read_psk_identity,
    write_psk_identity,
)
from anyvpn.dtls.hello_exchange import (
    ClientExchange,
    ServerExchange,
    answered_security,
    answered_size_limit,
)
from anyvpn.dtls.key_schedule import (
    MASTER_SECRET_BYTES,
    derive,
    psk_premaster,
    transcript_hash,
)
from anyvpn.dtls.suites import PSK_SUITES, Suite, Version
from anyvpn.errors import HandshakeFailed

if TYPE_CHECKING:
    from collections.abc import Callable

# From the protocol
SESSION_ID_BYTES: Final = 32
IDENTITY: Final = b"psk"


def _master_secret(
    suite: Suite, psk: bytes, randoms: bytes, transcript: bytes, *, extended: bool
) -> bytes:
    """The master secret, bound to the transcript when both sides are for it (RFC 7627)."""
    label, seed = b"master secret", randoms
    if extended:
        label = b"extended master secret"
        seed = transcript_hash(suite.hash_name, transcript)
    return derive(suite.hash_name, psk_premaster(psk), label, seed, MASTER_SECRET_BYTES)


class ServerPSK(ServerExchange):
    """The gateway's side of one PSK handshake; `psk` is the 32 bytes of the exporter."""

    def __init__(self, *, psk: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(version=Version.DTLS12, random=random)
        self._psk = psk
        self._server_random = b""
        self._extended = False

    def _asks_for_flight(self, fragment: Fragment) -> bool:
        """Our first flight is asked for by the hello again, our last one by Finished."""
        if self.keys is not None:
            return fragment.message_type == FINISHED
        return super()._asks_for_flight(fragment)

    def _message_received(self, message: Message) -> None:
        if not self._client_random:
            self._answer_hello(message)
        elif self._protected_keys is None:
            self._take_key_exchange(message)
        else:
            self._check_finished(message)
            self._begin_flight()
            self._add_finished()
            self._complete()

    def _answer_hello(self, message: Message) -> None:
        hello = self._read_hello(message)
        self.suite = next((suite for suite in PSK_SUITES if suite.code in hello.suites), None)
        if self.suite is None:
            raise HandshakeFailed("the ClientHello offers no PSK suite that we know")
        self._extended = hello.extension(EXTENDED_MASTER_SECRET) is not None
        self._begin_flight()
        # a session id of our own: to return the client's would mean to resume its session
        self._server_random = self._add_server_hello(
            self._random(SESSION_ID_BYTES),
            self.suite.code,
            answered_security(hello) + answered_size_limit(hello),
        )
        self._add_message(SERVER_HELLO_DONE, b"")

    def _take_key_exchange(self, message: Message) -> None:
        assert self.suite is not None
        if message.message_type != CLIENT_KEY_EXCHANGE:
            raise HandshakeFailed(f"message {message.message_type} where a key was due")
        read_psk_identity(message.body)  # any will do: the App-ID told which session it is
        self._sign(message)
        randoms = self._client_random + self._server_random
        self._master_secret = _master_secret(
            self.suite, self._psk, randoms, self._transcript, extended=self._extended
        )
        self._derive_keys(self._client_random, self._server_random)


class ClientPSK(ClientExchange):
    """The client's side of one PSK handshake; `session_id` is the App-ID."""

    def __init__(
        self, *, psk: bytes, session_id: bytes, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        super().__init__(version=Version.DTLS12, random=random)
        self._psk = psk
        self._session_id = session_id
        self._plaintext_version = DTLS10_BYTES
        self._server_random = b""
        self._extended = False

    def _make_hello(self) -> ClientHello:
        return ClientHello(
            Version.DTLS12.value,
            self._random(RANDOM_BYTES),
            self._session_id,
            tuple(suite.code for suite in PSK_SUITES),
            ((EXTENDED_MASTER_SECRET, b""), (RENEGOTIATION_INFO, NO_RENEGOTIATION)),
        )

    def _asks_for_flight(self, fragment: Fragment) -> bool:
        """The server's first flight, come again, says that our second did not arrive."""
        return (
            self.keys is None
            and self._protected_keys is not None
            and fragment.message_type == SERVER_HELLO_DONE
        )

    def _message_received(self, message: Message) -> None:
        if not self._server_random:
            self._take_hello(message)
        elif self._protected_keys is not None:
            self._check_finished(message)
            self._complete()
        elif message.message_type == SERVER_KEY_EXCHANGE:
            self._sign(message)  # a hint at an identity, of which there is but one
        elif message.message_type == SERVER_HELLO_DONE and not message.body:
            self._sign(message)
            self._send_key_exchange()
        else:
            raise HandshakeFailed(f"message {message.message_type} where none such was due")

    def _take_hello(self, message: Message) -> None:
        hello = self._read_hello(message)
        if hello is None:
            return
        if hello.session_id and hello.session_id == self._session_id:
            raise HandshakeFailed("the server resumes a session that never was")
        self.suite = next(suite for suite in PSK_SUITES if suite.code == hello.suite)
        self._extended = hello.extension(EXTENDED_MASTER_SECRET) is not None
        self._server_random = hello.random

    def _send_key_exchange(self) -> None:
        assert self.suite is not None and self._hello is not None
        self._begin_flight()
        self._add_message(CLIENT_KEY_EXCHANGE, write_psk_identity(IDENTITY))
        randoms = self._hello.random + self._server_random
        self._master_secret = _master_secret(
            self.suite, self._psk, randoms, self._transcript, extended=self._extended
        )
        self._derive_keys(self._hello.random, self._server_random)
        self._add_finished()
