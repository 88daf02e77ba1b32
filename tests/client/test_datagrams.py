"""The client's UDP socket: how much may wait in it."""

from __future__ import annotations

import socket
from unittest import TestCase

from twisted.internet.testing import MemoryReactor

from anyvpn.client.datagrams import RECEIVE_BUFFER_BYTES, GatewayDatagrams

DATAGRAM_BYTES = 1400


class WaitingTests(TestCase):
    def test_what_is_too_much_is_dropped_rather_than_late(self) -> None:
        reactor = MemoryReactor()
        datagrams = GatewayDatagrams(reactor)
        self.addCleanup(datagrams.close)
        received: list[bytes] = []
        datagrams.start(lambda _, some: received.extend(some))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
            gateway.bind(("127.0.0.1", 0))
            path = datagrams.renew(*gateway.getsockname())
            self.assertEqual(datagrams.send(path, [b"hello"]), 0)
            _, client = gateway.recvfrom(100)
            for _ in range(3 * RECEIVE_BUFFER_BYTES // DATAGRAM_BYTES):
                gateway.sendto(bytes(DATAGRAM_BYTES), client)
        (reader,) = reactor.getReaders()
        before = -1
        while len(received) > before:
            before = len(received)
            reader.doRead()
        self.assertLess(len(received) * DATAGRAM_BYTES, 2 * RECEIVE_BUFFER_BYTES)
        self.assertGreater(len(received), 64)
