"""UDP sockets, on the loopback interface: bursts both ways, and answers from the right address."""

from __future__ import annotations

import errno
import os
import socket
import unittest
from unittest.mock import patch

from twisted.internet.error import CannotListenError
from twisted.logger import capturedLogs

from anyvpn.model.channels import PeerPath
from anyvpn.packets import datagrams as module
from anyvpn.packets.datagrams import DATAGRAMS_ALONE, RECEIVE_BYTES_PER_WAKE, DatagramSockets


class ReaderList:
    """The part of a reactor that watches descriptors; tests call them."""

    def __init__(self) -> None:
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def wake_all(self) -> None:
        for reader in tuple(self.readers):
            reader.doRead()


class DatagramSocketsCase(unittest.TestCase):
    def setUp(self) -> None:
        self.reactor = ReaderList()
        self.sockets = DatagramSockets(self.reactor)
        self.addCleanup(self.sockets.close)
        self.batches: list[tuple[PeerPath, list[bytes]]] = []

    def listen(self, *hosts: str) -> int:
        """Open a socket for each; gives the port of the first."""
        self.sockets.open([(host, 0) for host in hosts])
        self.sockets.start(lambda path, received: self.batches.append((path, received)))
        return self.sockets.addresses[0][1]

    def peer(self, host: str, port: int, *, source: str = "") -> socket.socket:
        """A connected socket at the other end."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        peer = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(peer.close)
        peer.settimeout(5)
        if source:
            peer.bind((source, 0))
        peer.connect((host, port))
        return peer

    def received(self) -> list[bytes]:
        """Everything that came, in order."""
        return [datagram for _, batch in self.batches for datagram in batch]


class DatagramSocketsTests(DatagramSocketsCase):
    def test_datagrams_come_by_sender_and_in_order(self) -> None:
        port = self.listen("127.0.0.1")
        one, two = self.peer("127.0.0.1", port), self.peer("127.0.0.1", port)
        for number in range(5):
            one.send(b"one %d" % number)
            two.send(b"two %d" % number)
        self.reactor.wake_all()
        expected = [
            (PeerPath(0, one.getsockname()), [b"one %d" % number for number in range(5)]),
            (PeerPath(0, two.getsockname()), [b"two %d" % number for number in range(5)]),
        ]
        self.assertEqual(self.batches, expected)

    def test_a_burst_is_cut_into_its_datagrams(self) -> None:
        port = self.listen("127.0.0.1")
        peer = self.peer("127.0.0.1", port)
        segments = [os.urandom(1000) for _ in range(20)] + [os.urandom(7)]
        size = (1000).to_bytes(2, "little")
        peer.sendmsg([b"".join(segments)], [(17, 103, size)])
        self.reactor.wake_all()
        self.assertEqual(self.received(), segments)

    def test_an_empty_datagram_does_no_harm(self) -> None:
        peer = self.peer("127.0.0.1", self.listen("127.0.0.1"))
        peer.send(b"")
        peer.send(b"x")
        self.reactor.wake_all()
        self.assertEqual(self.received(), [b"", b"x"])

    def test_one_wake_leaves_the_rest_to_the_next(self) -> None:
        peer = self.peer("127.0.0.1", self.listen("127.0.0.1"))
        for _ in range(200):
            peer.send(b"small")
        self.reactor.wake_all()
        self.assertEqual(len(self.received()), module.DATAGRAMS_PER_WAKE)
        self.reactor.wake_all()
        self.assertEqual(len(self.received()), 200)
        self.batches.clear()
        for _ in range(12):
            peer.send(bytes(60_000))
        self.reactor.wake_all()
        self.assertLess(sum(map(len, self.received())), RECEIVE_BYTES_PER_WAKE + 65_536)

    def test_short_datagrams_come_many_in_a_call(self) -> None:
        peer = self.peer("127.0.0.1", self.listen("127.0.0.1"))
        for _ in range(module.DATAGRAMS_PER_WAKE):
            peer.send(bytes(1400))
        reader = module.DatagramReader
        with patch.object(reader, "receive", autospec=True, side_effect=reader.receive) as receive:
            self.reactor.wake_all()
        self.assertEqual(len(self.received()), module.DATAGRAMS_PER_WAKE)
        self.assertLessEqual(receive.call_count, 5)

    def test_what_is_sent_arrives_whatever_the_sizes(self) -> None:
        peer = self.peer("127.0.0.1", self.listen("127.0.0.1"))
        path = PeerPath(0, peer.getsockname())
        sizes = [1400] * 70 + [20, 20, 1400, 1, 1400, 1400, 40_000, 9]
        sent = [os.urandom(size) for size in sizes]
        self.assertEqual(self.sockets.send(path, sent), 0)
        self.assertEqual([peer.recv(65535) for _ in sent], sent)

    def test_answers_leave_from_the_address_that_was_spoken_to(self) -> None:
        port = self.listen("0.0.0.0")
        peer = self.peer("127.0.0.9", port, source="127.0.0.1")
        peer.send(b"hello")
        self.reactor.wake_all()
        ((path, _),) = self.batches
        self.assertEqual(path.local_address, "127.0.0.9")
        self.assertEqual(self.sockets.send(path, [b"answer", b"answer"]), 0)
        self.assertEqual([peer.recv(100), peer.recv(100)], [b"answer", b"answer"])

    def test_one_socket_serves_both_families(self) -> None:
        port = self.listen("::")
        for host, source in (("127.0.0.9", "127.0.0.1"), ("::1", "::1")):
            with self.subTest(host):
                self.batches.clear()
                peer = self.peer(host, port, source=source)
                peer.send(b"hello")
                self.reactor.wake_all()
                ((path, _),) = self.batches
                self.assertTrue(path.local_address.endswith(host))
                self.assertEqual(self.sockets.send(path, [bytes(900)] * 3), 0)
                self.assertEqual([len(peer.recv(1000)) for _ in range(3)], [900] * 3)

    def test_both_wildcards_share_a_port(self) -> None:
        probe = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        probe.bind(("::", 0))
        port = probe.getsockname()[1]
        probe.close()
        self.sockets.open([("::", port), ("0.0.0.0", port)])
        self.sockets.start(lambda path, received: self.batches.append((path, received)))
        self.peer("127.0.0.1", port).send(b"four")
        self.peer("::1", port).send(b"six")
        self.reactor.wake_all()
        by_index = {path.socket_index: received for path, received in self.batches}
        self.assertEqual(by_index, {1: [b"four"], 0: [b"six"]})

    def test_a_port_that_is_taken_is_said_and_nothing_is_kept(self) -> None:
        port = self.listen("127.0.0.1")
        other = DatagramSockets(self.reactor)
        with self.assertRaises(CannotListenError) as caught:
            other.open([("127.0.0.2", port), ("127.0.0.1", port)])
        self.assertEqual((caught.exception.interface, caught.exception.port), ("127.0.0.1", port))
        self.assertEqual(caught.exception.socketError.errno, errno.EADDRINUSE)
        self.assertEqual(other.addresses, ())
        again = DatagramSockets(self.reactor)
        again.open([("127.0.0.2", port)])
        again.close()

    def test_closing_lets_the_port_go_and_sends_nothing_any_more(self) -> None:
        port = self.listen("127.0.0.1")
        path = PeerPath(0, self.peer("127.0.0.1", port).getsockname())
        self.sockets.close()
        self.sockets.close()
        self.assertEqual(self.reactor.readers, [])
        self.assertEqual(self.sockets.send(path, [b"x", b"y"]), 2)
        self.sockets.open([("127.0.0.1", port)])

    def test_a_receiver_that_fails_costs_its_batch_alone(self) -> None:
        port = self.listen("127.0.0.1")
        one, two = self.peer("127.0.0.1", port), self.peer("127.0.0.1", port)
        taken: list[bytes] = []

        def receive(path: PeerPath, datagrams: list[bytes]) -> None:
            if path.address == one.getsockname():
                raise RuntimeError("a bug")
            taken.extend(datagrams)

        self.sockets.start(receive)
        with capturedLogs() as events:
            one.send(b"bad")
            two.send(b"good")
            self.reactor.wake_all()
            two.send(b"good again")
            self.reactor.wake_all()
        self.assertEqual(taken, [b"good", b"good again"])
        self.assertEqual([event["peer"] for event in events], [one.getsockname()])

    def test_a_peer_that_is_gone_disturbs_nobody(self) -> None:
        port = self.listen("127.0.0.1")
        gone = self.peer("127.0.0.1", port)
        path = PeerPath(0, gone.getsockname())
        gone.close()
        for _ in range(3):
            self.sockets.send(path, [b"anybody?"])
        self.peer("127.0.0.1", port).send(b"hello")
        self.reactor.wake_all()
        self.assertEqual(self.received(), [b"hello"])


class SocketOptionTests(DatagramSocketsCase):
    def options(self, host: str) -> socket.socket:
        self.listen(host)
        return self.sockets._sockets[0].socket

    def test_datagrams_may_be_fragmented_in_both_families(self) -> None:
        dual = self.options("::")
        self.assertEqual(dual.getsockopt(socket.IPPROTO_IPV6, 23), 0)
        self.assertEqual(dual.getsockopt(socket.IPPROTO_IP, 10), 0)

    def test_the_kernel_joins_bursts_and_holds_more_than_usual(self) -> None:
        opened = self.options("127.0.0.1")
        self.assertEqual(opened.getsockopt(17, 104), 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                usual_bytes = plain.getsockopt(socket.SOL_SOCKET, option)
                self.assertGreater(opened.getsockopt(socket.SOL_SOCKET, option), usual_bytes)


class RefusingSocket:
    """A socket that refuses bursts, or everything, with an error of choice."""

    def __init__(self, opened: socket.socket, burst: int = 0, single: int = 0) -> None:
        self._opened = opened
        self.refuses_bursts, self._single = burst, single
        self.bursts = 0

    def sendmsg(self, *arguments: object) -> int:
        self.bursts += 1
        if self.refuses_bursts:
            raise OSError(self.refuses_bursts, "refused")
        return self._opened.sendmsg(*arguments)

    def sendto(self, *arguments: object) -> int:
        if self._single:
            raise OSError(self._single, "refused")
        return self._opened.sendto(*arguments)

    def __getattr__(self, name: str) -> object:
        return getattr(self._opened, name)


class RefusedBurstTests(DatagramSocketsCase):
    def refuse(self, burst: int = 0, single: int = 0) -> tuple[socket.socket, PeerPath]:
        peer = self.peer("127.0.0.1", self.listen("127.0.0.1"))
        one = self.sockets._sockets[0]
        self.refusing = one.socket = RefusingSocket(one.socket, burst, single)
        return peer, PeerPath(0, peer.getsockname())

    def test_each_datagram_goes_alone_where_bursts_are_impossible(self) -> None:
        for error in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
            with self.subTest(errno.errorcode[error]):
                peer, path = self.refuse(error)
                for _ in range(2):
                    self.assertEqual(self.sockets.send(path, [bytes(1400)] * 5), 0)
                    self.assertEqual([len(peer.recv(2000)) for _ in range(5)], [1400] * 5)
                self.assertEqual(self.refusing.bursts, 1)
                self.sockets.close()

    def test_shorter_datagrams_still_go_in_bursts_on_a_narrow_path(self) -> None:
        _, path = self.refuse(errno.EINVAL)
        self.sockets.send(path, [bytes(1400)] * 5)
        self.sockets.send(path, [bytes(1300)] * 5)
        self.assertEqual(self.refusing.bursts, 2)

    def test_bursts_are_tried_again_later(self) -> None:
        _, path = self.refuse(errno.EMSGSIZE)
        for _ in range(DATAGRAMS_ALONE // 5):
            self.sockets.send(path, [bytes(1400)] * 5)
            self.assertEqual(self.refusing.bursts, 1)
        for _ in range(10):
            self.sockets.send(path, [bytes(1400)] * 5)
        self.assertEqual(self.refusing.bursts, 2)
        self.refusing.refuses_bursts = 0
        for _ in range(DATAGRAMS_ALONE // 5 + 10):
            self.sockets.send(path, [bytes(1400)] * 5)
        self.assertGreater(self.refusing.bursts, 10)

    def test_what_icmp_says_of_one_peer_keeps_nobody_from_being_read(self) -> None:
        peer = self.peer("127.0.0.1", self.listen("127.0.0.1"))
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        receive = self.sockets._reader.receive
        answers = iter([refused, refused, refused])

        def complain(*arguments: object) -> tuple[int, int]:
            for complaint in answers:
                raise complaint
            return receive(*arguments)

        peer.send(b"hello")
        with patch.object(self.sockets._reader, "receive", complain):
            self.reactor.wake_all()
        self.assertEqual(self.received(), [b"hello"])

    def test_no_burst_is_longer_than_a_datagram_may_be(self) -> None:
        _, path = self.refuse()
        for size in (1, 40, 1000, 1400, 32_500, 32_501):
            self.refusing.bursts = 0
            self.assertEqual(self.sockets.send(path, [bytes(size)] * 130), 0)
            most = min(64, 65_000 // size)
            bursts = -(-130 // most) if most > 1 else 0
            self.assertEqual((size, self.refusing.bursts), (size, bursts))

    def test_a_full_buffer_drops_the_rest_and_says_how_many(self) -> None:
        _, path = self.refuse(errno.EAGAIN, errno.EAGAIN)
        self.assertEqual(self.sockets.send(path, [bytes(1400)] * 70 + [b"x"]), 71)

    def test_what_cannot_be_sent_is_dropped_and_counted(self) -> None:
        _, path = self.refuse(errno.EPERM, errno.EMSGSIZE)
        self.assertEqual(self.sockets.send(path, [bytes(1400), bytes(1500), bytes(1500)]), 3)
