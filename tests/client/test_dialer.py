"""Tests of anyvpn.client.dialer: which certificate a gateway is shown, in real handshakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import trustme
from OpenSSL import SSL, crypto
from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from anyvpn.client.credentials import ClientCredential, load_credential
from anyvpn.client.dialer import Dialer
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import TrustSettings

HOST = "127.0.0.1"
AUTHORITY = trustme.CA(key_type=trustme.KeyType.ECDSA)
SERVER = AUTHORITY.issue_cert(HOST, key_type=trustme.KeyType.ECDSA)


@implementer(IHandshakeListener)
class Checked(Protocol):
    """Tells when the gateway's side has read all that the client shows of itself."""

    checked: DeferredQueue[None]

    def handshakeCompleted(self) -> None:
        self.checked.put(None)


class Asking:
    """Asks for a client's certificate, of these authorities or of any; keeps whose it was."""

    def __init__(self, *authorities: trustme.CA) -> None:
        self.names = [
            crypto.load_certificate(crypto.FILETYPE_PEM, each.cert_pem.bytes()).get_subject()
            for each in authorities
        ]
        self.shown: list[str] = []

    def getContext(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        SERVER.configure_cert(context)
        context.set_verify(SSL.VERIFY_PEER, self.look)
        context.set_client_ca_list(self.names)
        return context

    def look(self, _: object, shown: crypto.X509, error: int, depth: int, *__: object) -> bool:
        if depth == 0 and str(shown.get_subject().CN) not in self.shown:
            self.shown.append(str(shown.get_subject().CN))
        return True


class CertificateTests(TestCase):
    def credential(self, name: str, authority: trustme.CA) -> ClientCredential:
        issued = authority.issue_cert(common_name=name, key_type=trustme.KeyType.ECDSA)
        path = Path(self.mktemp())
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return load_credential(path)

    async def dial(self, asking: Asking, *, is_wanted: bool, connections: int) -> list[str]:
        """What the gateway is shown of two certificates, of alice and of bob."""
        ca_file = Path(self.mktemp())
        AUTHORITY.cert_pem.write_to_path(ca_file)
        self.bobs = getattr(self, "bobs", trustme.CA(key_type=trustme.KeyType.ECDSA))
        both = (self.credential("alice", AUTHORITY), self.credential("bob", self.bobs))
        settings = ClientSettings(trust=TrustSettings(ca_file), credentials=both)
        Checked.checked = DeferredQueue()
        factory = Factory.forProtocol(Checked)
        listening = cast(Any, reactor).listenSSL(0, factory, asking, interface=HOST)
        dialer = Dialer(cast(Any, reactor), settings, lambda _: None)
        dialer.is_wanted = is_wanted
        try:
            stream, _ = await dialer.dial(GatewayURL(HOST, listening.getHost().port))
            for _ in range(connections):
                await Checked.checked.get()
            stream.abort("seen")
        finally:
            await listening.stopListening()
        return asking.shown

    async def test_named_authorities_choose(self) -> None:
        self.bobs = trustme.CA(key_type=trustme.KeyType.ECDSA)
        assert await self.dial(Asking(self.bobs), is_wanted=False, connections=2) == ["bob"]

    async def test_a_gateway_that_names_none_and_has_not_asked_sees_none(self) -> None:
        assert await self.dial(Asking(), is_wanted=False, connections=1) == []

    async def test_a_gateway_that_names_none_and_asks_in_words_sees_the_first(self) -> None:
        assert await self.dial(Asking(), is_wanted=True, connections=2) == ["alice"]
