"""Opens TLS connections to the gateway, each checked before anything is said (phase 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from anyvpn.client.credentials import ClientCredential, choose_credential
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.outer_connection import connect_outer
from anyvpn.client.settings import ClientSettings, ProxySettings
from anyvpn.client.trust import AcceptedCertificate, GatewayTrust
from anyvpn.errors import GatewayUnreachable
from anyvpn.model.client_events import CertificateWarning, ClientEvent
from anyvpn.packets.stream import TLSStream

log = Logger()


class Dialer:
    """Knows whom to trust and what to show of ourselves.

    A gateway is shown the one certificate that there is; of several, the one that fits the
    names of authorities that it asks with, which takes a second connection.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        settings: ClientSettings,
        tell: Callable[[ClientEvent], None],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._tell = tell
        self._trust = GatewayTrust(settings.trust)
        self.credential: ClientCredential | None = settings.machine_credential
        if self.credential is None and len(settings.credentials) == 1:
            [self.credential] = settings.credentials
        self.is_wanted = False
        """Whether the gateway has asked for a certificate outside TLS: then names are no matter."""
        self._contexts: dict[bool, SSL.Context] = {}
        self._proxy_address = ""
        """Where the proxy was last: inside the tunnel its name may mean nothing."""

    @property
    def may_choose(self) -> bool:
        """Whether there are several certificates, of which none is chosen yet."""
        return self.credential is None and len(self._settings.credentials) > 1

    async def dial(
        self, url: GatewayURL, address: str = "", accepted: AcceptedCertificate | None = None
    ) -> tuple[TLSStream, AcceptedCertificate]:
        """A connection whose certificate is accepted, with whose it is.

        `address` is where to go instead of where the name leads; `accepted` is what this login
        was begun with, and what every further connection must show too.

        Raises: GatewayUnreachable, GatewayUntrusted.
        """
        try:
            stream = await self._open(url, address, accepted)
        except GatewayUnreachable:
            # It may have wanted a certificate, and have told us whose
            if not (self.may_choose and self._choose(self._asked_by)):
                raise
            stream = await self._open(url, address, accepted)
        else:
            if self.may_choose and self._choose(self._asked_by):
                stream.close()
                stream = await self._open(url, address, accepted)
        verdict = self._trust.verdict(stream.tls)
        if verdict.warning:
            self._tell(CertificateWarning(verdict.warning, verdict.pin))
        return stream, verdict

    async def _open(
        self, url: GatewayURL, address: str, accepted: AcceptedCertificate | None
    ) -> TLSStream:
        settings = self._settings
        handshake = _Handshake(url.authority)
        stream = TLSStream(
            self._reactor,
            self._context(),
            handshake,
            is_client=True,
            server_name=None if url.names_address else url.host,
            handshake_time_s=settings.connect_time_s,
            secrets=self._trust.secrets,
        )
        self._asked_by = stream.tls
        self._trust.watch(stream.tls, url.host, url.port, accepted)
        try:
            await connect_outer(
                self._reactor,
                stream,
                address or settings.resolve.get(url.host, url.host),
                url.port,
                proxy=self._proxy(),
                time_s=settings.connect_time_s,
            )
            await handshake.done
        except GatewayUnreachable:
            self._proxy_address = ""
            refusal = self._trust.refusal(stream.tls)
            if refusal is not None:
                raise refusal from None
            raise
        except BaseException:
            handshake.done.addErrback(lambda _: None)  # nobody waits for it any more
            stream.abort("cancelled here")
            raise
        if settings.proxy is not None:
            self._proxy_address = stream.peer_address()
        return stream

    def _proxy(self) -> ProxySettings | None:
        proxy = self._settings.proxy
        if proxy is None or not self._proxy_address:
            return proxy
        return replace(proxy, host=self._proxy_address)

    def _context(self) -> SSL.Context:
        key = self.credential is not None
        if key not in self._contexts:
            self._contexts[key] = self._trust.new_context(
                self.credential, self._settings.minimum_tls_version, self._settings.tls_ciphers
            )
        return self._contexts[key]

    def _choose(self, tls: SSL.Connection) -> bool:
        """Take the certificate that the gateway asks for; gives whether there is one."""
        names = tls.get_client_ca_list()
        if not names and not self.is_wanted:
            return False
        self.credential = choose_credential(self._settings.credentials, names)
        if self.credential is not None:
            log.info("The gateway is shown the certificate {name}", name=self.credential.subject)
        return self.credential is not None


class _Handshake:
    """The reader of a stream until it is secured."""

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self.done: Deferred[None] = Deferred(lambda _: None)

    def secured(self) -> None:
        """The gateway is accepted."""
        if not self.done.called:
            self.done.callback(None)

    def received(self, data: bytes) -> None:
        """Nobody reads yet, and gateways speak when they are spoken to."""

    def closed(self, reason: str) -> None:
        """It is over."""
        if not self.done.called:
            self.done.errback(GatewayUnreachable(f"{self._authority}: {reason}"))
