"""What comes from the device: in bounded turns, and fair ones when it is too much."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import IPv4Address, IPv4Interface
from unittest import TestCase

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from anyvpn.model.tunnel_settings import Lease
from anyvpn.packets.device_reader import (
    ALONE_AFTER_S,
    BYTES_PER_WAKE,
    FRAMES_PER_WAKE,
    MOST_FOR_ALL_BYTES,
    DeviceReader,
)
from anyvpn.packets.routing import Routes
from anyvpn.packets.tunnels import Tunnel
from anyvpn.testing.inner_client import RecordingObserver
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.memory_tun import MemoryTun

ELEPHANT, MOUSE = (IPv4Address(f"10.99.0.{number}").packed for number in (7, 8))
LONGEST_FRAME_BYTES = 65_536


def frames_to(address: bytes, count: int, size: int = 5000) -> list[bytes]:
    return [ipv4_packet(ANYWHERE, address, bytes(size - 28)) for _ in range(count)]


class DeviceReaderTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.device = MemoryTun()
        self.routes: Routes[Tunnel] = Routes()
        self.elephant, self.mouse = map(self.tunnel, (ELEPHANT, MOUSE))
        self.batches: list[list[bytes]] = []
        self.reader = DeviceReader(self.clock, self.device, self.routes, self.batches.append)
        self.reader.start()

    def tunnel(self, address: bytes) -> Tunnel:
        lease = Lease(IPv4Interface(address))
        tunnel = Tunnel(address[3], lease, (), 1400, RecordingObserver())
        self.routes.add(tunnel, lease.addresses, ())
        return tunnel

    def sent_bytes(self) -> Counter[bytes]:
        """By destination, since it was asked last."""
        sent: Counter[bytes] = Counter()
        for frame in (frame for batch in self.batches for frame in batch):
            sent[frame[16:20]] += len(frame)
        self.batches.clear()
        return sent

    def test_what_is_not_too_much_is_handed_over_at_once(self) -> None:
        frames = [*frames_to(ELEPHANT, 40), *frames_to(MOUSE, 10)]
        self.device.inject(frames)
        self.assertEqual(self.batches, [frames])

    def test_a_turn_has_its_bounds_and_others_follow(self) -> None:
        for count, size in ((150, 40), (150, 5000), (16, 60_000)):
            with self.subTest(size=size):
                self.device.inject([*frames_to(MOUSE, 1, size), *frames_to(ELEPHANT, count, size)])
                self.assertEqual(len(self.batches), 1)
                self.clock.advance(0)
                for batch in self.batches:
                    self.assertLessEqual(len(batch), FRAMES_PER_WAKE)
                    self.assertLess(sum(map(len, batch)), BYTES_PER_WAKE + LONGEST_FRAME_BYTES)
                self.assertGreater(len(self.batches), 1)
                self.assertEqual(self.sent_bytes()[ELEPHANT], count * size)

    def test_who_fills_the_device_does_not_keep_others_waiting(self) -> None:
        self.device.inject(
            [*frames_to(ELEPHANT, 60), *frames_to(MOUSE, 5), *frames_to(ELEPHANT, 120)]
        )
        self.assertEqual(self.sent_bytes()[MOUSE], 5 * 5000)

    def test_who_wants_more_than_there_is_pays_for_it_alone(self) -> None:
        sent: Counter[bytes] = Counter()
        for _ in range(20):
            mixed = [*frames_to(ELEPHANT, 10, 9000), *frames_to(MOUSE, 1, 9000)] * 20
            self.device.inject(mixed)
            self.clock.pump([0])
            sent += self.sent_bytes()
        self.assertEqual((sent[MOUSE], self.mouse.dropped_queue_full), (20 * 20 * 9000, 0))
        self.assertGreater(self.elephant.dropped_queue_full, 0)

    def test_nothing_overtakes_what_waits(self) -> None:
        frames = [ipv4_packet(ANYWHERE, ELEPHANT, b"%d" % number) for number in range(100)]
        self.device.inject([*frames_to(MOUSE, 1), *frames[:90]])
        self.device.inject(frames[90:])
        self.clock.advance(0)
        sent = [frame for batch in self.batches for frame in batch]
        self.assertEqual([frame for frame in sent if frame[16:20] == ELEPHANT], frames)

    def test_what_finds_no_room_is_counted_packet_by_packet(self) -> None:
        self.device.vnet_header_bytes = 10
        header = struct.pack("=BBHHHH", 1, 1, 40, 1400, 20, 16)
        frames = [header + packet for packet in frames_to(ELEPHANT, 190, 40 + 14_000)]
        self.device.inject([bytes(10) + frames_to(MOUSE, 1)[0], *frames])
        self.clock.advance(0)
        sent = sum(map(len, self.batches)) - 1
        self.assertLess(sent, 190)
        self.assertEqual(self.elephant.dropped_queue_full, (190 - sent) * 10)

    def test_a_queue_that_is_full_for_all_leaves_the_rest_to_the_device(self) -> None:
        many = [IPv4Address(f"10.99.1.{number}").packed for number in range(100)]
        for address in many:
            self.tunnel(address)
        self.device.inject([frame for each in many for frame in frames_to(each, 1, 60_000)])
        waiting_bytes = 60_000 * (100 - len(self.device._waiting)) - sum(self.sent_bytes().values())
        self.assertLess(waiting_bytes, MOST_FOR_ALL_BYTES + 16 * 60_000)
        self.clock.advance(0)
        self.reader._ready()
        self.clock.advance(0)
        self.assertGreater(len(self.device._waiting), 0)

    def test_one_that_is_alone_needs_no_turns(self) -> None:
        frames = frames_to(ELEPHANT, 1000)
        self.device.inject(frames)
        self.assertEqual([frame for batch in self.batches for frame in batch], frames)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_shared_the_device_a_moment_ago_takes_turns(self) -> None:
        self.device.inject([*frames_to(MOUSE, 1), *frames_to(ELEPHANT, 90)])
        self.clock.advance(0)
        self.batches.clear()
        late = [*frames_to(ELEPHANT, 120), *frames_to(MOUSE, 1)]
        self.device.inject(late)
        self.assertIn(late[-1], self.batches[0])
        self.clock.pump([0, 0, ALONE_AFTER_S])
        self.batches.clear()
        self.device.inject(late)
        self.assertNotIn(late[-1], self.batches[0])

    def test_nothing_waits_that_was_read_as_it_stopped(self) -> None:
        read_packets = self.device.read_packets

        def read_and_stop(limit: int) -> list[bytes]:
            self.reader.stop()
            return read_packets(limit)

        self.device.read_packets = read_and_stop  # type: ignore[method-assign]
        self.device.inject([*frames_to(MOUSE, 1), *frames_to(ELEPHANT, 190)])
        self.assertEqual((self.clock.getDelayedCalls(), self.reader._queue.size_bytes), ([], 0))

    def test_nothing_is_sent_after_it_stopped(self) -> None:
        self.device.inject([*frames_to(MOUSE, 1), *frames_to(ELEPHANT, 190)])
        self.batches.clear()
        self.reader.stop()
        self.reader.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.reader._queue.size_bytes), ([], 0))
        self.device.inject(frames_to(ELEPHANT, 1))
        self.assertEqual(self.batches, [])

    def test_a_fault_of_ours_costs_one_batch(self) -> None:
        def fail(frames: list[bytes]) -> None:
            raise RuntimeError("a bug")

        self.reader._frames_read = fail
        with capturedLogs() as events:
            self.device.inject([*frames_to(MOUSE, 1), *frames_to(ELEPHANT, 190)])
        self.assertEqual([event["device"] for event in events], ["memory0"])
        self.reader._frames_read = self.batches.append
        self.clock.advance(0)
        self.assertGreater(self.sent_bytes()[ELEPHANT], 0)
