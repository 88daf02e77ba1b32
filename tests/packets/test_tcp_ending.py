"""The end of a TCP connection, with real sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from anyvpn.packets.tcp_ending import end_in_order

LAST_WORDS = b"goodbye"
STILL_COMING_BYTES = 100_000


class Gateway(Protocol):
    """Ends with its last words while its peer still sends."""

    def __init__(self, ended: Deferred[None]) -> None:
        self.ended = ended
        self.received_bytes = 0

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)

    def say_goodbye(self) -> None:
        transport: Any = self.transport
        transport.write(LAST_WORDS)
        end_in_order(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class EndTests(TestCase):
    timeout = 20

    async def test_last_words_arrive_while_the_peer_still_sends(self) -> None:
        ended: Deferred[None] = Deferred()
        gateway = Gateway(ended)
        port: Any = reactor.listenTCP(  # type: ignore[attr-defined]  # trial's
            0, Factory.forProtocol(lambda: gateway), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        peer = socket.create_connection(("127.0.0.1", port.getHost().port))
        with peer:
            await deferToThread(peer.sendall, bytes(STILL_COMING_BYTES))
            gateway.say_goodbye()
            heard = await deferToThread(hear, peer)
        assert heard == LAST_WORDS
        await ended
        assert gateway.received_bytes >= STILL_COMING_BYTES


def hear(peer: socket.socket) -> bytes:
    """All that comes, from a peer that goes on sending meanwhile."""
    peer.settimeout(10)
    peer.sendall(bytes(STILL_COMING_BYTES))
    heard = b""
    while data := peer.recv(100):
        heard += data
    return heard
