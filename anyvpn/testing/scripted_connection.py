"""One client at the scripted gateway: requests in, answers out, and the tunnel after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

import h11
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_answers import Ending, ScriptedAnswer
from anyvpn.wire.cstp import FrameReader

# Ours
LOOK_AGAIN_AFTER_S = 0.005
LIMIT_S = 5.0
LARGEST_REQUEST_BYTES = 1024 * 1024
PIECES_AT_ONCE = 64
"""Others want to be heard, too."""


class TLSTransport(ITCPTransport, IConsumer):
    """What Twisted's TLS is to those above it."""


async def until(
    reactor: IReactorTime,
    look: Callable[[], object],
    what: str,
    limit_s: float,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Let the reactor run until there is something true; `check` may raise before that.

    Raises: UnmetExpectation: time is up.
    """
    ends_at_s = reactor.seconds() + limit_s
    while not look():
        check()
        if reactor.seconds() > ends_at_s:
            raise UnmetExpectation(f"not within {limit_s:g} s: {what}")
        await deferLater(reactor, LOOK_AGAIN_AFTER_S)


@dataclass(frozen=True, slots=True)
class ScriptedRequest:
    """What a client has sent; `connection` counts from 1."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes
    connection: int

    def header(self, name: str) -> str:
        """The first header of that name, whatever its case; empty when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class ScriptedTunnel:
    """The bytes after CONNECT, both ways; each `send` is a TLS record, as CSTP wants it."""

    def __init__(self, reactor: IReactorTime, transport: TLSTransport) -> None:
        self.is_closed = False
        """Whether nothing more comes from the client."""
        self._reactor = reactor
        self._transport = transport
        self._received = bytearray()
        self._reader = FrameReader()
        self._frames: list[tuple[int, bytes]] = []

    def send(self, data: bytes) -> None:
        """These bytes, at once."""
        self._transport.write(data)

    def close(self) -> None:
        """End the connection as TLS has it."""
        self._transport.loseConnection()

    def reset(self) -> None:
        """End it with a reset."""
        self._transport.abortConnection()

    async def receive(self, size_bytes: int, *, limit_s: float = LIMIT_S) -> bytes:
        """So many bytes. Raises: UnmetExpectation: they do not come, or the tunnel has ended."""
        await self._until(lambda: len(self._received) >= size_bytes, f"{size_bytes} bytes", limit_s)
        data = bytes(self._received[:size_bytes])
        del self._received[:size_bytes]
        return data

    async def frame(self, *, limit_s: float = LIMIT_S) -> tuple[int, bytes]:
        """The next CSTP packet as kind and payload; not to be mixed with `receive`.

        Raises: UnmetExpectation: none comes. MalformedPacket: what comes is none.
        """
        if not self._frames:
            await self._until(self._has_frame, "a CSTP packet", limit_s)
        return self._frames.pop(0)

    async def wait_closed(self, *, limit_s: float = LIMIT_S) -> None:
        """Wait until the client has ended it. Raises: UnmetExpectation."""
        await until(self._reactor, lambda: self.is_closed, "the end of the tunnel", limit_s)

    # --- what the connection tells --------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes came."""
        self._received += data

    def closed(self) -> None:
        """Nothing more comes."""
        self.is_closed = True

    # --- within ---------------------------------------------------------------------------------

    def _has_frame(self) -> bool:
        data = bytes(self._received)
        self._received.clear()
        self._frames += self._reader.receive(data)
        return bool(self._frames)

    def _check(self) -> None:
        if self.is_closed:
            raise UnmetExpectation("the client has ended the tunnel")

    async def _until(self, look: Callable[[], object], what: str, limit_s: float) -> None:
        await until(self._reactor, look, f"{what} from the client", limit_s, self._check)


class ScriptFollower(Protocol):
    """Who knows the script."""

    def answer_to(self, request: ScriptedRequest) -> ScriptedAnswer:
        """What to answer."""

    def no_request(self, why: str) -> ScriptedAnswer:
        """What to answer to what is no HTTP."""

    def tunnel_opened(self, tunnel: ScriptedTunnel) -> None:
        """A connection is a tunnel from now on."""

    def connection_lost(self, connection: ScriptedConnection) -> None:
        """A connection is gone."""


@implementer(IPushProducer)
class ScriptedConnection(TwistedProtocol):
    """Reads requests one by one, and sends each answer as it says itself."""

    def __init__(self, reactor: IReactorTime, script: ScriptFollower, number: int) -> None:
        self._reactor = reactor
        self._script = script
        self._number = number
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._answer: ScriptedAnswer | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._is_full = False
        self._next_piece: IDelayedCall | None = None
        self._tunnel: ScriptedTunnel | None = None

    def reset(self) -> None:
        """End it at once, whatever it does."""
        self._tls.abortConnection()

    # --- what Twisted tells ---------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        if self._tunnel is not None:
            self._tunnel.received(data)
            return
        try:
            self._http.receive_data(data)
            if self._answer is None:
                self._read()
        except h11.RemoteProtocolError as error:
            self._send(self._script.no_request(str(error)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """The client is gone, or was sent away."""
        self._is_full = True
        if self._next_piece is not None and self._next_piece.active():
            self._next_piece.cancel()
        if self._tunnel is not None:
            self._tunnel.closed()
        self._script.connection_lost(self)

    def pauseProducing(self) -> None:
        """The client takes no more for now."""
        self._is_full = True

    def resumeProducing(self) -> None:
        """It does again."""
        self._is_full = False
        if self._next_piece is None:
            self._go_on()

    def stopProducing(self) -> None:
        """It never will."""
        self._is_full = True

    # --- requests -------------------------------------------------------------------------------

    @property
    def _tls(self) -> TLSTransport:
        return cast(TLSTransport, self.transport)

    def _read(self) -> None:
        while self._answer is None:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, bytearray()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > LARGEST_REQUEST_BYTES:
                    raise h11.RemoteProtocolError("a request that is too long")
            elif isinstance(event, h11.EndOfMessage):
                self._send(self._script.answer_to(self._whole_request()))
            else:
                return

    def _whole_request(self) -> ScriptedRequest:
        request = self._request
        assert request is not None
        headers = tuple(
            (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
            for name, value in request.headers.raw_items()
        )
        return ScriptedRequest(
            bytes(request.method).decode("ascii"),
            bytes(request.target).decode("latin-1"),
            headers,
            bytes(self._body),
            self._number,
        )

    # --- answers --------------------------------------------------------------------------------

    def _send(self, answer: ScriptedAnswer) -> None:
        self._answer = answer
        self._pieces = _pieces_of(answer)
        self._is_full = False
        self._tls.registerProducer(self, True)
        self._go_on()

    def _go_on(self) -> None:
        """Send for as long as the client takes it and no pause is due."""
        self._next_piece = None
        answer = self._answer
        for _ in range(PIECES_AT_ONCE):
            if answer is None or self._is_full:
                return
            piece = next(self._pieces, None)
            if piece is None:
                self._end(answer)
                return
            self._tls.write(piece)
            if answer.pause_s:
                break
        if answer is not None:
            self._next_piece = self._reactor.callLater(answer.pause_s, self._go_on)

    def _end(self, answer: ScriptedAnswer) -> None:
        """The answer is out."""
        self._pieces = iter(())
        self._tls.unregisterProducer()
        if answer.ending is Ending.CLOSE:
            self._tls.loseConnection()
        elif answer.ending is Ending.CUT:
            below = cast(TLSMemoryBIOProtocol, self.transport).transport
            assert below is not None
            below.loseConnection()
        elif answer.ending is Ending.RESET:
            self._tls.abortConnection()
        elif answer.ending is Ending.TUNNEL:
            self._become_tunnel()
        elif answer.ending is Ending.KEEP:
            self._next_request()

    def _become_tunnel(self) -> None:
        self._tunnel = ScriptedTunnel(self._reactor, self._tls)
        self._tunnel.received(bytes(self._http.trailing_data[0]))
        self._script.tunnel_opened(self._tunnel)

    def _next_request(self) -> None:
        trailing = bytes(self._http.trailing_data[0])
        self._http = h11.Connection(h11.SERVER)
        self._answer = None
        if trailing:
            self.dataReceived(trailing)


def _pieces_of(answer: ScriptedAnswer) -> Iterator[bytes]:
    for start in range(0, len(answer.data), answer.piece_bytes):
        yield answer.data[start : start + answer.piece_bytes]
    while answer.repeated:
        yield answer.repeated
