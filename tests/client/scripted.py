"""A gateway's end of a TLS connection in memory, which says what a test wants, and no more."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from anyvpn.client.http_connection import HTTPConnection
from anyvpn.packets.stream import TLSStream
from tests.gateway.memory_tls import HOST, MemoryTransport, Wire, server_context


class ScriptedEnd:
    """The server's end: `received` is what the client said, `send` answers."""

    def __init__(self, transport: MemoryTransport, context: SSL.Context) -> None:
        self.transport = transport
        self.tls = SSL.Connection(context, None)
        self.tls.set_accept_state()
        self.received = b""
        self.is_closed = False
        self._is_secured = False
        transport.protocol = self

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), 16384):
            self.tls.send(data[start : start + 16384])
        self._flush()

    def close(self) -> None:
        self.tls.shutdown()
        self._flush()
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.tls.bio_write(data)
        try:
            if not self._is_secured:
                self.tls.do_handshake()
                self._is_secured = True
            while True:
                self.received += self.tls.recv(16384)
        except SSL.WantReadError:
            pass
        except (SSL.ZeroReturnError, SSL.Error):
            self.is_closed = True
        self._flush()

    def connectionLost(self, reason: Failure) -> None:
        self.is_closed = True

    def _flush(self) -> None:
        try:
            while True:
                self.transport.write(self.tls.bio_read(65536))
        except SSL.Error:
            return


class Opening:
    """The reader of a stream that nobody reads yet."""

    def __init__(self) -> None:
        self.is_secured = False
        self.why_closed = ""

    def secured(self) -> None:
        self.is_secured = True

    def received(self, data: bytes) -> None:
        raise AssertionError("nobody has spoken yet")

    def closed(self, reason: str) -> None:
        self.why_closed = reason


def connect(
    client: SSL.Context | None = None, server: SSL.Context | None = None
) -> tuple[TLSStream, Opening, ScriptedEnd, Wire]:
    """A stream of our client's, with the handshake done as far as it goes."""
    clock = Clock()
    opening = Opening()
    context = client or SSL.Context(SSL.TLS_CLIENT_METHOD)
    stream = TLSStream(clock, context, opening, is_client=True, server_name=HOST)
    wire = Wire(clock, MemoryTransport(), MemoryTransport())
    end = ScriptedEnd(wire.far, server or server_context())
    wire.near.protocol = stream
    stream.makeConnection(wire.near)  # type: ignore[no-untyped-call]
    wire.pump()
    return stream, opening, end, wire


class HTTPScene:
    """An HTTP connection of the client's to a gateway that is scripted."""

    def __init__(self) -> None:
        stream, _, self.gateway, self.wire = connect()
        self.stream = stream
        self.http = HTTPConnection(self.wire.clock, stream)

    def ask(self, coroutine: object) -> Deferred[object]:
        asked: Deferred[object] = Deferred.fromCoroutine(coroutine)  # type: ignore[arg-type]
        self.wire.pump()
        return asked

    def answer(self, data: bytes) -> None:
        self.gateway.send(data)
        self.wire.pump()


def result_of(deferred: Deferred[object]) -> object:
    """What it has fired with; an error is raised."""
    results: list[object] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]
