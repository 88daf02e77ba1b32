"""Where the core has no memory of its own, a call of it raises, costs nothing else, keeps nothing.

Only tools/check-engine can run it: it builds a core whose allocations fail when they are to
(tests/packets/fuzz/failing_memory.c). Python's memory: test_core_without_memory.py.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar
from unittest import TestCase

from anyvpn.model.packet_filter import UDP, FilterRule
from anyvpn.packets import _compiled
from anyvpn.packets._compiled import Core
from anyvpn.packets.core_rules import core_rules
from anyvpn.wire.cstp import PacketKind, frame_packet
from tests.packets.core_threads import CIPHER, CLOSE_NOTIFY, CoreThreads, Peer, keys
from tests.packets.test_core_without_memory import CLIENT, HELLO, KEYS, PATH, TO_CLIENT

Result = TypeVar("Result")

RULES = core_rules((FilterRule(True, protocol=UDP),))
HALF_A_FRAME = frame_packet(PacketKind.DATA, TO_CLIENT)[:20]

_library = ctypes.CDLL(_compiled.__file__)
_fails = ctypes.c_bool.in_dll(_library, "memory_fails")
_left = ctypes.c_long.in_dll(_library, "memory_left")
_held = ctypes.c_long.in_dll(_library, "memory_held")


def without(number: int, call: Callable[..., Result], *arguments: Any) -> Result | None:
    """What the call gives when that allocation of the core's fails; None when it raises."""
    _left.value, _fails.value = number, True
    try:
        return call(*arguments)
    except MemoryError:
        return None
    except OSError as error:
        assert error.errno == errno.ENOMEM, error
        return None
    finally:
        _fails.value = False


def succeeds(number: int, call: Callable[..., None], *arguments: Any) -> bool:
    """Whether the call raises nothing."""
    return without(number, lambda: call(*arguments) is None) is not None


class ScarceTests(TestCase):
    def setUp(self) -> None:
        held = _held.value
        self.addCleanup(lambda: self.assertEqual(_held.value, held))

    def fail_each(self, call: Callable[[int], bool]) -> None:
        """Let each allocation fail; the call gives whether it went well, as the last one does."""
        for number in count(1):
            went_well = call(number)
            if _left.value:
                break
        self.assertTrue(went_well)
        self.assertGreater(number, 1)

    def core(self) -> Core:
        core = Core(True, 0)
        core.attach(1, [(CLIENT, 32)], 1, 1400)
        return core

    def test_a_core_is_made_or_not(self) -> None:
        def make(number: int) -> bool:
            core = without(number, Core, True, 0)
            if core is not None:
                core.take_frames([TO_CLIENT])
            return core is not None

        self.fail_each(make)

    def test_a_tunnel_is_there_or_not(self) -> None:
        core = Core(True, 0)

        def attach(number: int) -> bool:
            went_well = succeeds(number, core.attach, 1, [(CLIENT, 32)], 1, 1400, RULES)
            is_there = core.counters(1) is not None
            self.assertEqual(is_there, went_well)
            core.detach(1)
            return is_there

        self.fail_each(attach)

    def test_a_channel_is_there_or_not(self) -> None:
        core = self.core()
        for its_keys in (KEYS, None):

            def set_dtls(number: int, its_keys: Any = its_keys) -> bool:
                went_well = succeeds(number, core.set_dtls, 1, PATH, its_keys)
                is_there = core.times(1, 1) is not None
                self.assertEqual(is_there, went_well)
                core.set_dtls(1, None, None)
                return is_there

            self.fail_each(set_dtls)

    def test_packets_are_taken_or_lost(self) -> None:
        core = self.core()
        core.set_dtls(1, PATH, KEYS)

        def send(number: int) -> bool:
            without(number, core.take_frames, [TO_CLIENT])
            return len(core.sent()) == 1

        self.fail_each(send)

    def test_datagrams_are_taken_or_lost(self) -> None:
        core = self.core()

        def receive(number: int) -> bool:
            without(number, core.take_datagrams, PATH, [HELLO])
            return len(core.events()) == 1

        self.fail_each(receive)
        self.fail_each(lambda number: without(number, core.take_late, PATH, HELLO) is not None)

    def test_packets_wait_or_are_lost(self) -> None:
        core = self.core()
        core.set_cstp(1, True, False)

        def wait(number: int) -> bool:
            without(number, core.put_back, 1, [TO_CLIENT] * 3)
            return len(core.take_waiting(1, 10)[1]) == 3

        self.fail_each(wait)

    def test_threads_begin_or_do_not(self) -> None:
        core = self.core()
        device, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

        def start(number: int) -> bool:
            runs = succeeds(number, core.start, [device.fileno()], -1)
            if runs:
                core.add_socket(0, 0, kernel.fileno())
                core.stop()
            else:
                self.assertRaises(ValueError, core.add_socket, 0, 0, kernel.fileno())
            return runs

        with device, kernel:
            self.fail_each(start)

    def test_a_stream_is_the_cores_or_its_descriptor_still_ours(self) -> None:
        threads = CoreThreads()
        threads.core.attach(1, [(CLIENT, 32)], 1, 1400)

        def hand_over(number: int) -> bool:
            ours, peers = socket.socketpair()
            arguments = (ours.fileno(), True, CIPHER, 0, 0, keys(), keys(), HALF_A_FRAME, b"")
            is_taken = without(number, threads.core.set_tls, 1, *arguments) is not None
            if is_taken:
                descriptor, _ = threads.core.take_tls(1, CLOSE_NOTIFY)
                self.assertEqual(descriptor, ours.fileno())
            else:
                self.assertRaises(LookupError, threads.core.take_tls, 1, CLOSE_NOTIFY)
            os.fstat(ours.fileno())
            ours.close()
            peers.close()
            return is_taken

        self.fail_each(hand_over)
        threads.stop()

    def test_a_stream_is_given_back_with_its_last_words_or_without(self) -> None:
        threads = CoreThreads()
        threads.core.attach(1, [(CLIENT, 32)], 1, 1400)

        def give_back(number: int) -> bool:
            peer = Peer(threads.core, 1)
            given = without(number, threads.core.take_tls, 1, CLOSE_NOTIFY)
            assert given is not None
            os.close(given[0])
            peer.socket.close()
            return given[1] != b""

        self.fail_each(give_back)
        threads.stop()
