"""What one peer makes the core tell leaves room for what another one says."""

from __future__ import annotations

import socket
from unittest import TestCase

from anyvpn.packets._compiled import CONTROL, DATAGRAM, TOO_LONG, Core
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import PacketKind, frame_packet
from tests.packets.core_threads import CoreThreads, Peer

FLOODER = bytes((10, 99, 0, 7))
OTHER = bytes((10, 99, 0, 8))
QUEUE_FULL = 6  # its place among counters
DROPPED_EVENTS = 1  # among totals
UNKNOWN_KIND = 200
HELLO = bytes((22, 254, 253)) + bytes(8) + (1300).to_bytes(2, "big") + bytes(1300)

Path = tuple[int, int, bytes, int, int, int, bytes]


def stranger(family: int, host: bytes) -> Path:
    return (0, family, host, 1000, 0, 0, b"")


class TunnelTests(TestCase):
    def test_a_flood_of_control_packets_costs_nobody_elses(self) -> None:
        threads = CoreThreads()
        self.addCleanup(threads.stop)
        core = threads.core
        core.attach(1, [(FLOODER, 32)], 1, 1400)
        core.attach(2, [(OTHER, 32)], 1, 1400)
        flooder, other = Peer(core, 1), Peer(core, 2)
        for size, times in ((15_000, 400), (1, 200)):  # the small ones fill what is left
            for _ in range(times):
                flooder.send(frame_packet(UNKNOWN_KIND, bytes(size)))
        flooder.send(frame_packet(PacketKind.DPD_REQUEST, b"all was read"))
        flooder.receive()
        other.send(frame_packet(PacketKind.DISCONNECT, b"goodbye"))
        while True:
            event = threads.wait_for(CONTROL)
            if event[1] == 2:
                break
        self.assertEqual(event[5], b"goodbye")
        dropped = core.counters(1)[QUEUE_FULL]  # type: ignore[index]  # it is there
        self.assertGreater(dropped, 500)
        self.assertEqual(core.totals()[DROPPED_EVENTS], dropped)
        self.assertEqual(core.counters(2)[QUEUE_FULL], 0)  # type: ignore[index]  # as above

    def test_as_many_floods_as_there_is_room_for_leave_each_its_own(self) -> None:
        core = Core(True, 0)
        for number in range(1, 9):
            core.attach(number, [(bytes((10, 99, 1, number)), 32)], 1, 0)  # all is too long
            for size in (1300, 1):  # the small ones fill what is left
                core.send_packets(number, [ipv4_packet(ANYWHERE, FLOODER, bytes(size))] * 1000)
        core.attach(9, [(OTHER, 32)], 1, 0)
        core.send_packets(9, [ipv4_packet(ANYWHERE, OTHER, b"one")])
        self.assertIn((TOO_LONG, 9), {event[:2] for event in core.events()})

    def test_packets_that_are_too_long_cost_no_control_packet(self) -> None:
        threads = CoreThreads()
        self.addCleanup(threads.stop)
        threads.core.attach(1, [(FLOODER, 32)], 1, 0)
        peer = Peer(threads.core, 1)
        threads.core.send_packets(1, [ipv4_packet(ANYWHERE, FLOODER, bytes(1300))] * 5000)
        peer.send(frame_packet(PacketKind.DISCONNECT, bytes(10_000)))
        self.assertEqual(threads.wait_for(CONTROL)[5], bytes(10_000))

    def test_what_was_heard_makes_room(self) -> None:
        core = Core(True, 0)
        core.attach(1, [(FLOODER, 32)], 1, 0)
        told = []
        for _ in range(2):
            core.send_packets(1, [ipv4_packet(ANYWHERE, FLOODER, bytes(1300))] * 1000)
            told.append(len(core.events()))
        self.assertEqual(*told)
        self.assertIn(told[0], range(500, 1000))


class StrangerTests(TestCase):
    def setUp(self) -> None:
        self.core = Core(True, 0)

    def assert_heard_behind_a_flood_of(self, flooders: list[Path], others: list[Path]) -> None:
        for each in flooders:
            self.core.take_datagrams(each, [HELLO] * 1000)
        for each in others:
            self.core.take_datagrams(each, [HELLO])
        self.assertGreater(self.core.totals()[DROPPED_EVENTS], 900)
        told = {event[4] for event in self.core.events() if event[0] == DATAGRAM}
        # Some may share a flooder's room, by chance
        self.assertGreater(len(told & set(others)), len(others) // 2)

    def test_one_hosts_flood_leaves_room_for_others(self) -> None:
        others = [stranger(socket.AF_INET, bytes((192, 0, 2, host))) for host in range(2, 12)]
        flooder = stranger(socket.AF_INET, bytes((192, 0, 2, 1)))
        self.assert_heard_behind_a_flood_of([flooder], others)

    def test_hosts_of_ipv4_at_a_socket_of_ipv6_are_hosts_of_their_own(self) -> None:
        def host(number: int) -> Path:
            packed = bytes(10) + b"\xff\xff" + bytes((192, 0, 2, number))
            return stranger(socket.AF_INET6, packed)

        self.assert_heard_behind_a_flood_of([host(1)], [host(number) for number in range(2, 12)])

    def test_floods_of_clients_leave_room_for_strangers(self) -> None:
        for number in range(1, 9):
            self.core.attach(number, [(bytes((10, 99, 1, number)), 32)], 1, 0)  # all is too long
            self.core.send_packets(number, [ipv4_packet(ANYWHERE, FLOODER, bytes(1300))] * 1000)
        self.core.take_datagrams(stranger(socket.AF_INET, bytes((192, 0, 2, 2))), [HELLO])
        self.assertIn(DATAGRAM, {event[0] for event in self.core.events()})

    def test_a_network_of_ipv6_is_one_host(self) -> None:
        def host(network: int, number: int) -> Path:
            packed = b"\x20\x01\x0d\xb8" + network.to_bytes(4, "big") + number.to_bytes(8, "big")
            return stranger(socket.AF_INET6, packed)

        flooders = [host(1, number) for number in range(30)]
        others = [host(network, 1) for network in range(2, 12)]
        self.assert_heard_behind_a_flood_of(flooders, others)
