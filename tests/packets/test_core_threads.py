"""The compiled core with its threads, streams and losses; without a tun device."""

from __future__ import annotations

import socket
from pathlib import Path
from unittest import TestCase

from anyvpn.model.events import Counters
from anyvpn.model.packet_filter import UDP, FilterRule
from anyvpn.packets._compiled import HANDSHAKE, LOST_STREAM, WAITING, Core
from anyvpn.packets.core_rules import core_rules
from anyvpn.packets.tls_keys import key_update
from anyvpn.testing.filter_packets import udp_packet
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.programs import wait_until
from anyvpn.wire.cstp import PacketKind, frame_data, frame_packet
from tests.packets.core_threads import (
    ALERT_TYPE,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLOSE_NOTIFY,
    HANDSHAKE_TYPE,
    CoreThreads,
    Direction,
    Peer,
    keys,
)

CLIENT = bytes((10, 99, 0, 7))
OTHER = bytes((10, 99, 0, 8))
ASKING_UPDATE = key_update()[:-1] + b"\1"
DTLS_KEYS = (b"\xfe\xfd", 1, 0, bytes(16), bytes(4), bytes(16), bytes(4))
PACKETS = 20

# From the protocol (RFC 8446, section 6.2; RFC 5246, section 7.2.2)
WARNING, FATAL = 1, 2
UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW = 10, 20, 22
DECODE_ERROR = 50

# What is no record, the alert that answers it, the reason for us
GARBAGE = (
    (b"GET / HTTP/1.1\r\n\r\n", UNEXPECTED_MESSAGE, b"bad record type"),
    (b"\x14\3\3\0\1\1", UNEXPECTED_MESSAGE, b"bad record type"),
    (b"\x17\2\3\0\x20" + bytes(32), DECODE_ERROR, b"wrong version number"),
    (b"\x17\3\3\x41\1", RECORD_OVERFLOW, b"record too long"),
    (b"\x17\3\3\0\0", BAD_RECORD_MAC, b"bad record mac"),
    (b"\x17\3\3\0\x20" + bytes(32), BAD_RECORD_MAC, b"bad record mac"),
)
# Content and type of a record, the alert that answers it, the reason for us
SEALED_GARBAGE = (
    (b"", 0, bytes((FATAL, UNEXPECTED_MESSAGE)), b"bad record type"),
    (bytes(16385), APPLICATION_DATA, bytes((FATAL, RECORD_OVERFLOW)), b"record too long"),
    (b"\1", CHANGE_CIPHER_SPEC, bytes((FATAL, UNEXPECTED_MESSAGE)), b"unexpected message"),
    (b"", HANDSHAKE_TYPE, bytes((FATAL, UNEXPECTED_MESSAGE)), b"unexpected message"),
    (b"\2", ALERT_TYPE, bytes((FATAL, UNEXPECTED_MESSAGE)), b"unexpected message"),
    (b"\1\0", ALERT_TYPE, bytes((WARNING, CLOSE_NOTIFY)), b"the peer closed the TLS connection"),
    (b"no frame at all", APPLICATION_DATA, bytes((WARNING, CLOSE_NOTIFY)), b"not a CSTP frame"),
)


def outgoing(text: bytes = b"") -> bytes:
    return ipv4_packet(CLIENT, ANYWHERE, text)


def incoming(text: bytes = b"") -> bytes:
    return ipv4_packet(ANYWHERE, CLIENT, text)


