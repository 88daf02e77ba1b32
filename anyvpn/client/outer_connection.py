"""The TCP connection below TLS: straight to the gateway, or through a proxy."""

from __future__ import annotations

import base64
import os
from typing import Protocol, cast

import h11
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from anyvpn.client.settings import ProxySettings
from anyvpn.errors import GatewayUnreachable, PeerError
from anyvpn.model.printable import printable
from anyvpn.packets.stream import TLSStream
from anyvpn.wire.socks5 import Socks5ClientExchange

# Ours
LARGEST_PROXY_ANSWER_BYTES = 16 * 1024


async def connect_outer(
    reactor: IReactorTime,
    stream: TLSStream,
    host: str,
    port: int,
    *,
    proxy: ProxySettings | None,
    time_s: float,
) -> None:
    """Give the stream its TCP connection to the gateway, by way of the proxy if there is one.

    Raises: GatewayUnreachable: which host or proxy does not answer, and why.
    """
    if proxy is None:
        await _dial(reactor, host, port, stream, time_s=time_s)
        return
    exchange: _Exchange
    if proxy.kind == "socks5":
        exchange = Socks5ClientExchange(host, port, proxy.username, proxy.password)
    else:
        exchange = _ConnectExchange(host, port, proxy)
    negotiation = _Negotiation(reactor, exchange, stream, time_s)
    try:
        await _dial(reactor, proxy.host, proxy.port, negotiation, time_s=time_s, what="the proxy ")
        await negotiation.done
    except PeerError as error:
        raise GatewayUnreachable(f"the proxy {proxy.host}: {error}") from None
    finally:
        negotiation.stop()


async def _dial(
    reactor: IReactorTime,
    host: str,
    port: int,
    protocol: TwistedProtocol,
    *,
    time_s: float,
    what: str = "",
) -> None:
    endpoint = HostnameEndpoint(reactor, host, port, timeout=time_s)
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    connecting = endpoint.connect(factory)
    is_cancelled = False

    def cancel(_: Deferred[IProtocol]) -> None:
        nonlocal is_cancelled
        is_cancelled = True
        connecting.cancel()

    waiting: Deferred[IProtocol] = Deferred(cancel)
    connecting.chainDeferred(waiting)
    try:
        await waiting
    except (ConnectingCancelledError, DNSLookupError):
        if is_cancelled:  # which ends a lookup as if there were no such host
            raise CancelledError from None
        raise GatewayUnreachable(
            f"{what}{host}: there is no such host, or no resolver that knows it"
        ) from None
    except ValueError:
        raise GatewayUnreachable(f"{what}{host}: this is no name of a host") from None
    except ConnectError as error:
        why = os.strerror(error.osError) if isinstance(error.osError, int) else "no answer in time"
        raise GatewayUnreachable(f"{what}{host} port {port}: {why}") from None


class _Exchange(Protocol):
    """What is said to a proxy before the connection is the gateway's."""

    done: bool
    leftover: bytes

    def start(self) -> bytes: ...

    def receive(self, data: bytes) -> bytes: ...


class _Negotiation(TwistedProtocol):
    """Talks to the proxy, then hands its transport to the stream."""

    def __init__(
        self, reactor: IReactorTime, exchange: _Exchange, stream: TLSStream, time_s: float
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._abort())
        self._exchange = exchange
        self._stream = stream
        self._time_s = time_s
        self._time_limit: IDelayedCall = reactor.callLater(time_s, self._late)
        self._over = False

    def connectionMade(self) -> None:
        """The proxy is there."""
        if self._over:  # its time was over before
            self._abort()
            return
        self._write(self._exchange.start())

    def dataReceived(self, data: bytes) -> None:
        """The proxy answers."""
        try:
            self._write(self._exchange.receive(data))
        except PeerError as error:
            self._fail(error)
            return
        if self._exchange.done and not self._over:
            self._end()
            transport = cast(ITCPTransport, self.transport)
            transport.protocol = self._stream  # type: ignore[attr-defined]  # as STARTTLS does it
            self._stream.makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted has no types here
            self.done.callback(None)
            if self._exchange.leftover:
                self._stream.dataReceived(self._exchange.leftover)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The proxy closed, for whatever reason."""
        self._fail(PeerError("it closed the connection without an answer"))

    def stop(self) -> None:
        """Whoever waited for it does so no longer; a connection that is the stream's stays."""
        if not self._over:
            self._abort()
        self.done.addErrback(lambda _: None)  # nobody waits for it when there is no connection

    def _write(self, data: bytes) -> None:
        if data and self.transport is not None:
            self.transport.write(data)

    def _late(self) -> None:
        self._fail(PeerError(f"no answer within {self._time_s:g} s"))

    def _fail(self, error: PeerError) -> None:
        if not self._over:
            self._abort()
            self.done.errback(error)

    def _abort(self) -> None:
        self._end()
        if self.transport is not None:
            cast(ITCPTransport, self.transport).abortConnection()

    def _end(self) -> None:
        self._over = True
        if self._time_limit.active():
            self._time_limit.cancel()


class _ConnectExchange:
    """HTTP CONNECT (RFC 9110, section 9.3.6), with a password where the proxy has one."""

    def __init__(self, host: str, port: int, proxy: ProxySettings) -> None:
        self.done = False
        self.leftover = b""
        self._host, self._port = host, port
        self._proxy = proxy
        self._http = h11.Connection(
            h11.CLIENT, max_incomplete_event_size=LARGEST_PROXY_ANSWER_BYTES
        )

    def start(self) -> bytes:
        """The request."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        target = f"{host}:{self._port}"
        headers = [("Host", target)]
        if self._proxy.username:
            login = f"{self._proxy.username}:{self._proxy.password}".encode()
            token = base64.b64encode(login).decode("ascii")
            headers.append(("Proxy-Authorization", f"Basic {token}"))
        request = h11.Request(method="CONNECT", target=target, headers=headers)
        return (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> bytes:
        """Take the answer; there is nothing more to say. Raises: PeerError."""
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise PeerError(f"its answer is no HTTP: {error}") from None
        if event is h11.NEED_DATA:
            return b""
        if not isinstance(event, h11.Response):
            raise PeerError("its answer is no answer to CONNECT")
        status = event.status_code
        if status in (401, 407):  # tinyproxy says the first
            raise PeerError("it wants a user name and a password, or others than these")
        if not 200 <= status < 300:
            reason = printable(event.reason.decode("latin-1"))
            why = f"{status} {reason}".rstrip()
            raise PeerError(f"it refuses the way to {self._host} port {self._port}: {why}")
        self.done = True
        self.leftover = bytes(self._http.trailing_data[0])
        return b""
