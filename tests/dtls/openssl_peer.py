"""OpenSSL as the other side of a PSK handshake: an implementation that is not ours.

pyOpenSSL has no PSK calls; the callbacks are set through its binding, in tests only.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from anyvpn.dtls.records import split_datagram

_lib: Any = SSL._lib  # type: ignore[attr-defined]  # the binding has no public name
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]  # the binding has no public name

CIPHERS = b"PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256"


class OpenSSLPeer:
    """One DTLS connection over memory BIOs."""

    def __init__(
        self, *, is_client: bool, psk: bytes, ciphers: bytes = CIPHERS, hint: bytes = b""
    ) -> None:
        method = SSL.DTLS_CLIENT_METHOD if is_client else SSL.DTLS_SERVER_METHOD
        context = SSL.Context(method)
        context.set_cipher_list(ciphers)

        def give_key_to_client(
            ssl: Any, hint: Any, identity: Any, _: int, key: Any, __: int
        ) -> int:
            _ffi.memmove(identity, b"psk\0", 4)
            _ffi.memmove(key, psk, len(psk))
            return len(psk)

        def give_key_to_server(ssl: Any, identity: Any, key: Any, _: int) -> int:
            _ffi.memmove(key, psk, len(psk))
            return len(psk)

        native: Any = context._context
        if is_client:
            kind = (
                "unsigned int (*)(SSL *, const char *, char *, unsigned int,"
                " unsigned char *, unsigned int)"
            )
            self._callback = _ffi.callback(kind, give_key_to_client)
            _lib.SSL_CTX_set_psk_client_callback(native, self._callback)
        else:
            kind = "unsigned int (*)(SSL *, const char *, unsigned char *, unsigned int)"
            self._callback = _ffi.callback(kind, give_key_to_server)
            _lib.SSL_CTX_set_psk_server_callback(native, self._callback)
            if hint:
                assert _lib.SSL_CTX_use_psk_identity_hint(native, hint)
        self.connection = SSL.Connection(context, None)
        self.connection.set_ciphertext_mtu(1400)
        if is_client:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        self.is_complete = False

    def start(self) -> list[bytes]:
        return self.receive([])

    def receive(self, datagrams: list[bytes]) -> list[bytes]:
        for datagram in datagrams:
            self.connection.bio_write(datagram)
            self._advance()
        if not datagrams:
            self._advance()
        return self._take_datagrams()

    def _advance(self) -> None:
        try:
            if self.is_complete:
                self.connection.recv(1)
            else:
                self.connection.do_handshake()
                self.is_complete = True
        except SSL.WantReadError:
            return

    def seal(self, payload: bytes) -> list[bytes]:
        self.connection.send(payload)
        return self._take_datagrams()

    def open(self, record: bytes) -> bytes:
        self.connection.bio_write(record)
        return self.connection.recv(16384)

    def _take_datagrams(self) -> list[bytes]:
        """What OpenSSL wrote, one datagram per record."""
        try:
            written = self.connection.bio_read(65536)
        except SSL.WantReadError:
            return []
        return [record.whole(written) for record in split_datagram(written)]
