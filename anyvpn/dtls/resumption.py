"""The abbreviated handshake over a master secret that CONNECT handed over.

"Resuming" a session that never was: both sides know the session id and the master secret, so
hellos and Finished messages are all there is, without certificates or key exchange.

    client  ClientHello
    server  ServerHello (same session id), ChangeCipherSpec, Finished
    client  ChangeCipherSpec, Finished

Source: protocol reference, sections 12.2 and 12.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyvpn.dtls.handshake_messages import (
    FINISHED,
    LONGEST_SESSION_ID_BYTES,
    NO_RENEGOTIATION,
    RANDOM_BYTES,
    RENEGOTIATION_INFO,
    ClientHello,
    Fragment,
    Message,
)
from anyvpn.dtls.hello_exchange import ClientExchange, ServerExchange, answered_size_limit
from anyvpn.dtls.key_schedule import MASTER_SECRET_BYTES
from anyvpn.dtls.suites import Suite, Version
from anyvpn.errors import HandshakeFailed

if TYPE_CHECKING:
    from collections.abc import Callable


def _check_agreed(session_id: bytes, master_secret: bytes) -> None:
    """Raises: ValueError: CONNECT cannot have agreed on these."""
    if not 1 <= len(session_id) <= LONGEST_SESSION_ID_BYTES:
        raise ValueError("a session id has 1 to 32 bytes")
    if len(master_secret) != MASTER_SECRET_BYTES:
        raise ValueError("a master secret has 48 bytes")


class ServerResumption(ServerExchange):
    """The gateway's side of one resumption."""

    def __init__(
        self,
        *,
        version: Version,
        suite: Suite,
        session_id: bytes,
        master_secret: bytes,
        random: Callable[[int], bytes],
    ) -> None:
        _check_agreed(session_id, master_secret)
        super().__init__(version=version, random=random)
        self.suite = self._agreed_suite = suite
        self._session_id = session_id
        self._master_secret = master_secret

    def _message_received(self, message: Message) -> None:
        if not self._client_random:
            self._answer_hello(message)
        else:
            self._check_finished(message)
            self._complete()

    def _answer_hello(self, message: Message) -> None:
        hello = self._read_hello(message)
        if hello.session_id != self._session_id:
            raise HandshakeFailed("the ClientHello names another session")
        if self._agreed_suite.code not in hello.suites:
            raise HandshakeFailed("the ClientHello does not offer the suite agreed on")
        self._begin_flight()
        # no renegotiation_info, offered or not: ocserv gives none, and known clients want none
        server_random = self._add_server_hello(
            self._session_id, self._agreed_suite.code, answered_size_limit(hello)
        )
        self._derive_keys(hello.random, server_random)
        self._add_finished()


class ClientResumption(ClientExchange):
    """The client's side of one resumption."""

    def __init__(
        self,
        *,
        version: Version,
        suite: Suite,
        session_id: bytes,
        master_secret: bytes,
        random: Callable[[int], bytes],
    ) -> None:
        _check_agreed(session_id, master_secret)
        super().__init__(version=version, random=random)
        self.suite = self._agreed_suite = suite
        self._session_id = session_id
        self._master_secret = master_secret

    def _make_hello(self) -> ClientHello:
        # version 0x0100 is older than extensions are
        is_old = self._version is Version.BAD_VER
        return ClientHello(
            self._version.value,
            self._random(RANDOM_BYTES),
            self._session_id,
            (self._agreed_suite.code,),
            () if is_old else ((RENEGOTIATION_INFO, NO_RENEGOTIATION),),
        )

    def _asks_for_flight(self, fragment: Fragment) -> bool:
        """A Finished that comes again says that ours, which is the last, did not arrive."""
        return self.keys is not None and fragment.message_type == FINISHED

    def _message_received(self, message: Message) -> None:
        if self._opening_seen and self._protected_keys is not None:
            self._check_finished(message)
            self._begin_flight()
            self._add_finished()
            self._complete()
            return
        hello = self._read_hello(message)
        if hello is None or self._hello is None:
            return
        if hello.session_id != self._session_id:
            raise HandshakeFailed("the server began a full handshake instead of resuming")
        self._derive_keys(self._hello.random, hello.random)
