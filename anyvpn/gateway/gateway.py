"""The gateway itself: its parts, how it begins and how it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from anyvpn.dtls.hello_cookies import HelloCookies
from anyvpn.gateway.admission import Admission
from anyvpn.gateway.authentication import LoginDesk
from anyvpn.gateway.client_networks import ClientNetworks
from anyvpn.gateway.datagram_door import DatagramDoor
from anyvpn.gateway.front_door import Desks, FrontDoor
from anyvpn.gateway.session import Session
from anyvpn.gateway.sessions import SessionRegistry
from anyvpn.gateway.settings import GatewaySettings, ShutdownBehaviour
from anyvpn.gateway.timers import Timers
from anyvpn.gateway.tls_contexts import ServerContexts
from anyvpn.gateway.tunnel import TunnelParts
from anyvpn.gateway.tunnels import TunnelDesk
from anyvpn.interfaces import IEventListener, IPacketEngine, IRoutedTunDevice
from anyvpn.model.channels import MAPPED_IPV4, PeerPath
from anyvpn.model.events import Event, EventKind
from anyvpn.model.session import EndReason
from anyvpn.packets.stream import TLSStream

log = Logger()

# Ours
COOKIE_SECRET_BYTES = 32
CLOSING_TIME_S = 3.0
"""How long clients that take nothing in may delay the end."""


class Datagrams(TypingProtocol):
    """The UDP sockets, as the gateway needs them."""

    on_handshake: Callable[[PeerPath, bytes], None]

    def send(self, path: PeerPath, datagrams: list[bytes]) -> int:
        """Send to one peer; gives how many were not taken."""


class Gateway:
    """Serves clients on the connections of `factory`, from `start` until `stop`."""

    def __init__(
        self,
        reactor: IReactorTime,
        settings: GatewaySettings,
        contexts: ServerContexts,
        engine: IPacketEngine,
        *,
        datagrams: Datagrams,
        device: IRoutedTunDevice,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._contexts = contexts
        self._connections: set[TLSStream] = set()
        self._all_gone: Deferred[None] | None = None
        self._admission = Admission(settings.limits, reactor.seconds)
        timers = Timers(reactor)
        self._networks = ClientNetworks(device, settings.addresses)
        self._registry = SessionRegistry(
            timers,
            store=settings.sessions,
            addresses=settings.addresses,
            networks=self._networks,
            tell=self.tell,
            random=random,
            token_time_s=settings.limits.token_time_s,
            report_interval_s=settings.report_interval_s,
        )
        cookies = HelloCookies(random(COOKIE_SECRET_BYTES)) if settings.dtls.verify_hellos else None
        self._door = DatagramDoor(timers, datagrams.send, self._admission.hello_allowed, cookies)
        datagrams.on_handshake = self._door.datagram_received
        parts = TunnelParts(timers, self._registry, engine, self._door, self.tell, random)
        self._logins = LoginDesk(
            reactor,
            settings,
            self._registry,
            self._admission,
            certificate_hash=contexts.certificate_hash,
            tell=self.tell,
            random=random,
        )
        self._tunnels = TunnelDesk(parts, settings.dtls, self._networks, contexts.certificate_hash)
        self._desks = Desks(settings, self._logins, self._tunnels, self._registry, self.tell)

    def factory(self) -> Factory:
        """What to give to the endpoints of the VPN port."""
        return _ConnectionFactory(self)

    async def start(self) -> None:
        """Take the sessions up that the store has kept. Raises BackendFailed."""
        kept = await self._registry.restore()
        detail = f"{kept} sessions can be resumed"
        self.tell(Event(EventKind.GATEWAY_STARTED, self._reactor.seconds(), detail=detail))

    async def stop(self) -> None:
        """Tell the clients and let go of them, each as the configuration has it."""
        self._logins.stop()
        self._tunnels.stop()
        self._networks.stop()
        if self._settings.shutdown is ShutdownBehaviour.DISCONNECT:
            for session in self._registry.all():
                self._registry.end(session, EndReason.GATEWAY_STOPPED)
        self._registry.suspend()
        self._door.stop()
        await self._close_connections()
        self.tell(Event(EventKind.GATEWAY_STOPPED, self._reactor.seconds()))

    async def _close_connections(self) -> None:
        """Close all, and wait until what was said has gone out, for some time."""
        for stream in tuple(self._connections):
            stream.close()
        if not self._connections:
            return
        self._all_gone = Deferred()
        limit = self._reactor.callLater(CLOSING_TIME_S, self._abort_connections)
        await self._all_gone
        if limit.active():
            limit.cancel()

    def _abort_connections(self) -> None:
        for stream in tuple(self._connections):
            stream.abort("the gateway stops")

    def sessions(self) -> tuple[Session, ...]:
        """Every session, in the order of their logins."""
        return self._registry.all()

    @property
    def logins_in_progress(self) -> int:
        """How many clients are about to log in."""
        return self._logins.in_progress

    def tell(self, event: Event) -> None:
        """Tell every listener; one that fails harms no other."""
        listener: IEventListener
        for listener in self._settings.listeners:
            try:
                listener.event_happened(event)
            except Exception:  # whatever a listener raises is its own affair
                log.failure("An event listener failed at {kind}", kind=event.kind.value)

    def connection(self, peer: str) -> Protocol:
        """A connection of this peer's, which is closed at once when it is not let in."""
        if not self._lets_in(peer):
            return _Refused()
        door = FrontDoor(self._reactor, self._desks, peer)
        limit_s = self._settings.limits.handshake_time_s
        stream = _Connection(self, door, self._reactor, self._contexts, limit_s)
        door.serve(stream)
        self._connections.add(stream)
        return stream

    def _lets_in(self, peer: str) -> bool:
        refusal = self._admission.connection_refusal(peer)
        if refusal:
            self.tell(
                Event(EventKind.REQUEST_REFUSED, self._reactor.seconds(), peer=peer, detail=refusal)
            )
        return not refusal

    def peer_known(self, stream: _Connection, peer: str) -> None:
        """A proxy has said whose connection it is: that one's it is from now on."""
        self._admission.connection_closed(stream.counted_for)
        stream.counted_for = peer if self._lets_in(peer) else ""
        if not stream.counted_for:
            stream.abort("too many connections")

    def connection_gone(self, stream: _Connection) -> None:
        """The TCP connection of a stream is gone."""
        if stream.counted_for:
            self._admission.connection_closed(stream.counted_for)
        self._connections.discard(stream)
        all_gone = self._all_gone
        if all_gone is not None and not self._connections:
            self._all_gone = None
            all_gone.callback(None)


