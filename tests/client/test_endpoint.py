"""The endpoint: protocols on sockets of another network."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from anyvpn.client.endpoint import VPNClientEndpoint
from anyvpn.errors import LoginDenied, TunUnavailable
from tests.client.sockets import HandedOut, SteeredReactor, eventually, receive, receive_all
from tests.client.test_socks_server import asynchronous


class Noting(Protocol):
    """Notes what happens to it."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)


class EndpointTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.network = HandedOut()
        self.closed = 0
        self.endpoint = VPNClientEndpoint(
            SteeredReactor(), self.hold, "host.inside", 22, time_s=7.0, closed=self.note_closed
        )
        self.addCleanup(lambda: [each.close() for each in self.network.ends])

    async def hold(self) -> HandedOut:
        return self.network

    def note_closed(self) -> None:
        self.closed += 1

    def test_it_is_what_twisted_calls_an_endpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, self.endpoint)

    @asynchronous
    async def test_a_protocol_talks_to_the_host(self) -> None:
        protocol = await self.endpoint.connect(Factory.forProtocol(Noting))
        self.assertIsInstance(protocol, Noting)
        self.assertEqual(self.network.asked, [("host.inside", 22, 7.0)])
        [host] = self.network.ends
        protocol.transport.write(b"hello")
        self.assertEqual(await receive(host, 5), b"hello")
        host.send(b"world")
        await eventually(lambda: protocol.received == b"world", "the answer")
        self.assertEqual(self.closed, 0)
        protocol.transport.loseConnection()
        self.assertEqual(await receive_all(host), b"")
        await eventually(lambda: protocol.lost, "the end")
        self.assertIsNotNone(protocol.lost[0].check(ConnectionDone))
        self.assertEqual(self.closed, 1)

    @asynchronous
    async def test_failures_are_passed_on_and_the_network_is_let_go(self) -> None:
        self.network.failure = ConnectionRefusedError()
        with self.assertRaises(ConnectionRefusedError):
            await self.endpoint.connect(Factory.forProtocol(Noting))
        self.assertEqual(self.closed, 1)

    @asynchronous
    async def test_a_network_that_is_gone_is_a_connection_that_failed(self) -> None:
        self.network.failure = TunUnavailable("the network namespace is gone")
        with self.assertRaisesRegex(ConnectError, "namespace is gone"):
            await self.endpoint.connect(Factory.forProtocol(Noting))
        self.assertEqual(self.closed, 1)

    @asynchronous
    async def test_a_tunnel_that_cannot_be_had_says_why(self) -> None:
        async def hold() -> HandedOut:
            raise LoginDenied("no")

        endpoint = VPNClientEndpoint(SteeredReactor(), hold, "h", 1, closed=self.note_closed)
        with self.assertRaises(LoginDenied):
            await endpoint.connect(Factory.forProtocol(Noting))
        self.assertEqual(self.closed, 0)

    @asynchronous
    async def test_cancelling_ends_the_attempt(self) -> None:
        cancelled: list[object] = []
        self.network.hold_back = Deferred(cancelled.append)
        connecting = self.endpoint.connect(Factory.forProtocol(Noting))
        connecting.cancel()
        with self.assertRaises(CancelledError):
            await connecting
        self.assertEqual((len(cancelled), self.closed), (1, 1))

    @asynchronous
    async def test_a_factory_may_refuse(self) -> None:
        class Refusing(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        with self.assertRaises(NoProtocol):
            await self.endpoint.connect(Refusing())
        self.assertEqual(await receive_all(self.network.ends[0]), b"")
        self.assertEqual(self.closed, 1)
