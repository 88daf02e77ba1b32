"""A client endpoint to a host behind the VPN, for any Twisted program."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorSocket,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IInnerNetwork

# Ours
CONNECT_TIME_S = 30.0


def _nobody_cares() -> None:
    """A network that is there anyway."""


@implementer(IStreamClientEndpoint)
class VPNClientEndpoint:
    """Connects to `host` (a name or an address) and `port` behind the VPN, with the kernel's TCP.

    `network` gives the network behind a tunnel: that of an adapter, or one that is connected for
    the purpose; `closed` is called once for each call of it, when its network is not needed any
    more. `SharedTunnel.hold` and `SharedTunnel.release` are such a pair.
    """

    def __init__(
        self,
        reactor: IReactorSocket,
        network: Callable[[], Awaitable[IInnerNetwork]],
        host: str,
        port: int,
        *,
        time_s: float = CONNECT_TIME_S,
        closed: Callable[[], None] = _nobody_cares,
    ) -> None:
        self._reactor = reactor
        self._network = network
        self._host = host
        self._port = port
        self._time_s = time_s
        self._closed = closed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fires with the connected protocol.

        Fails with ConnectError or DNSLookupError of twisted.internet.error, or with the error of
        a tunnel that could not be had.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        network = await self._network()
        try:
            descriptor = await network.connect(self._host, self._port, self._time_s)
            return adopt_connection(self._reactor, descriptor, factory, self._closed)
        except TunUnavailable as error:
            self._closed()
            raise ConnectError(string=str(error)) from error  # type: ignore[no-untyped-call]  # Twisted has no types here
        except BaseException:
            self._closed()
            raise


def adopt_connection(
    reactor: IReactorSocket,
    descriptor: int,
    factory: IProtocolFactory,
    closed: Callable[[], None] = _nobody_cares,
) -> IProtocol:
    """Give a connected socket to a protocol of the factory; `closed` hears of its end.

    Raises: NoProtocol: the factory makes none.
    """
    adopting = _Adopting(factory, closed)
    with socket.socket(fileno=descriptor) as connected:
        reactor.adoptStreamConnection(connected.fileno(), connected.family, adopting)  # type: ignore[arg-type]  # any factory will do
    if adopting.protocol is None:
        raise NoProtocol
    return adopting.protocol


class _Adopting(Factory):
    """Builds the one protocol, and remembers it."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, closed: Callable[[], None]) -> None:
        self.protocol: IProtocol | None = None  # type: ignore[assignment]  # an instance here
        self._factory = factory
        self._closed = closed

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:  # type: ignore[override]
        """The factory's own, which may not want this connection."""
        built = self.protocol = self._factory.buildProtocol(addr)
        if built is not None and self._closed is not _nobody_cares:
            _tell_of_end(built, self._closed)
        return built


def _tell_of_end(protocol: IProtocol, closed: Callable[[], None]) -> None:
    """On the object itself: a protocol around it would hide what else it provides."""
    lose = protocol.connectionLost

    def lose_and_tell(reason: Failure) -> None:
        try:
            lose(reason)
        finally:
            closed()

    protocol.connectionLost = lose_and_tell  # type: ignore[method-assign]
