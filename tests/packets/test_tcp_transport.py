"""What is read at once and written without a turn of the reactor, with real sockets."""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from anyvpn.packets.tcp_transport import TRANSPORT_BYTES, prepare, write_at_once

reactor = cast(Any, installed)


@implementer(IPushProducer, IPullProducer)
class Producer:
    """Counts how often it was told to go on."""

    def __init__(self) -> None:
        self.resumed = 0

    def pauseProducing(self) -> None:
        """There is enough."""

    def resumeProducing(self) -> None:
        self.resumed += 1

    def stopProducing(self) -> None:
        """The transport is gone."""


class Writer(Protocol):
    """The side that writes; notes how long the pieces are that it reads."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.pieces: list[int] = []

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(len(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class TCPTransportTests(TestCase):
    timeout = 20

    async def connect(self, writer: Protocol) -> tuple[Any, socket.socket]:
        """The transport of a connection, and the socket at its other end."""
        port = reactor.listenTCP(0, Factory.forProtocol(lambda: writer), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        peer = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(peer.close)
        while writer.transport is None:
            await deferLater(reactor, 0)
        transport = cast(Any, writer.transport)
        prepare(transport)
        transport.registerProducer(Producer(), True)
        return transport, peer

    async def test_much_is_read_at_once(self) -> None:
        writer = Writer()
        transport, peer = await self.connect(writer)
        transport.pauseProducing()
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        await deferToThread(peer.sendall, bytes(TRANSPORT_BYTES))
        while unread_bytes(transport.socket) < TRANSPORT_BYTES:
            await deferLater(reactor, 0.01)
        transport.resumeProducing()
        while sum(writer.pieces) < TRANSPORT_BYTES:
            await deferLater(reactor, 0.01)
        self.assertEqual(writer.pieces, [TRANSPORT_BYTES])

    async def test_what_the_kernel_takes_is_gone_at_once(self) -> None:
        transport, peer = await self.connect(Writer())
        write_at_once(transport, b"now")
        self.assertEqual(peer.recv(100), b"now")  # nothing but the kernel is needed for it
        self.assertNotIn(transport, reactor.getWriters())

    async def test_the_rest_comes_later_and_nothing_overtakes_it(self) -> None:
        transport, peer = await self.connect(Writer())
        pieces = [bytes((number,)) * 1_000_000 for number in range(16)]
        for piece in pieces:
            write_at_once(transport, piece)
        self.assertIn(transport, reactor.getWriters())
        heard = peer.recv(1_000_000)  # now there is room, before the reactor knows of it
        write_at_once(transport, b"the last")
        heard += await deferToThread(hear, peer, 16_000_008 - len(heard))
        self.assertTrue(heard == b"".join(pieces) + b"the last")

    async def test_who_waits_for_the_last_byte_is_told_of_it(self) -> None:
        transport, peer = await self.connect(Writer())
        transport.unregisterProducer()
        waiting = Producer()
        transport.registerProducer(waiting, False)
        before = waiting.resumed
        write_at_once(transport, b"last")
        self.assertEqual(await deferToThread(hear, peer, 4), b"last")
        await deferLater(reactor, 0)
        self.assertEqual(waiting.resumed, before + 1)

    async def test_a_connection_that_is_lost_says_so_to_its_owner(self) -> None:
        writer = Writer()
        transport, peer = await self.connect(writer)
        peer.close()
        transport.socket.shutdown(socket.SHUT_RDWR)
        write_at_once(transport, b"too late")
        await writer.ended


def hear(peer: socket.socket, count: int) -> bytes:
    """So many bytes of the peer's."""
    heard = bytearray()
    while len(heard) < count and (data := peer.recv(count - len(heard))):
        heard += data
    return bytes(heard)


def unread_bytes(opened: socket.socket) -> int:
    """What the kernel holds for the one who reads it."""
    return int.from_bytes(fcntl.ioctl(opened, termios.FIONREAD, bytes(4)), sys.byteorder)
