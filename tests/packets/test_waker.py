"""Threads wake the reactor once for all that they tell, and a mistake costs that alone."""

from __future__ import annotations

import os
from unittest import TestCase

from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from anyvpn.packets.waker import Waker


class WakerTests(TestCase):
    def test_it_is_woken_once_for_several_writes(self) -> None:
        calls: list[int] = []
        waker = Waker(lambda: calls.append(1))
        self.addCleanup(waker.close)
        for _ in range(3):
            os.eventfd_write(waker.fileno(), 1)
        waker.doRead()
        self.assertEqual(calls, [1])
        with self.assertRaises(BlockingIOError):
            os.eventfd_read(waker.fileno())

    def test_what_fails_is_logged_and_the_reactor_keeps_it(self) -> None:
        def fail() -> None:
            raise RuntimeError("a mistake of ours")

        waker = Waker(fail)
        self.addCleanup(waker.close)
        os.eventfd_write(waker.fileno(), 1)
        with capturedLogs() as events:
            waker.doRead()
        self.assertIn("is lost", events[0]["log_format"])

    def test_its_descriptor_is_gone_when_it_is_closed(self) -> None:
        waker = Waker(lambda: None)
        descriptor = waker.fileno()
        waker.close()
        self.assertEqual(waker.fileno(), -1)
        with self.assertRaises(OSError):
            os.fstat(descriptor)

    def test_whoever_takes_it_away_is_logged(self) -> None:
        waker = Waker(lambda: None)
        self.addCleanup(waker.close)
        with capturedLogs() as events:
            waker.connectionLost(Failure(RuntimeError("why")))
        self.assertIn("not heard", events[0]["log_format"])
