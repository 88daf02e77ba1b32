"""A client endpoint to a host behind the VPN, for any Twisted program."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorSocket,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from zope.interface import implementer

from anyvpn.interfaces import IInnerNetwork

# Ours
CONNECT_TIME_S = 30.0


@implementer(IStreamClientEndpoint)
class VPNClientEndpoint:
    """Connects to `host` (a name or an address) and `port` behind the VPN, with the kernel's TCP.

    `network` gives the network behind a tunnel: that of an adapter, or one that is connected for
    the purpose.
    """

    def __init__(
        self,
        reactor: IReactorSocket,
        network: Callable[[], Awaitable[IInnerNetwork]],
        host: str,
        port: int,
        *,
        time_s: float = CONNECT_TIME_S,
    ) -> None:
        self._reactor = reactor
        self._network = network
        self._host = host
        self._port = port
        self._time_s = time_s

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fires with the connected protocol, or with an error of twisted.internet.error."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        network = await self._network()
        descriptor = await network.connect(self._host, self._port, self._time_s)
        return adopt_connection(self._reactor, descriptor, factory)


def adopt_connection(
    reactor: IReactorSocket, descriptor: int, factory: IProtocolFactory
) -> IProtocol:
    """Give a connected socket to a protocol of the factory. Raises: ConnectionAborted."""
    adopting = _Adopting(factory)
    with socket.socket(fileno=descriptor) as connected:
        reactor.adoptStreamConnection(connected.fileno(), connected.family, adopting)  # type: ignore[arg-type]  # any factory will do
    if adopting.protocol is None:
        raise ConnectionAborted
    return adopting.protocol


class _Adopting(Factory):
    """Builds the one protocol, and remembers it."""

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self.protocol: IProtocol | None = None  # type: ignore[assignment]  # an instance here
        self._factory = factory

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:  # type: ignore[override]
        """The factory's own, which may not want this connection."""
        self.protocol = self._factory.buildProtocol(addr)
        return self.protocol
