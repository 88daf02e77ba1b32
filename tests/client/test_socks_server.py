"""The SOCKS5 proxy between two sockets of the test."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import reactor as running
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.trial.unittest import TestCase

from anyvpn.client import socks_server
from anyvpn.client.socks_server import GREETING_TIME_S, SocksServerFactory
from anyvpn.errors import TunUnavailable
from tests.client.sockets import (
    HandedOut,
    SteeredReactor,
    connected_pair,
    eventually,
    receive,
    receive_all,
)

GREETING = b"\x05\x01\x00"
REQUEST = b"\x05\x01\x00\x03\x0bhost.inside\x00\x50"
GRANTED = b"\x05\x00\x05\x00\x00\x01" + bytes(6)
PLENTY_BYTES = 64_000_000


def asynchronous(
    test: Callable[[Any], Coroutine[Deferred[Any], Any, None]],
) -> Callable[[Any], Deferred[None]]:
    return lambda case: Deferred.fromCoroutine(test(case))


class SocksCase(TestCase):
    timeout = 30
    password = ""

    def setUp(self) -> None:
        self.reactor = SteeredReactor()
        self.network = HandedOut()
        self.factory = SocksServerFactory(self.reactor, self.network, self.password)
        self.addCleanup(self.leave)
        self.clients: list[socket.socket] = []

    def client(self) -> socket.socket:
        """A client that has connected to the proxy."""
        ours, theirs = connected_pair()
        running.adoptStreamConnection(theirs.fileno(), theirs.family, self.factory)
        theirs.close()
        self.clients.append(ours)
        return ours

    async def joined(self) -> tuple[socket.socket, socket.socket]:
        """A client, and the host that it is connected with."""
        client = self.client()
        client.send(GREETING + REQUEST)
        self.assertEqual(await receive(client, len(GRANTED)), GRANTED)
        return client, self.network.ends[-1]

    def leave(self) -> Deferred[None]:
        for each in (*self.clients, *self.network.ends):
            each.close()
        left = eventually(lambda: not self.factory.connections, "all clients are gone")
        return Deferred.fromCoroutine(left)


class RelayTests(SocksCase):
    @asynchronous
    async def test_bytes_go_both_ways(self) -> None:
        client, host = await self.joined()
        self.assertEqual(self.network.asked, [("host.inside", 80, 30.0)])
        client.send(b"question")
        self.assertEqual(await receive(host, 8), b"question")
        host.send(b"answer")
        self.assertEqual(await receive(client, 6), b"answer")

    @asynchronous
    async def test_what_comes_before_the_answer_is_not_lost(self) -> None:
        self.network.hold_back = Deferred()
        client = self.client()
        client.send(GREETING + REQUEST + b"early ")
        await eventually(lambda: self.network.asked, "the request")
        client.send(b"bird")
        await receive(client, 2)
        self.network.hold_back.callback(None)
        self.assertEqual(await receive(client, 10), GRANTED[2:])
        self.assertEqual(await receive(self.network.ends[0], 10), b"early bird")

    @asynchronous
    async def test_a_client_that_has_said_all_gets_its_answer(self) -> None:
        client, host = await self.joined()
        client.send(b"question")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(await receive_all(host), b"question")
        host.send(b"answer")
        host.close()
        self.assertEqual(await receive_all(client), b"answer")
        await eventually(lambda: not self.factory.connections, "the client is let go")

    @asynchronous
    async def test_a_host_that_has_said_all_hears_the_rest(self) -> None:
        client, host = await self.joined()
        host.shutdown(socket.SHUT_WR)
        self.assertEqual(await receive_all(client), b"")
        client.send(b"late")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(await receive_all(host), b"late")
        await eventually(lambda: not self.factory.connections, "the client is let go")

    @asynchronous
    async def test_a_client_may_have_said_all_before_it_is_connected(self) -> None:
        self.network.hold_back = Deferred()
        client = self.client()
        client.send(GREETING + REQUEST)
        client.shutdown(socket.SHUT_WR)
        await eventually(lambda: self.network.asked, "the request")
        await receive(client, 2)
        self.network.hold_back.callback(None)
        await eventually(lambda: self.network.ends, "the connection")
        [host] = self.network.ends
        self.assertEqual(await receive_all(host), b"")
        host.send(b"answer")
        host.close()
        self.assertEqual(await receive_all(client), GRANTED[2:] + b"answer")

    @asynchronous
    async def test_who_does_not_listen_stops_the_other(self) -> None:
        client, host = await self.joined()
        for sender in (client, host):
            sent, quiet = 0, 0
            while quiet < 20:
                try:
                    sent += sender.send(bytes(1_000_000))
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                    waited_from_s = running.seconds()
                    await eventually(
                        lambda since=waited_from_s: running.seconds() - since > 0.01, "a while"
                    )
                self.assertLess(sent, PLENTY_BYTES)
        # And it goes on where it stopped
        received = 0
        while received < sent:
            received += len(await receive(client, min(1_000_000, sent - received)))

    @asynchronous
    async def test_the_end_of_one_is_the_end_of_the_other(self) -> None:
        client, host = await self.joined()
        client.close()
        self.assertEqual(await receive_all(host), b"")
        host.close()
        await eventually(lambda: not self.factory.connections, "the client is let go")


class FailureTests(SocksCase):
    @asynchronous
    async def test_failures_are_told_as_socks_has_them(self) -> None:
        for failure, status in (
            (ConnectionRefusedError(), 5),
            (TCPTimedOutError(), 6),
            (NoRouteError(), 3),
            (DNSLookupError(), 4),
            (TunUnavailable("gone"), 1),
        ):
            self.network.failure = failure
            client = self.client()
            client.send(GREETING + REQUEST)
            answer = await receive_all(client)
            self.assertEqual(answer[2:], bytes([5, status, 0, 1]) + bytes(6), failure)

    @asynchronous
    async def test_a_bug_behind_it_costs_one_client(self) -> None:
        self.network.failure = ZeroDivisionError()
        client = self.client()
        client.send(GREETING + REQUEST)
        with self.assertRaises(ConnectionResetError):
            await receive_all(client)
        self.flushLoggedErrors(ZeroDivisionError)
        self.network.failure = None
        await self.joined()

    @asynchronous
    async def test_a_client_that_leaves_ends_its_connecting(self) -> None:
        cancelled: list[object] = []
        self.network.hold_back = Deferred(cancelled.append)
        client = self.client()
        client.send(GREETING + REQUEST)
        await eventually(lambda: self.network.asked, "the request")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await eventually(lambda: cancelled, "nobody waits any more")
        self.assertEqual(self.network.ends, [])

    @asynchronous
    async def test_who_says_nothing_is_let_go(self) -> None:
        client = self.client()
        client.send(GREETING)
        await receive(client, 2)
        self.reactor.advance(GREETING_TIME_S - 0.1)
        self.assertEqual(self.factory.connections, 1)
        self.reactor.advance(0.2)
        await eventually(lambda: not self.factory.connections, "it is let go")

    @asynchronous
    async def test_a_connection_has_no_such_limit(self) -> None:
        client, host = await self.joined()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        host.send(b"still there")
        self.assertEqual(await receive(client, 11), b"still there")

    @asynchronous
    async def test_half_a_greeting_and_the_end(self) -> None:
        client = self.client()
        client.send(GREETING[:1])
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(await receive_all(client), b"")

    @asynchronous
    async def test_bind_is_not_supported(self) -> None:
        client = self.client()
        client.send(GREETING + b"\x05\x02" + REQUEST[2:])
        self.assertEqual((await receive_all(client))[2:4], b"\x05\x07")

    @asynchronous
    async def test_more_clients_than_there_is_room_for(self) -> None:
        self.patch(socks_server, "MOST_CONNECTIONS", 2)
        await self.joined()
        await self.joined()
        self.assertEqual(await receive_all(self.client()), b"")


class PasswordTests(SocksCase):
    password = "sesame"

    @asynchronous
    async def test_a_password_opens(self) -> None:
        client = self.client()
        client.send(b"\x05\x01\x02\x01\x02me\x06sesame" + REQUEST)
        self.assertEqual(await receive(client, 14), b"\x05\x02\x01\x00" + GRANTED[2:])

    @asynchronous
    async def test_another_one_does_not(self) -> None:
        client = self.client()
        client.send(b"\x05\x01\x02\x01\x02me\x06sesam!" + REQUEST)
        self.assertEqual(await receive_all(client), b"\x05\x02\x01\x01")
        self.assertEqual(self.network.asked, [])
