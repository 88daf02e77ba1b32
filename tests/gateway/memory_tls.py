"""TLS over TCP in memory: a stream of ours at one end, a plain OpenSSL client at the other."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import trustme
from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.python.failure import Failure

HOST = "vpn.example.com"

# As Twisted's: a transport that holds more pauses its producer
FULL_BYTES = 64 * 1024


@functools.cache
def authority() -> trustme.CA:
    """The CA of these tests."""
    return trustme.CA()


@functools.cache
def server_context() -> SSL.Context:
    """A context with a certificate for HOST."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    authority().issue_cert(HOST).configure_cert(context)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def client_context(certificate: trustme.LeafCert | None = None) -> SSL.Context:
    """A client's context, with a certificate of its own if it is to have one."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


class Producer(Protocol):
    """What a transport calls when it is full, and when it is not any more."""

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class Receiver(Protocol):
    """The part of a protocol that a transport calls."""

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...


class MemoryTransport:
    """One end of a TCP connection; nothing moves but in `Wire.pump`."""

    def __init__(self, peer: IAddress | None = None) -> None:
        self.peer = peer
        self.protocol: Receiver | None = None
        self.outgoing = bytearray()
        self.is_paused = False
        self.is_stalled = False
        """The application here reads nothing, and so the window is shut."""
        self.closing = self.aborted = self.lost = False
        self._producer: Producer | None = None
        self._producer_paused = False

    def write(self, data: bytes) -> None:
        if self.lost or self.aborted:
            return
        self.outgoing += data
        if self._producer is not None and len(self.outgoing) > FULL_BYTES:
            self._producer_paused = True
            self._producer.pauseProducing()

    def taken(self) -> None:
        if self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    def getPeer(self) -> IAddress | None:
        return self.peer

    def loseConnection(self) -> None:
        self.closing = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.outgoing.clear()

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False

    def lose(self, why: Exception) -> None:
        self.lost = True
        self.outgoing.clear()
        # As Twisted's transports do: what is left of them holds nobody
        protocol, self.protocol, self._producer = self.protocol, None, None
        if protocol is not None:
            protocol.connectionLost(Failure(why))


class TLSClient:
    """A client that notes each TLS record's content by itself."""

    def __init__(
        self, transport: MemoryTransport, context: SSL.Context, server_name: str = HOST
    ) -> None:
        self.transport = transport
        self.tls = SSL.Connection(context, None)
        if server_name:
            self.tls.set_tlsext_host_name(server_name.encode())
        self.tls.set_connect_state()
        self.records: list[bytes] = []
        self.is_secured = False
        self.is_closed = False
        """The TLS connection was closed by the gateway, or the TCP connection is gone."""
        self._taken = 0
        transport.protocol = self
        self._advance()

    def send(self, data: bytes) -> None:
        """Send these bytes, in as few records as they need."""
        for start in range(0, len(data), 16384):
            self.tls.send(data[start : start + 16384])
        self._flush()

    def take_records(self) -> list[bytes]:
        """The records since the last call."""
        new = self.records[self._taken :]
        self._taken = len(self.records)
        return new

    def take(self) -> bytes:
        """The bytes since the last call."""
        return b"".join(self.take_records())

    def close(self) -> None:
        """Say goodbye in TLS, and close."""
        self.tls.shutdown()
        self._flush()
        self.transport.loseConnection()

    def vanish(self) -> None:
        """Reset the TCP connection."""
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.tls.bio_write(data)
        self._advance()

    def connectionLost(self, reason: Failure) -> None:
        self.is_closed = True

    def _advance(self) -> None:
        try:
            if not self.is_secured:
                self.tls.do_handshake()
                self.is_secured = True
            while True:
                self.records.append(self.tls.recv(16384))
        except SSL.WantReadError:
            pass
        except (SSL.ZeroReturnError, SSL.Error):
            self.is_closed = True
        self._flush()

    def _flush(self) -> None:
        try:
            while True:
                self.transport.write(self.tls.bio_read(65536))
        except SSL.Error:
            return


@dataclass
class Wire:
    """Two ends of a connection, and the clock of what runs at them."""

    clock: Clock
    near: MemoryTransport
    far: MemoryTransport

    def pump(self) -> bool:
        """Let everything arrive; gives whether there was anything."""
        rounds = 0
        while self._move():
            self.clock.advance(0)
            rounds += 1
        return rounds > 0

    def _move(self) -> bool:
        now_s = self.clock.seconds()
        moved = any(each.getTime() <= now_s for each in self.clock.getDelayedCalls())
        for end, other in ((self.near, self.far), (self.far, self.near)):
            receiver = other.protocol
            if end.outgoing and not (other.is_paused or other.is_stalled or other.lost):
                data = bytes(end.outgoing)
                end.outgoing.clear()
                end.taken()
                assert receiver is not None
                receiver.dataReceived(data)
                moved = True
            if not end.lost and end.aborted:
                end.lose(ConnectionAborted())
                moved = True
            elif not end.lost and (end.closing or other.lost) and not end.outgoing:
                end.lose(ConnectionDone())
                moved = True
            elif end.outgoing and other.lost:
                end.outgoing.clear()
                moved = True
        return moved


class ServerSide(Receiver, Protocol):
    """A protocol that can be given one of these transports."""

    def makeConnection(self, transport: object) -> None: ...


def connect(
    clock: Clock,
    server: ServerSide,
    context: SSL.Context | None = None,
    server_name: str = HOST,
    peer: IAddress | None = None,
) -> tuple[TLSClient, Wire]:
    """A TLS client that is connected to a protocol of the gateway's, with the handshake done."""
    wire = Wire(clock, MemoryTransport(peer), MemoryTransport())
    wire.near.protocol = server
    server.makeConnection(wire.near)
    client = TLSClient(wire.far, context or client_context(), server_name)
    wire.pump()
    return client, wire


@dataclass(frozen=True)
class HTTPAnswer:
    """One answer as a client reads it: names of headers as they were written."""

    status_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ")[1])

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")


def read_answers(data: bytes, *, head_only: bool = False) -> list[HTTPAnswer]:
    """All the answers in these bytes, by their Content-Length; nothing may be left over.

    With `head_only` there are no bodies: they answer HEAD.
    """
    answers = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"an unfinished head: {head[:80]!r}"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = tuple(
            (name, value) for name, _, value in (line.partition(": ") for line in lines)
        )
        answer = HTTPAnswer(status_line, headers, b"")
        length = 0 if head_only else int(answer.first("Content-Length") or 0)
        answers.append(HTTPAnswer(status_line, headers, data[:length]))
        data = data[length:]
    return answers
