"""A SOCKS5 proxy into the network behind a tunnel."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorSocket,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.client.endpoint import adopt_connection
from anyvpn.errors import AnyvpnError, PeerError
from anyvpn.interfaces import IInnerNetwork
from anyvpn.model.printable import printable
from anyvpn.packets.time_limit import TimeLimit
from anyvpn.wire.socks5_server import Socks5Reply, Socks5ServerExchange, reply

log = Logger()

# Ours
GREETING_TIME_S = 10.0
CONNECT_TIME_S = 30.0
MOST_CONNECTIONS = 512
_LONGEST_GREETING_BYTES = 2048

_REPLIES: tuple[tuple[type[Exception], Socks5Reply], ...] = (
    (ConnectionRefusedError, Socks5Reply.REFUSED),
    (TCPTimedOutError, Socks5Reply.EXPIRED),
    (NoRouteError, Socks5Reply.NETWORK_UNREACHABLE),
    (DNSLookupError, Socks5Reply.HOST_UNREACHABLE),
)


class _Transport(ITCPTransport, IConsumer, IPushProducer):
    """What Twisted's TCP transports are."""


class _Reactor(IReactorTime, IReactorSocket):
    """What the proxy needs of a reactor."""


class SocksServerFactory(Factory):
    """Serves clients out of `network`; with a `password` they must log in."""

    noisy = False

    def __init__(self, reactor: _Reactor, network: IInnerNetwork, password: str = "") -> None:
        self.connections = 0
        self.reactor = reactor
        self.network = network
        self.password = password

    def buildProtocol(self, addr: object) -> Protocol | None:  # noqa: ARG002
        """One for each client, up to a bound."""
        return SocksClient(self) if self.connections < MOST_CONNECTIONS else None


@implementer(IHalfCloseableProtocol)
class _Relayed(Protocol):
    """One end of a connection whose bytes go to the other end."""

    other: _Relayed | None = None
    has_heard_all = False

    @property
    def tcp(self) -> _Transport:
        """The transport, as what it is."""
        return cast(_Transport, self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        if self.other is not None:
            self.other.tcp.write(data)

    def readConnectionLost(self) -> None:
        """Nothing comes any more, which the other end is told; it may still have more to say."""
        self.has_heard_all = True
        if self.other is None:
            return
        if self.other.has_heard_all:
            self.tcp.loseConnection()  # and with it the other end
        else:
            self.other.tcp.unregisterProducer()  # or it would ask for more when it has room
            self.other.tcp.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """Who does not listen any more may still talk."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The other end gets what is on its way, and closes too."""
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.tcp.unregisterProducer()
            other.tcp.loseConnection()

    def join(self, other: _Relayed) -> None:
        """Relay both ways; who is slow slows the other down."""
        self.other, other.other = other, self
        for each in (self, other):
            each.tcp.setTcpKeepAlive(True)  # ends that vanish are noticed in the end
        self.tcp.registerProducer(other.tcp, True)
        if not self.has_heard_all:
            other.tcp.registerProducer(self.tcp, True)


class SocksClient(_Relayed):
    """A client: its greeting and its request, then a relay."""

    def __init__(self, factory: SocksServerFactory) -> None:
        self._factory = factory
        self._exchange: Socks5ServerExchange | None = Socks5ServerExchange(factory.password)
        self._early = b""
        self._received_bytes = 0
        self._connecting: Deferred[None] | None = None
        self._time_limit = TimeLimit(factory.reactor)

    def connectionMade(self) -> None:
        """A client is there."""
        self._factory.connections += 1
        self._time_limit.start(GREETING_TIME_S, self._abort)

    def dataReceived(self, data: bytes) -> None:
        """A part of the greeting, or bytes for the other end."""
        if self.other is not None:
            super().dataReceived(data)
            return
        if self._exchange is None:
            self._early += data  # it is connecting; TCP's window bounds what comes
            self.tcp.pauseProducing()
            return
        self._received_bytes += len(data)
        try:
            answer = self._exchange.receive(data)
        except PeerError as error:
            last_words = error.args[1] if len(error.args) > 1 else b""
            self._refuse(str(error.args[0]), last_words)
            return
        if answer:
            self.tcp.write(answer)
        if self._exchange.request is not None:
            self._time_limit.cancel()
            request, self._early = self._exchange.request, self._exchange.leftover
            self._exchange = None
            self._connecting = Deferred.fromCoroutine(self._connect(request.host, request.port))
            self._connecting.addErrback(self._failed)
        elif self._received_bytes > _LONGEST_GREETING_BYTES:
            self._refuse("a greeting without end", b"")

    def readConnectionLost(self) -> None:
        """It has said all, which is too little before there is a request."""
        super().readConnectionLost()
        if self._exchange is not None:
            self.tcp.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self._factory.connections -= 1
        self._time_limit.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        super().connectionLost(reason)

    async def _connect(self, host: str, port: int) -> None:
        factory = self._factory
        try:
            descriptor = await factory.network.connect(host, port, CONNECT_TIME_S)
        except (ConnectError, DNSLookupError, AnyvpnError) as error:
            status = next((each for kind, each in _REPLIES if isinstance(error, kind)), None)
            self._refuse(str(error), reply(status or Socks5Reply.FAILED))
            return
        finally:
            self._connecting = None
        inner = cast(
            _Relayed,
            adopt_connection(factory.reactor, descriptor, Factory.forProtocol(_Relayed)),
        )
        self.tcp.write(reply(Socks5Reply.SUCCEEDED))
        self.join(inner)
        early, self._early = self._early, b""
        if early:
            super().dataReceived(early)
        if self.has_heard_all:
            inner.tcp.loseWriteConnection()
        else:
            self.tcp.resumeProducing()

    def _refuse(self, why: str, last_words: bytes) -> None:
        log.debug("A SOCKS client is refused: {why}", why=printable(why))
        if last_words:
            self.tcp.write(last_words)
        self.tcp.loseConnection()

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            log.failure("A SOCKS client cannot be served", failure)
            self._abort()

    def _abort(self) -> None:
        self.tcp.abortConnection()