class _Connection(TLSStream):
    """A TLS stream that says whose it is, and when its TCP connection is gone.

    Behind a proxy the peer's address comes before the first byte of TLS, but not at once.
    """

    def __init__(
        self,
        gateway: Gateway,
        door: FrontDoor,
        reactor: IReactorTime,
        contexts: ServerContexts,
        handshake_time_s: float,
    ) -> None:
        super().__init__(
            reactor,
            contexts.default,
            door,
            handshake_time_s=handshake_time_s,
            secrets=contexts.secrets,
        )
        self.counted_for = door.peer
        """The address whose connections it is one of; empty when it was not let in."""
        self._gateway = gateway
        self._door: FrontDoor | None = door

    def dataReceived(self, data: bytes) -> None:
        """Bytes of TLS came."""
        if self._door is not None and self.transport is not None:
            door, self._door = self._door, None
            peer = _host(self.transport.getPeer())
            if peer != door.peer:
                door.peer = peer
                self._gateway.peer_known(self, peer)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The TCP connection is gone."""
        super().connectionLost(reason)
        self._gateway.connection_gone(self)


class _ConnectionFactory(Factory):
    """Makes the protocol of each connection that is let in."""

    noisy = False

    def logPrefix(self) -> str:
        """What Twisted calls it in the log."""
        return "VPN port"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Give the connection its protocol."""
        return self._gateway.connection(_host(addr))


class _Refused(Protocol):
    """Closes at once; an endpoint that wraps others could make nothing of no protocol at all."""

    def connectionMade(self) -> None:
        """The TCP connection is there."""
        assert self.transport is not None
        self.transport.loseConnection()


def _host(address: IAddress | None) -> str:
    """The peer's host; UNIX sockets have none."""
    return str(getattr(address, "host", "local")).removeprefix(MAPPED_IPV4)
