"""A connection has one descriptor, and whoever lets go of it knows it no more."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from anyvpn.packets._compiled import LOST_STREAM
from anyvpn.packets.channels import LiveCSTPChannel
from anyvpn.packets.kept_streams import KeptStreams
from anyvpn.packets.stream import TLSStream
from anyvpn.packets.tls_keys import TLSSecrets
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import frame_data
from tests.gateway.memory_tls import HOST, client_context, server_context
from tests.packets.core_threads import CLOSE_NOTIFY, CoreThreads
from tests.packets.test_stream import Reader

reactor = cast(Any, installed)

PATIENCE_S = 10.0
CLIENT = bytes((10, 99, 0, 7))


def opened() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Connection:
    """One over loopback: the server's stream, which is handed over, and the client's."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reader, self.clients_reader = Reader(), Reader()
        self.stream: TLSStream
        self.client: TLSStream

    @property
    def transport(self) -> Any:
        """Twisted's, of the server."""
        return self.stream.transport


Ending = Callable[["TCPDescriptorTests", Connection], None]

ENDINGS: dict[str, Ending] = {
    "we close": lambda _, it: it.stream.close(),
    "we abort": lambda _, it: it.stream.abort(),
    "the client closes": lambda _, it: it.client.close(),
    "the client is gone": lambda _, it: it.client.abort(),
    "somebody ends Twisted's transport": lambda _, it: it.transport.abortConnection(),
    "the tunnel lets go": lambda tests, it: tests.let_go(it),
    "all at once": lambda tests, it: (
        it.client.abort(),
        it.transport.abortConnection(),
        it.stream.close(),
        it.stream.abort(),
        tests.let_go(it),
    ),
}


