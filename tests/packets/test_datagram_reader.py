"""Several datagrams in one call: whose they are, how long, and what the kernel had joined."""

from __future__ import annotations

import os
import socket
import struct
import unittest

from anyvpn.packets.datagram_reader import (
    DATAGRAMS_PER_CALL,
    DatagramReader,
    Origin,
    socket_address,
)

_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104


class DatagramReaderTests(unittest.TestCase):
    def setUp(self) -> None:
        self.reader = DatagramReader()
        self.batches: dict[Origin, list[bytes]] = {}

    def opened(self, host: str = "127.0.0.1") -> socket.socket:
        """A socket that the kernel joins datagrams for."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(opened.close)
        opened.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        opened.bind((host, 0))
        return opened

    def receive(self, opened: socket.socket, most: int = DATAGRAMS_PER_CALL) -> tuple[int, int]:
        return self.reader.receive(opened, most, self.batches)

    def by_address(self) -> list[tuple[object, list[bytes]]]:
        return [(socket_address(name), batch) for (name, _), batch in self.batches.items()]

    def test_each_sender_has_a_batch_in_order(self) -> None:
        for host in ("127.0.0.1", "::1"):
            with self.subTest(host):
                self.batches.clear()
                opened, one, two = (self.opened(host) for _ in range(3))
                for number in range(3):
                    one.sendto(b"one %d" % number, opened.getsockname())
                    two.sendto(b"%d of another" % number, opened.getsockname())
                self.assertEqual(self.receive(opened), (6, 3 * 5 + 3 * 12))
                expected = [
                    (one.getsockname(), [b"one %d" % number for number in range(3)]),
                    (two.getsockname(), [b"%d of another" % number for number in range(3)]),
                ]
                self.assertEqual(self.by_address(), expected)

    def test_datagrams_that_came_as_one_stay_in_order_with_those_that_did_not(self) -> None:
        opened, sender = self.opened(), self.opened()
        sent: list[bytes] = []
        for sizes in ((1200, 1200, 1200, 30), (1200,), (900, 900), (17,), (1200, 1200)):
            burst = [os.urandom(size) for size in sizes]
            segment = [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", sizes[0]))]
            ancillary = segment if len(burst) > 1 else []
            sender.sendmsg(burst, ancillary, 0, opened.getsockname())
            sent += burst
        self.assertEqual(self.receive(opened), (5, sum(map(len, sent))))
        self.assertEqual(self.by_address(), [(sender.getsockname(), sent)])

    def test_a_call_reads_no_more_than_it_may(self) -> None:
        opened, sender = self.opened(), self.opened()
        for number in range(DATAGRAMS_PER_CALL + 2):
            sender.sendto(bytes(number), opened.getsockname())
        self.assertEqual(self.receive(opened, 1), (1, 0))
        self.assertEqual(
            self.receive(opened), (DATAGRAMS_PER_CALL, sum(range(1, DATAGRAMS_PER_CALL + 1)))
        )
        self.assertEqual(self.receive(opened), (1, DATAGRAMS_PER_CALL + 1))
        with self.assertRaises(BlockingIOError):
            self.receive(opened)

    def test_the_longest_datagram_comes_whole(self) -> None:
        opened, sender = self.opened(), self.opened()
        sent = [os.urandom(size) for size in (65_507, 1, 65_507)]
        for each in sent:
            sender.sendto(each, opened.getsockname())
        self.receive(opened)
        self.assertEqual(self.by_address(), [(sender.getsockname(), sent)])

    def test_a_closed_socket_is_an_error(self) -> None:
        opened = self.opened()
        opened.close()
        with self.assertRaises(OSError):
            self.receive(opened)
