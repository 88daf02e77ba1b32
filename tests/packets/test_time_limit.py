"""Something may take so long, and no longer."""

from __future__ import annotations

import weakref
from unittest import TestCase

from twisted.internet.task import Clock

from anyvpn.packets.time_limit import TimeLimit


class TimeLimitTests(TestCase):
    def setUp(self) -> None:
        self.clock, self.ups = Clock(), 0
        self.limit = TimeLimit(self.clock)

    def is_up(self) -> None:
        self.ups += 1

    def test_it_is_told_once(self) -> None:
        self.limit.start(2.0, self.is_up)
        self.clock.advance(1.9)
        self.assertEqual(self.ups, 0)
        self.clock.pump([1, 1, 1])
        self.assertEqual(self.ups, 1)

    def test_who_is_done_is_told_nothing(self) -> None:
        self.limit.start(2.0, self.is_up)
        self.limit.cancel()
        self.limit.cancel()
        self.clock.advance(3)
        self.assertEqual(self.ups, 0)

    def test_another_limit_takes_its_place(self) -> None:
        self.limit.start(2.0, self.is_up)
        self.clock.advance(1)
        self.limit.start(2.0, self.is_up)
        self.clock.advance(1.5)
        self.assertEqual(self.ups, 0)
        self.clock.advance(1)
        self.assertEqual(self.ups, 1)
        self.limit.cancel()

    def test_whom_it_has_told_is_kept_no_longer(self) -> None:
        class Owner:
            def is_up(self) -> None:
                """It is told."""

        owner = Owner()
        told = weakref.ref(owner)
        self.limit.start(2.0, owner.is_up)
        del owner
        self.assertIsNotNone(told())
        self.clock.advance(2)
        self.assertIsNone(told())
