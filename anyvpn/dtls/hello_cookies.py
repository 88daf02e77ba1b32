"""HelloVerifyRequest: make a client show that it receives what is sent to its address.

Not needed where a hello must name a live session by 32 random bytes; an operator may still want
it. Nothing is kept per client. Source: RFC 6347, section 4.2.1.
"""

from __future__ import annotations

import hmac
from typing import Final

from anyvpn.dtls.flights import DTLS10_BYTES
from anyvpn.dtls.handshake_messages import (
    CLIENT_HELLO,
    HELLO_VERIFY_REQUEST,
    ClientHello,
    Message,
    read_fragments,
    write_cookie,
)
from anyvpn.dtls.records import HANDSHAKE, split_datagram
from anyvpn.dtls.suites import Version
from anyvpn.errors import HandshakeFailed

COOKIE_BYTES: Final = 32


class HelloCookies:
    """Makes and checks cookies under one secret, which nobody else may know."""

    def __init__(self, cookie_secret: bytes) -> None:
        self._secret = cookie_secret

    def challenge(self, datagram: bytes, address: bytes) -> list[bytes] | None:
        """The datagrams to send to `address` for a hello; None if it brought the right cookie.

        Raises: HandshakeFailed: the datagram does not begin with a whole ClientHello.
        """
        record = next(iter(split_datagram(datagram)), None)
        if record is None or record.content_type != HANDSHAKE or record.epoch != 0:
            raise HandshakeFailed("no ClientHello")
        fragment = next(iter(read_fragments(record.body(datagram))), None)
        if (
            fragment is None
            or fragment.message_type != CLIENT_HELLO
            or len(fragment.body) != fragment.message_bytes
        ):
            raise HandshakeFailed("no whole ClientHello")
        hello = ClientHello.read(fragment.body)
        if hmac.compare_digest(hello.cookie, self._cookie(hello, address)):
            return None
        is_old = hello.version == Version.BAD_VER.value
        version = hello.version if is_old else DTLS10_BYTES
        body = write_cookie(version, self._cookie(hello, address))
        message = Message(HELLO_VERIFY_REQUEST, 0, body).encoded()
        # under the hello's own number: RFC 6347, section 4.2.1
        header = bytes((HANDSHAKE,)) + version + record.sequence.to_bytes(8, "big")
        return [header + len(message).to_bytes(2, "big") + message]

    def _cookie(self, hello: ClientHello, address: bytes) -> bytes:
        parts = (address, hello.version, hello.random, hello.session_id)
        covered = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return hmac.digest(self._secret, covered, "sha256")[:COOKIE_BYTES]