class StreamTests(TestCase):
    def setUp(self) -> None:
        self.threads = CoreThreads()
        self.addCleanup(self.threads.stop)
        self.core = self.threads.core
        self.core.attach(1, [(CLIENT, 32)], 1, 1400)

    def assert_it_carries(self, peer: Peer) -> None:
        peer.send(frame_data([outgoing(b"up")])[0])
        self.assertEqual(self.threads.kernel.recv(2000), outgoing(b"up"))
        self.threads.kernel.send(incoming(b"down"))
        self.assertEqual(peer.receive(), (APPLICATION_DATA, frame_data([incoming(b"down")])[0]))

    def assert_last_words(self, peer: Peer, alert: bytes) -> None:
        self.assertEqual(peer.coming.open(peer.take_back(self.core, 1)), (ALERT_TYPE, alert))

    def test_a_stream_carries_packets_both_ways(self) -> None:
        self.assert_it_carries(Peer(self.core, 1))

    def test_records_may_come_a_byte_at_a_time(self) -> None:
        peer = Peer(self.core, 1)
        for byte in peer.going.seal(frame_data([outgoing()])[0]):
            peer.socket.sendall(bytes((byte,)))
        self.assertEqual(self.threads.kernel.recv(2000), outgoing())

    def test_a_frame_may_go_over_several_records_and_a_record_hold_many(self) -> None:
        peer = Peer(self.core, 1)
        packets = [outgoing(b"%d" % number) for number in range(200)]
        data = b"".join(frame_data(packets))
        for start in range(0, len(data), 3001):
            peer.send(data[start : start + 3001])
        self.assertEqual([self.threads.kernel.recv(2000) for _ in packets], packets)

    def test_the_peers_keys_change_between_two_packets(self) -> None:
        peer = Peer(self.core, 1)
        peer.send(frame_data([outgoing(b"old")])[0])
        fresh = keys()
        records = peer.going.seal(key_update(), HANDSHAKE_TYPE)
        peer.going = Direction(fresh)
        peer.socket.sendall(records + peer.going.seal(frame_data([outgoing(b"new")])[0]))
        self.assertEqual(self.threads.wait_for(HANDSHAKE)[5], key_update())
        self.core.set_tls_keys(1, None, fresh, b"")
        received = [self.threads.kernel.recv(2000) for _ in range(2)]
        self.assertEqual(received, [outgoing(b"old"), outgoing(b"new")])
        self.assert_it_carries(peer)

    def test_keys_may_change_in_what_came_before_the_records_were_the_cores(self) -> None:
        fresh = keys()
        peer = Peer(self.core, 1, unread=lambda going: going.seal(key_update(), HANDSHAKE_TYPE))
        peer.going = Direction(fresh)
        self.threads.wait_for(HANDSHAKE)
        self.core.set_tls_keys(1, None, fresh, b"")
        self.assert_it_carries(peer)

    def test_our_keys_change_after_the_message_that_says_so(self) -> None:
        peer, fresh = Peer(self.core, 1), keys()
        self.core.set_tls_keys(1, fresh, None, key_update())
        self.assertEqual(peer.receive(), (HANDSHAKE_TYPE, key_update()))
        peer.coming = Direction(fresh)
        self.assert_it_carries(peer)

    def test_no_number_is_used_twice_where_new_keys_cannot_be_had(self) -> None:
        peer = Peer(self.core, 1)
        with self.assertRaises(ValueError):
            self.core.set_tls_keys(1, (b"too short", bytes(12)), None, key_update())
        self.threads.wait_for(LOST_STREAM)
        self.threads.kernel.send(incoming())
        peer.socket.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            peer.receive()

    def test_who_asks_for_keys_and_reads_nothing_is_lost(self) -> None:
        peer = Peer(self.core, 1)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(40_000):
            self.core.set_tls_keys(1, keys(), None, key_update())
        self.assertIn(b"more answers than it reads", self.threads.wait_for(LOST_STREAM)[5])
        self.assertLess(len(peer.take_back(self.core, 1)), 300_000)

    def test_an_empty_message_of_the_handshakes_kind_ends_it(self) -> None:
        Peer(self.core, 1).send(b"", HANDSHAKE_TYPE)
        self.assertIn(b"unexpected message", self.threads.wait_for(LOST_STREAM)[5])

    def test_each_end_is_told_with_the_streams_own_number(self) -> None:
        first = Peer(self.core, 1)
        first.socket.close()
        event = self.threads.wait_for(LOST_STREAM)
        second = Peer(self.core, 1)
        self.assertEqual((event[1], event[3]), (1, first.number))
        self.assertNotEqual(second.number, first.number)
        self.assert_it_carries(second)

    def test_garbage_ends_the_stream_and_nothing_else(self) -> None:
        self.core.attach(2, [(OTHER, 32)], 1, 1400)
        good = Peer(self.core, 2)
        for garbage, alert, why in GARBAGE:
            with self.subTest(why, garbage=garbage[:5]):
                peer = Peer(self.core, 1)
                peer.socket.sendall(garbage)
                self.assertIn(why, self.threads.wait_for(LOST_STREAM)[5])
                self.assert_last_words(peer, bytes((FATAL, alert)))
        good.send(frame_data([ipv4_packet(OTHER, ANYWHERE)])[0])
        self.assertEqual(self.threads.kernel.recv(2000), ipv4_packet(OTHER, ANYWHERE))

    def test_what_is_sealed_and_wrong_ends_it_with_an_alert(self) -> None:
        for data, content_type, alert, why in SEALED_GARBAGE:
            with self.subTest(why, size=len(data), content_type=content_type):
                peer = Peer(self.core, 1)
                peer.send(data, content_type)
                self.assertIn(why, self.threads.wait_for(LOST_STREAM)[5])
                self.assert_last_words(peer, alert)

    def test_last_words_come_behind_what_is_unsent(self) -> None:
        peer = Peer(self.core, 1)
        for _ in range(2000):
            self.threads.kernel.send(incoming(bytes(1300)))
        peer.socket.sendall(b"\x17\3\3\0\x20" + bytes(32))
        self.threads.wait_for(LOST_STREAM)
        unsent = peer.take_back(self.core, 1)
        self.assertGreater(len(unsent), 1300)
        received = b"".join(iter(lambda: peer.socket.recv(1 << 16), b"")) + unsent
        records = peer.coming.open_all(received)
        data = frame_data([incoming(bytes(1300))])[0]
        self.assertEqual(set(records[:-1]), {(APPLICATION_DATA, data)})
        self.assertEqual(records[-1], (ALERT_TYPE, bytes((FATAL, BAD_RECORD_MAC))))

    def test_a_connection_that_is_gone_is_told_nothing(self) -> None:
        for end, why in (
            (lambda peer: peer.socket.shutdown(socket.SHUT_WR), b"the peer closed the connection"),
            (lambda peer: peer.send(bytes((FATAL, 40)), ALERT_TYPE), b"the peer sent an alert"),
        ):
            with self.subTest(why):
                peer = Peer(self.core, 1)
                end(peer)
                self.assertIn(why, self.threads.wait_for(LOST_STREAM)[5])
                self.assertEqual(peer.take_back(self.core, 1), b"")

    def test_the_end_in_the_middle_of_a_record_is_an_end(self) -> None:
        peer = Peer(self.core, 1)
        peer.socket.sendall(peer.going.seal(bytes(500))[:100])
        peer.socket.close()
        self.assertEqual(self.threads.wait_for(LOST_STREAM)[5], b"the peer closed the connection")

    def test_who_stops_reading_costs_packets_of_its_own_alone(self) -> None:
        self.core.attach(2, [(OTHER, 32)], 1, 1400)
        slow, other = Peer(self.core, 1), Peer(self.core, 2)
        to_other = ipv4_packet(ANYWHERE, OTHER, bytes(1000))
        for _ in range(2000):
            self.threads.kernel.send(incoming(bytes(1300)))
            self.threads.kernel.send(to_other)
            self.assertEqual(other.receive()[1], frame_data([to_other])[0])
        counters = self.core.counters(1)
        assert counters is not None
        self.assertGreater(counters[6], 500)  # had no room
        carried = counters[2] + 64  # some wait, and go when there is room
        for _ in range(carried):
            self.assertEqual(slow.receive()[1], frame_data([incoming(bytes(1300))])[0])

    def test_a_goodbye_has_room_where_nothing_else_has(self) -> None:
        peer = Peer(self.core, 1)
        for _ in range(2000):
            self.threads.kernel.send(incoming(bytes(1300)))
        for _ in range(100):
            self.core.send_control(1, 0, PacketKind.KEEPALIVE, bytes(10_000))
        self.core.send_control(1, 0, PacketKind.DISCONNECT, b"")
        goodbye = frame_packet(PacketKind.DISCONNECT, b"")
        while peer.receive()[1] != goodbye:
            continue

    def test_what_is_unsent_comes_back_with_a_goodbye(self) -> None:
        peer = Peer(self.core, 1)
        self.threads.kernel.send(incoming())
        peer.receive()
        goodbye = peer.take_back(self.core, 1)
        self.assertEqual(peer.coming.open(goodbye), (21, b"\1\0"))
        with self.assertRaises(LookupError):
            self.core.take_tls(1, CLOSE_NOTIFY)

    def test_a_tunnel_that_goes_takes_its_stream_with_it(self) -> None:
        peer = Peer(self.core, 1)
        self.core.detach(1)
        self.assertEqual(peer.socket.recv(1), b"")
        self.core.attach(1, [(CLIENT, 32)], 1, 1400)
        self.assert_it_carries(Peer(self.core, 1))

    def test_tunnels_come_and_go_under_traffic(self) -> None:
        for number in range(2, 200):
            self.core.attach(number, [(OTHER, 32)], 1, 1400)
            peer = Peer(self.core, number)
            for _ in range(3):
                peer.send(frame_data([ipv4_packet(OTHER, ANYWHERE, b"x")])[0])
                self.threads.kernel.send(ipv4_packet(ANYWHERE, OTHER, b"y"))
            if number % 2:
                peer.take_back(self.core, number)
            self.core.detach(number)
            peer.socket.close()
        self.threads.kernel.setblocking(False)
        try:
            while True:
                self.threads.kernel.recv(2000)
        except BlockingIOError:
            self.threads.kernel.settimeout(10)
        self.assert_it_carries(Peer(self.core, 1))


