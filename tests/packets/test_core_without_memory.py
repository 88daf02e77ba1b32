"""Where Python has no memory, a call of the core's raises, and costs nothing else.

The core's own memory: scarce_core.py and fuzz/scarce_memory.c.
"""

from __future__ import annotations

import _testcapi
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import TestCase

from anyvpn.packets._compiled import Core
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import frame_data
from tests.packets.core_threads import CIPHER, CLOSE_NOTIFY, CoreThreads, Direction, keys

Result = TypeVar("Result")

# Ours: no call makes as many
MOST_ALLOCATIONS = 60
CLIENT = bytes((10, 99, 0, 7))
PATH = (0, socket.AF_INET, bytes((192, 0, 2, 1)), 1000, 0, 0, b"")
KEYS = (b"\xfe\xfd", 1, 0, bytes(16), bytes(4), bytes(16), bytes(4))
HELLO = bytes((22, 254, 253)) + bytes(8) + b"\0\1x"
TO_CLIENT = ipv4_packet(ANYWHERE, CLIENT, b"down")


def without(number: int, call: Callable[..., Result], *arguments: Any) -> Result | None:
    """What the call gives when that allocation of Python's fails; None when it raises."""
    result = None
    _testcapi.set_nomemory(number, number + 1)
    try:
        result = call(*arguments)
    except MemoryError:
        pass
    finally:
        _testcapi.remove_mem_hooks()
    return result


def fail_each(call: Callable[[int], bool]) -> None:
    """Let each allocation fail; the call gives whether it went well, as the last one does."""
    outcomes = [call(number) for number in range(MOST_ALLOCATIONS)]
    assert outcomes[-1]
    assert not all(outcomes)


class DrivenCoreTests(TestCase):
    def setUp(self) -> None:
        self.core = Core(True, 0)
        self.core.attach(1, [(CLIENT, 32)], 1, 1400)

    def test_a_core_is_made_or_not(self) -> None:
        fail_each(lambda number: without(number, Core, True, 0) is not None)

    def test_packets_are_sent_or_lost(self) -> None:
        self.core.set_dtls(1, PATH, KEYS)

        def send(number: int) -> bool:
            without(number, self.core.take_frames, [TO_CLIENT])
            return len(self.core.sent()) == 1

        fail_each(send)

    def test_no_event_is_lost(self) -> None:
        def hear(number: int) -> bool:
            self.core.take_datagrams(PATH, [HELLO] * 3)
            told = without(number, self.core.events) or []
            rest = self.core.events()
            self.assertEqual([event[5] for event in (*told, *rest)], [HELLO] * 3)
            return not rest

        fail_each(hear)

    def test_packets_that_waited_are_had_or_lost(self) -> None:
        self.core.set_cstp(1, True, False)

        def take(number: int) -> bool:
            self.core.take_frames([TO_CLIENT] * 3)
            waiting = without(number, self.core.take_waiting, 1, 10)
            self.core.take_waiting(1, 10)
            return waiting == (0, [TO_CLIENT] * 3)

        fail_each(take)


class StreamTests(TestCase):
    """A descriptor has one owner, whatever cannot be had."""

    def setUp(self) -> None:
        self.threads = CoreThreads()
        self.addCleanup(self.threads.stop)
        self.core = self.threads.core
        self.core.attach(1, [(CLIENT, 32)], 1, 1400)

    def test_a_stream_is_the_cores_or_still_ours(self) -> None:
        def hand_over(number: int) -> bool:
            ours, peers = socket.socketpair()
            write = keys()
            arguments = (1, ours.fileno(), True, CIPHER, 0, 0, write, keys(), b"", b"")
            is_taken = without(number, self.core.set_tls, *arguments) is not None
            if is_taken:
                descriptor, goodbye = self.core.take_tls(1, CLOSE_NOTIFY)
                self.assertEqual(descriptor, ours.fileno())
                self.assertEqual(Direction(write).open(goodbye), (21, b"\1\0"))
            else:
                self.assertRaises(LookupError, self.core.take_tls, 1, CLOSE_NOTIFY)
            os.fstat(ours.fileno())
            ours.close()
            peers.close()
            return is_taken

        fail_each(hand_over)

    def test_a_stream_that_cannot_be_given_back_goes_on(self) -> None:
        def give_back(number: int) -> bool:
            ours, peers = socket.socketpair()
            ours.setblocking(False)
            peers.settimeout(10)
            write = keys()
            self.core.set_tls(1, ours.fileno(), True, CIPHER, 0, 0, write, keys(), b"", b"")
            is_given = without(number, self.core.take_tls, 1, CLOSE_NOTIFY) is not None
            if not is_given:
                self.threads.kernel.send(TO_CLIENT)
                sealed = Direction(write)
                frame = frame_data([TO_CLIENT])[0]
                self.assertEqual(sealed.open(peers.recv(2000)), (23, frame))
                _, goodbye = self.core.take_tls(1, CLOSE_NOTIFY)
                self.assertEqual(sealed.open(goodbye), (21, b"\1\0"))
            self.assertRaises(LookupError, self.core.take_tls, 1, CLOSE_NOTIFY)
            ours.close()
            peers.close()
            return is_given

        fail_each(give_back)
