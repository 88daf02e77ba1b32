"""The client: phases 1 to 6 against a gateway as one coroutine.

client = VPNClient(reactor, "vpn.example.com", responder, adapters)
tunnel = await client.connect()
print(await tunnel.wait_closed())
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.logger import Logger

from anyvpn.client.authentication import Authentication
from anyvpn.client.dialer import Dialer
from anyvpn.client.downloads import download_profiles
from anyvpn.client.gateway_url import GatewayURL, parse_gateway_url
from anyvpn.client.http_session import HTTPSession
from anyvpn.client.login import Login
from anyvpn.client.profile_store import ProfileStore
from anyvpn.client.settings import ClientSettings
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.tunnel_request import OpenedTunnel, open_tunnel
from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.errors import AnyvpnError, ConfigurationError, GatewayUnreachable
from anyvpn.interfaces import IAdapterBackend, IResponder
from anyvpn.model.authentication import ClientMessage, ClientMessageKind
from anyvpn.model.client_events import ClientEvent, Phase, PhaseEntered
from anyvpn.model.group_policy import Address
from anyvpn.wire.authentication import write_client_message
from anyvpn.wire.cookies import SESSION_COOKIE

log = Logger()

# Ours
LOGOUT_TIME_S = 5.0


def _nobody_follows(event: ClientEvent) -> None:
    """Events of a client that nobody follows."""


class VPNClient:
    """One gateway, one user; each `connect` is a tunnel of its own.

    `responder` answers what the gateway asks; `adapters` makes the tun device, and may be left
    out for `authenticate` alone. `on_event` hears of everything, on the reactor's thread.

    Raises: ConfigurationError: the URL or a file of the settings is wrong.
    """

    def __init__(
        self,
        reactor: ClientReactor,
        url: GatewayURL | str,
        responder: IResponder,
        adapters: IAdapterBackend | None = None,
        settings: ClientSettings | None = None,
        *,
        on_event: Callable[[ClientEvent], None] = _nobody_follows,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.url = parse_gateway_url(url) if isinstance(url, str) else url
        self._reactor = reactor
        self._responder = responder
        self._adapters = adapters
        self._settings = ClientSettings() if settings is None else settings
        self._on_event = on_event
        self._random = random
        self._dialer = Dialer(reactor, self._settings, self._tell)
        self._store = ProfileStore(self._settings.profile_directory)
        self._login_session: HTTPSession | None = None

    async def authenticate(self, address: str = "") -> Login:
        """Phases 1 to 3: from the TLS handshake to the session token.

        The connection stays open for `connect`; who does not go on calls `close`.
        `address` is tried before the gateway's name is looked up, which may take the VPN itself.

        Raises: GatewayUnreachable, GatewayUntrusted, LoginDenied, LoginAborted, PeerError.
        """
        self.close()
        self._tell(PhaseEntered(Phase.TLS, str(self.url)))
        session = self._new_session(self.url)
        session.address = address
        try:
            await self._connect(session)
            authentication = Authentication(
                session, self._dialer, self._responder, self._settings, self._tell
            )
            login = await authentication.log_in()
        except BaseException:
            session.close()
            raise
        self._login_session = session
        return login

    async def connect(self, login: Login | None = None) -> VPNTunnel:
        """Phases 1 to 5, or from 5 on with a login; phase 6 goes on in the background.

        Cancelling undoes everything; a session that was begun here ends at the gateway too.

        Raises: what `authenticate` raises; ProfileUnavailable, TokenRejected, TunnelRefused,
            TunUnavailable.
        """
        if self._adapters is None:
            raise ConfigurationError("a tunnel needs an adapter")
        if login is not None:
            return await self._open_tunnel(login, self._adapters)
        try:
            login = await self.log_in()
            return await self._open_tunnel(login, self._adapters)
        except BaseException:
            if login is not None:
                await self.log_out(login)
            raise

    async def _open_tunnel(self, login: Login, adapters: IAdapterBackend) -> VPNTunnel:
        self._tell(PhaseEntered(Phase.CSTP))
        try:
            opened = await self.open_link(login, ())
        finally:
            self.close()
        tunnel = VPNTunnel(
            self._reactor, self, login, self._settings, tell=self._tell, random=self._random
        )
        await tunnel.start(opened, adapters)
        return tunnel

    def close(self) -> None:
        """Let go of the connection that `authenticate` leaves for `connect`; tunnels stay."""
        session, self._login_session = self._login_session, None
        if session is not None:
            session.close()

    # --- what tunnels ask for (TunnelSource) --------------------------------------------------

    async def log_in(self, address: str = "") -> Login:
        """Phases 1 to 4. Raises: what `authenticate` raises, ProfileUnavailable."""
        login = await self.authenticate(address)
        try:
            await download_profiles(
                login,
                lambda url: self._new_session(url, login),
                self._store,
                required=self._settings.profiles_required,
                tell=self._tell,
            )
        except BaseException:
            self.close()
            raise
        return login

    async def open_link(self, login: Login, wishes: tuple[Address, ...]) -> OpenedTunnel:
        """CONNECT, on the connection of the login when it is still open."""
        session, self._login_session = self._login_session, None
        if session is None or not session.url.is_same_gateway(login.url):
            session = self._new_session(login.url, login)
        try:
            return await open_tunnel(
                session,
                login,
                self._settings,
                wishes=wishes,
                random=self._random,
                tell=self._tell,
            )
        finally:
            session.close()

    async def log_out(self, login: Login) -> None:
        """Post a logout where the gateway knows one; whatever comes of it is of no matter."""
        if not (self._settings.logout and login.session_id):
            return
        session = self._new_session(login.url, login)
        session.cookies[SESSION_COOKIE] = login.token
        message = ClientMessage(
            ClientMessageKind.LOGOUT,
            client=self._settings.description,
            session_id=login.session_id,
            session_token=login.token,
        )
        posting = Deferred.fromCoroutine(session.request("POST", write_client_message(message)))
        try:
            await posting.addTimeout(LOGOUT_TIME_S, self._reactor)
        except (AnyvpnError, NotInTime) as error:
            log.debug("The logout was not heard: {why!r}", why=error)
        finally:
            session.close()

    # --- within -------------------------------------------------------------------------------

    @staticmethod
    async def _connect(session: HTTPSession) -> None:
        try:
            await session.connection()
        except GatewayUnreachable:
            if not session.address:
                raise
            session.address = ""
            await session.connection()

    def _tell(self, event: ClientEvent) -> None:
        """Whoever follows may fail; the tunnel does not."""
        try:
            self._on_event(event)
        except Exception:
            log.failure("{follower} cannot take {event}", follower=self._on_event, event=event)

    def _new_session(self, url: GatewayURL, login: Login | None = None) -> HTTPSession:
        """A session of its own connections, which must show what the login was begun with."""
        return HTTPSession(
            self._reactor,
            self._dialer,
            self._settings,
            self._tell,
            url,
            address="" if login is None else login.address,
            accepted=None if login is None else login.certificate,
        )
