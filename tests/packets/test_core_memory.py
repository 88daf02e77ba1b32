"""What comes and goes in the core leaves no memory behind."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable
from unittest import TestCase

from anyvpn.packets._compiled import Core
from anyvpn.packets.tls_keys import key_update
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import frame_data, frame_packet
from tests.heap import heap_bytes
from tests.packets.core_threads import CLOSE_NOTIFY, CoreThreads, Peer, keys

# Ours
WARM_UP_ROUNDS = 3
ROUNDS = 50
MOST_LEFT_BYTES = 20_000
"""What Python itself may keep; the smallest thing of the core's would be more in all rounds."""
TUNNELS = 20
KEYS = (b"\xfe\xfd", 1, 0, bytes(16), bytes(4), bytes(16), bytes(4))
HELLO = bytes((22, 254, 253)) + bytes(8) + b"\0\1x"


def address(number: int) -> bytes:
    return bytes((10, 99, 0, number))


def path(number: int) -> tuple[int, int, bytes, int, int, int, bytes]:
    return (0, socket.AF_INET, bytes((192, 0, 2, number)), 1000, 0, 0, b"")


def attach(core: Core, number: int) -> None:
    core.attach(number, [(address(number), 32), (bytes((10, number, 0, 0)), 16)], 1, 1400)


def peers_and_packets(core: Core) -> None:
    for number in range(1, TUNNELS + 1):
        attach(core, number)
        core.take_frames([bytes(12) + ipv4_packet(ANYWHERE, address(number), b"waits")])
        core.set_dtls(number, path(number), KEYS if number % 4 else None)
        core.take_frames([bytes(12) + ipv4_packet(ANYWHERE, address(number), bytes(300))])
        core.take_frames([bytes(12) + ipv4_packet(ANYWHERE, address(number), bytes(1500))])
        core.take_datagrams(path(number), [HELLO] * 3)
        core.set_dtls(number, path(number + 100), KEYS)
    for number in range(1, TUNNELS, 2):
        attach(core, number)
        core.detach(number + 1)
    core.sent(), core.written(), core.counters(1), core.take_waiting(1, 10)


class CoreMemoryTests(TestCase):
    def assert_nothing_is_left_by(self, work: Callable[[], None]) -> None:
        for _ in range(WARM_UP_ROUNDS):
            work()
        gc.collect()
        before, blocks_before = heap_bytes(), sys.getallocatedblocks()
        for _ in range(ROUNDS):
            work()
        gc.collect()
        self.assertLess(sys.getallocatedblocks() - blocks_before, ROUNDS)  # Python's objects
        self.assertLess(heap_bytes() - before, MOST_LEFT_BYTES)

    def test_cores_with_all_that_is_in_them(self) -> None:
        def work() -> None:
            core = Core(True, 12)
            peers_and_packets(core)

        self.assert_nothing_is_left_by(work)

    def test_tunnels_and_peers_of_one_core(self) -> None:
        core = Core(True, 12)

        def work() -> None:
            peers_and_packets(core)
            core.events()
            for number in range(1, TUNNELS + 1):
                core.detach(number)

        self.assert_nothing_is_left_by(work)

    def test_what_is_refused(self) -> None:
        core = Core(True, 12)
        attach(core, 1)
        wrong_keys = (*KEYS[:3], bytes(16), bytes(3), bytes(16), bytes(4))

        def work() -> None:
            for _ in range(20):
                self.assertRaises(ValueError, core.attach, 2, [(b"short", 32)], 1, 1400)
                self.assertRaises(ValueError, core.attach, 2, [(address(2), 32)], 2, 1400)
                self.assertRaises(ValueError, core.attach, 2, [(address(2), 32)], 1, -1)
                self.assertRaises(ValueError, core.set_dtls, 1, path(1), wrong_keys)
                self.assertRaises(
                    ValueError, core.set_dtls, 1, (*path(1)[:2], b"", *path(1)[3:]), None
                )
                self.assertRaises(TypeError, core.take_frames, ["no bytes"])
                self.assertRaises(LookupError, core.take_tls, 1, CLOSE_NOTIFY)

        self.assert_nothing_is_left_by(work)

    def test_streams(self) -> None:
        threads = CoreThreads()
        self.addCleanup(threads.stop)
        core = threads.core

        half = frame_packet(200, bytes(3000))[:2000]

        def work() -> None:
            attach(core, 1)
            for is_taken_back in (True, False):
                peer = Peer(core, 1)
                peer.send(frame_data([ipv4_packet(address(1), ANYWHERE)])[0])
                threads.kernel.recv(2000)
                core.set_tls_keys(1, keys(), None, key_update())
                threads.kernel.send(ipv4_packet(ANYWHERE, address(1), bytes(300)))
                peer.receive()
                if is_taken_back:
                    peer.take_back(core, 1)
                else:
                    core.detach(1)
                peer.socket.close()
                attach(core, 1)
                peer = Peer(core, 1, unread=lambda to: to.seal(half) + to.seal(half)[:99])
                core.detach(1)
                peer.socket.close()
                attach(core, 1)
            core.events()

        self.assert_nothing_is_left_by(work)

    def test_threads(self) -> None:
        def work() -> None:
            threads = CoreThreads(queues=2)
            attach(threads.core, 1)
            peer = Peer(threads.core, 1)
            threads.stop()
            peer.socket.close()

        self.assert_nothing_is_left_by(work)