class TCPDescriptorTests(TestCase):
    async def setUp(self) -> None:
        self.threads = CoreThreads()
        self.threads.kernel.setblocking(False)
        self.core = self.threads.core
        self.kept = KeptStreams(self.core)
        self.secrets, self.context = TLSSecrets(), server_context.__wrapped__()
        self.secrets.watch(self.context)
        self.connections: list[Connection] = []
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.port: Any = await endpoint.listen(Factory.forProtocol(self._accept))
        await deferLater(reactor, 0)  # from here on the reactor has all that it needs

    async def tearDown(self) -> None:
        await self.port.stopListening()
        for each in self.connections:
            each.client.abort()
            if each.stream.transport.connected:
                each.stream.abort()
        readers = [end for it in self.connections for end in (it.reader, it.clients_reader)]
        await self.until(lambda: all(each.closings for each in readers), "all has ended")
        self.threads.stop()

    def _accept(self) -> TLSStream:
        it = self.connections[-1]
        it.stream = TLSStream(reactor, self.context, it.reader, secrets=self.secrets)
        return it.stream

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(int(PATIENCE_S / 0.01)):
            if holds():
                return
            await deferLater(reactor, 0.01)
            self.hear()
        raise AssertionError(f"not in time: {what}")

    def hear(self) -> None:
        """Let the keeper hear of losses."""
        for kind, serial, _, number, _, text in self.core.events():
            if kind == LOST_STREAM:
                self.kept.told(serial, number, kind, text)

    async def connect(self) -> Connection:
        """A connection whose records the core has."""
        it = Connection(len(self.connections) + 1)
        self.connections.append(it)
        it.client = TLSStream(
            reactor, client_context(), it.clients_reader, is_client=True, server_name=HOST
        )
        there = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        await there.connect(Factory.forProtocol(lambda: it.client))
        secured = (it.reader, it.clients_reader)
        await self.until(lambda: all(each.secured_count for each in secured), "the handshake")
        it.stream.write(b"an answer")
        await self.until(lambda: it.clients_reader.data == [b"an answer"], "the answer")
        self.core.attach(it.number, [(CLIENT, 32)], 1, 1400)
        return it

    async def hand_over(self, it: Connection) -> None:
        self.kept.take(it.number, it.stream, LiveCSTPChannel(it.stream, 0.0), lambda: True)
        await self.until(lambda: self.kept.has(it.number), "the core has it")

    def let_go(self, it: Connection) -> None:
        """As an engine does whose tunnel has another channel, or none."""
        self.kept.let_go(it.number)
        it.stream.close()

    async def assert_it_carries(self, it: Connection) -> None:
        packet = ipv4_packet(CLIENT, ANYWHERE, b"up")
        it.client.write(frame_data([packet])[0])
        await self.until(lambda: self.came() == [packet], "up")
        packet = ipv4_packet(ANYWHERE, CLIENT, b"down")
        self.threads.kernel.send(packet)
        (frame,) = frame_data([packet])
        await self.until(lambda: b"".join(it.clients_reader.data).endswith(frame), "down")

    def came(self) -> list[bytes]:
        try:
            return [self.threads.kernel.recv(2000)]
        except BlockingIOError:
            return []

    def assert_nobody_else_gets_its_packets(self) -> None:
        """Whoever has the number that was its descriptor's is not written to."""
        pairs = [socket.socketpair() for _ in range(8)]
        for number in range(20):
            self.threads.kernel.send(ipv4_packet(ANYWHERE, CLIENT, b"%d" % number))
        time.sleep(0.02)
        self.assertEqual(self.came(), [])
        for each in (end for pair in pairs for end in pair):
            self.assertRaises(BlockingIOError, each.recv, 2000, socket.MSG_DONTWAIT)
        for each in (end for pair in pairs for end in pair):
            each.close()

    async def test_a_session_has_one_whoever_reads_it(self) -> None:
        before = opened()
        for _ in range(5):
            it = await self.connect()
        self.assertEqual(opened(), before + 2 * 5)  # the clients are here, too
        for it in self.connections:
            await self.hand_over(it)
            self.assertEqual(it.transport.getHandle().fileno(), -1)
            self.assertEqual(opened(), before + 2 * 5)
        await self.assert_it_carries(it)

    async def test_it_is_closed_once_however_a_connection_ends(self) -> None:
        for what, end in ENDINGS.items():
            with self.subTest(what):
                before = opened()
                it = await self.connect()
                await self.hand_over(it)
                await self.assert_it_carries(it)
                end(self, it)
                self.assert_nobody_else_gets_its_packets()
                ends = (it.reader, it.clients_reader)
                await self.until(lambda: all(len(each.closings) for each in ends), "both hear")  # noqa: B023
                await self.until(lambda: opened() == before, "nothing is left")  # noqa: B023
                self.assert_nobody_else_gets_its_packets()
                with self.assertRaises(LookupError):
                    self.core.take_tls(it.number, CLOSE_NOTIFY)
                self.core.detach(it.number)

    async def test_it_comes_back_from_a_core_that_stops(self) -> None:
        it = await self.connect()
        await self.hand_over(it)
        self.core.stop()
        it.stream.close()
        await self.until(lambda: bool(it.clients_reader.closings), "the goodbye")
        self.assertEqual(it.clients_reader.closings, ["the peer closed the TLS connection"])

    async def test_it_comes_back_from_a_core_that_cannot_have_it(self) -> None:
        before = opened()
        it = await self.connect()
        self.core.detach(it.number)
        self.kept.take(it.number, it.stream, LiveCSTPChannel(it.stream, 0.0), lambda: True)
        await self.until(lambda: opened() == before, "nothing is left")
        self.assertEqual(it.reader.closings, ["the packet engine cannot have it"])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    async def test_it_comes_back_from_a_core_that_is_not_to_have_it(self) -> None:
        it = await self.connect()
        self.kept.take(it.number, it.stream, LiveCSTPChannel(it.stream, 0.0), lambda: False)
        await self.until(lambda: it.transport.producer is None, "it is offered")
        it.stream.close()
        await self.until(lambda: bool(it.clients_reader.closings), "the end")

    async def test_a_shell_cannot_be_read_or_written_by_accident(self) -> None:
        it = await self.connect()
        await self.hand_over(it)
        for call in (it.transport.resumeProducing, it.transport.loseConnection):
            self.assertRaises((ValueError, OSError), call)
        await self.assert_it_carries(it)
