"""A real OpenSSL client of a stream whose records the compiled core keeps."""

from __future__ import annotations

import socket
from contextlib import suppress

from OpenSSL import SSL
from zope.interface import implementer

from anyvpn.interfaces import IHandedOverStream, IRecordKeeper
from anyvpn.model.channels import ReturnedConnection, TLSKeys, TLSRecords
from anyvpn.packets.tls_in_memory import TLSInMemory
from anyvpn.packets.tls_keys import TLSSecrets
from tests.gateway.memory_tls import HOST, authority, client_context

TLS13_SUITES = (
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
)
TLS12_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
)

_GREETING = b"hello"


def _limited(context: SSL.Context, suites: tuple[str, ...]) -> SSL.Context:
    if suites[0].startswith("TLS_"):
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(":".join(suites).encode())
    else:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(":".join(suites).encode())
    return context


@implementer(IHandedOverStream)
class OpenSSLClient:
    """Both ends after the handshake: the server's records can be handed over, `tls` is the client.

    As a stream it is that of the server, and hands its records over at once.
    """

    encoding = ""

    def __init__(self, *suites: str) -> None:
        self.secrets = TLSSecrets()
        context = _limited(SSL.Context(SSL.TLS_SERVER_METHOD), suites)
        authority().issue_cert(HOST).configure_cert(context)
        self.secrets.watch(context)
        self._server = SSL.Connection(context, None)
        self._server.set_accept_state()
        self.memory = TLSInMemory(self._server)
        self.tls = SSL.Connection(_limited(client_context(), suites), None)
        self.tls.set_connect_state()
        self.ours, self.socket = socket.socketpair()
        self.ours.setblocking(False)
        self.socket.settimeout(10)
        self.ended: list[str] = []
        while not self.memory.shake_hands(is_client=False):
            self._advance()
            self.memory.feed(self.made())
        self._advance()
        self.memory.encrypt((_GREETING,), len(_GREETING))  # session tickets go along with it
        self._take(self.memory.take())
        self.tls.recv(len(_GREETING))

    def _advance(self) -> None:
        self._take(self.memory.take())
        with suppress(SSL.WantReadError):
            self.tls.do_handshake()

    def _take(self, data: bytes) -> None:
        if data:
            self.tls.bio_write(data)

    def made(self) -> bytes:
        """What the client has for the server."""
        made = b""
        with suppress(SSL.WantReadError):
            while True:
                made += self.tls.bio_read(1 << 16)
        return made

    def keys(self) -> TLSKeys | None:
        """Those of the server."""
        return self.secrets.keys_of(self._server, is_client=False)

    def send(self, data: bytes) -> None:
        """By the client, with whatever else it has to say."""
        self.tls.send(data)
        self.socket.sendall(self.made())

    def receive(self, size: int) -> bytes:
        """By the client."""
        data = b""
        while len(data) < size:
            try:
                data += self.tls.recv(size - len(data))
            except SSL.WantReadError:
                self._take(self.socket.recv(1 << 16))
        return data

    # --- as a stream ----------------------------------------------------------------------------

    def hand_over(self, keeper: IRecordKeeper) -> None:
        """The keeper gets all at once."""
        keys = self.keys()
        assert keys is not None
        sent, received = (
            each.since_handshake if keys.is_tls13 else each.since_ciphers
            for each in (self.memory.sent, self.memory.received)
        )
        unread = self.memory.unread
        keeper.keep(TLSRecords(self.ours.detach(), keys, sent, received, unread))

    def take_back(self, returned: ReturnedConnection) -> None:
        """The last words, which nobody may hear."""
        self.ours = socket.socket(fileno=returned.descriptor)
        with suppress(BrokenPipeError):
            self.ours.sendall(returned.unsent)

    def end(self, reason: str) -> None:
        """The core found an end."""
        self.ended.append(reason)

    def close(self) -> None:
        """Both sockets."""
        self.ours.close()
        self.socket.close()