class LifeTests(TestCase):
    def test_it_stops_and_starts_again_and_leaves_nothing_open(self) -> None:
        def opened() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        before = opened()
        for _ in range(20):
            threads = CoreThreads()
            threads.core.attach(1, [(CLIENT, 32)], 1, 1400)
            peer = Peer(threads.core, 1)
            threads.kernel.send(incoming())
            peer.receive()
            threads.stop()
            peer.socket.close()
            del threads
        self.assertEqual(opened(), before)


class ManyThreadsTests(TestCase):
    """What several threads and the reactor do to the same tunnels at once."""

    def setUp(self) -> None:
        self.threads = CoreThreads(queues=3)
        self.addCleanup(self.threads.stop)
        self.core = self.threads.core
        self.core.attach(1, [(CLIENT, 32)], 1, 1400)

    def flood(self, rounds: int) -> None:
        for number in range(rounds):
            for kernel in self.threads.kernels:
                kernel.send(incoming(b"%d" % number))
            self.core.send_control(1, 0, PacketKind.KEEPALIVE, b"")
            self.core.times(1, 0)

    def test_each_packet_arrives_in_an_order_of_its_queue(self) -> None:
        peer = Peer(self.core, 1)
        received: list[tuple[int, bytes]] = []
        for _ in range(20):
            self.flood(20)
            received += [peer.receive() for _ in range(4 * 20)]
        frames = [frame for _, frame in received]
        for number in range(20):
            self.assertEqual(frames.count(frame_data([incoming(b"%d" % number)])[0]), 3 * 20)

    def test_a_stream_that_ends_is_told_once_whoever_finds_it(self) -> None:
        for _ in range(30):
            peer = Peer(self.core, 1)
            self.flood(5)
            peer.socket.close()
            self.flood(5)
            self.assertEqual(self.threads.wait_for(LOST_STREAM)[3], peer.number)
            self.assertNotIn(LOST_STREAM, [event[0] for event in self.core.events()])
            peer.take_back(self.core, 1)

    def test_channels_change_while_all_threads_send(self) -> None:
        for _ in range(50):
            peer = Peer(self.core, 1)
            self.flood(3)
            self.core.set_tls_keys(1, keys(), None, key_update())
            self.flood(3)
            peer.take_back(self.core, 1)
            peer.socket.close()
            self.core.detach(1)
            self.core.attach(1, [(CLIENT, 32)], 1, 1400)

    def test_all_threads_ask_one_filter(self) -> None:
        self.core.attach(1, [(CLIENT, 32)], 1, 1400, core_rules((FilterRule(True, protocol=UDP),)))
        peer = Peer(self.core, 1)
        for port in range(300):
            question = udp_packet(CLIENT, port, ANYWHERE, 53)
            peer.send(frame_data([question])[0])
            self.assertEqual(self.threads.kernels[1].recv(2000), question)
            answer = udp_packet(ANYWHERE, 53, CLIENT, port)
            for kernel in self.threads.kernels:
                kernel.send(udp_packet(ANYWHERE, 54, CLIENT, port))
                kernel.send(answer)
            for _ in self.threads.kernels:
                self.assertEqual(peer.receive()[1], frame_data([answer])[0])
        counters = self.core.counters(1)
        assert counters is not None
        self.assertEqual(counters[8], 3 * 300)


class FullQueueTests(TestCase):
    """What the reactor must hear is heard, however much else there is to tell."""

    def test_packets_that_wait_are_told_behind_a_flood_of_control_packets(self) -> None:
        core = Core(True, 0)
        core.attach(1, [(CLIENT, 32)], 1, 0)  # whatever is sent is too long: each is told
        core.attach(2, [(OTHER, 32)], 1, 1400)
        core.set_cstp(2, True, False)
        core.send_packets(1, [incoming(bytes(1500))] * 5000)
        core.send_packets(1, [b"E"] * 100)
        self.assertGreater(core.totals()[1], 0)
        core.take_frames([ipv4_packet(ANYWHERE, OTHER)])
        self.assertIn(WAITING, [event[0] for event in core.events()])
        self.assertEqual(core.take_waiting(2, 10)[1], [ipv4_packet(ANYWHERE, OTHER)])


class DatagramTests(TestCase):
    def test_what_a_socket_refuses_is_counted_and_what_comes_next_goes(self) -> None:
        ours, peer = (
            self.enterContext(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in "12"
        )
        threads = CoreThreads()
        self.addCleanup(threads.stop)  # before its socket is closed
        for each in (ours, peer):
            each.bind(("127.0.0.1", 0))
        # Nobody may send to all hosts without having asked for it
        nowhere, somewhere = (b"\xff" * 4, 9), (bytes((127, 0, 0, 1)), peer.getsockname()[1])
        threads.core.attach(1, [(CLIENT, 32)], 1, 1400)
        threads.core.add_socket(0, 0, ours.fileno())
        for target, sent, lost in ((nowhere, 0, PACKETS), (somewhere, PACKETS, PACKETS)):
            threads.core.set_dtls(1, (0, socket.AF_INET, *target, 0, 0, b""), DTLS_KEYS)
            for _ in range(PACKETS):
                threads.kernel.send(incoming())
            wait_until(lambda: sum(self.moved(threads)) == sent + lost, "all are counted")  # noqa: B023 - called at once
            self.assertEqual(self.moved(threads), (sent, lost))

    @staticmethod
    def moved(threads: CoreThreads) -> tuple[int, int]:
        counters = threads.core.counters(1)
        assert counters is not None
        moved = Counters(*counters[:9])
        return moved.sent_packets, moved.dropped_queue_full
