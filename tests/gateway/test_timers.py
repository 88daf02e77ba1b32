"""Timers over a clock: in order, exact, cancelled for good, and none the victim of another."""

from __future__ import annotations

from functools import partial
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.gateway.timers import CANCELLED_KEPT, MOST_IN_TURN, Timer, Timers

MANY = 5000


class TimersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.timers = Timers(self.clock)
        self.happened: list[object] = []

    def set(self, in_s: float, what: object) -> Timer:
        return self.timers.call_at(self.clock.seconds() + in_s, partial(self.happened.append, what))

    def wakes(self) -> int:
        """How many delayed calls of the reactor there are."""
        return len(self.clock.getDelayedCalls())

    def test_they_happen_in_order_and_those_of_one_moment_as_they_were_asked_for(self) -> None:
        for in_s, what in ((3, "c"), (1, "a"), (2, "b1"), (2, "b2"), (2, "b3")):
            self.set(in_s, what)
        self.clock.advance(1)
        self.assertEqual(self.happened, ["a"])
        self.clock.advance(2)
        self.assertEqual(self.happened, ["a", "b1", "b2", "b3", "c"])

    def test_not_before_its_moment_and_not_after_it(self) -> None:
        self.set(30.1, "due")
        self.clock.advance(30.0)
        self.assertEqual(self.happened, [])
        self.clock.advance(0.1)
        self.assertEqual(self.happened, ["due"])

    def test_a_moment_that_has_passed_is_now(self) -> None:
        self.set(-5, "late")
        self.assertEqual(self.happened, [])  # not within the call that asks for it
        self.clock.advance(0)
        self.assertEqual(self.happened, ["late"])

    def test_one_that_is_earlier_than_all_others_is_not_late(self) -> None:
        self.set(60, "last")
        self.set(30, "second")
        self.set(1, "first")
        self.clock.advance(1)
        self.assertEqual(self.happened, ["first"])

    def test_what_repeats_itself_does_not_drift(self) -> None:
        began_at_s = self.clock.seconds()

        def again(number: int) -> None:
            self.happened.append(self.clock.seconds() - began_at_s)
            self.timers.call_at(began_at_s + number + 1, partial(again, number + 1))

        again(0)
        self.clock.pump([0.75] * 8)
        self.assertEqual(self.happened, [0, 1.5, 2.25, 3.0, 4.5, 5.25, 6.0])

    def test_a_cancelled_one_never_happens(self) -> None:
        self.set(1, "a")
        cancelled = self.set(1, "b")
        self.set(1, "c")
        cancelled.cancel()
        cancelled.cancel()
        self.clock.advance(2)
        self.assertEqual(self.happened, ["a", "c"])

    def test_to_cancel_what_has_happened_does_no_harm(self) -> None:
        timer = self.set(1, "a")
        self.set(5, "b")
        self.clock.advance(1)
        timer.cancel()
        self.clock.advance(4)
        self.assertEqual(self.happened, ["a", "b"])

    def test_an_action_may_cancel_another_that_is_due_as_well(self) -> None:
        self.timers.call_at(self.clock.seconds() + 1, lambda: victim.cancel())
        victim = self.set(1, "victim")
        self.set(1, "other")
        self.clock.advance(1)
        self.assertEqual(self.happened, ["other"])

    def test_all_share_one_delayed_call_and_without_any_there_is_none(self) -> None:
        timers = [self.set(1 + number % 7, number) for number in range(100)]
        self.assertEqual(self.wakes(), 1)
        for timer in timers:
            timer.cancel()
        self.assertEqual(self.wakes(), 0)
        self.set(1, "again")
        self.assertEqual(self.wakes(), 1)
        self.clock.advance(1)
        self.assertEqual((self.happened, self.wakes()), (["again"], 0))

    def test_one_that_raises_is_logged_and_the_others_happen(self) -> None:
        self.set(1, "before")
        self.timers.call_at(self.clock.seconds() + 1, lambda: 1 // 0)
        self.set(1, "after")
        self.set(2, "later")
        self.clock.advance(2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.happened, ["before", "after", "later"])

    def test_even_one_that_ends_the_program_stops_no_other(self) -> None:
        def leave() -> None:
            raise SystemExit

        self.timers.call_at(self.clock.seconds() + 1, leave)
        self.set(1, "after")
        self.assertRaises(SystemExit, self.clock.advance, 1)
        self.clock.advance(0)
        self.assertEqual(self.happened, ["after"])

    def test_many_at_once_let_the_reactor_go_on_in_between(self) -> None:
        seen: list[int] = []

        def connection_waits() -> None:
            self.clock.callLater(0, lambda: seen.append(len(self.happened)))

        self.timers.call_at(self.clock.seconds() + 1, connection_waits)
        for number in range(2 * MOST_IN_TURN):
            self.set(1, number)
        self.clock.advance(1)
        self.assertEqual(seen, [MOST_IN_TURN - 1])
        self.assertEqual(self.happened, list(range(2 * MOST_IN_TURN)))

    def test_thousands_that_come_and_go_happen_as_a_sorted_list_would(self) -> None:
        random = Random(5)
        expected: list[tuple[float, int]] = []
        waiting: dict[int, tuple[float, Timer]] = {}
        began_at_s = self.clock.seconds()
        for number in range(MANY):
            at_s = began_at_s + random.randrange(1, 400) / 4
            waiting[number] = (
                at_s,
                self.timers.call_at(at_s, partial(self.happened.append, (at_s, number))),
            )
            if random.random() < 0.6:
                cancelled = random.choice(tuple(waiting))
                waiting.pop(cancelled)[1].cancel()
        expected = sorted((at_s, number) for number, (at_s, _) in waiting.items())
        self.clock.pump([0.5] * 200)
        self.assertEqual(self.happened, expected)
        self.assertEqual(self.wakes(), 0)

    def test_what_is_cancelled_does_not_stay_for_long(self) -> None:
        for _ in range(20):
            self.set(100, "kept")
        for _ in range(MANY):
            self.set(1000, "cancelled").cancel()
        self.assertLessEqual(len(self.timers._heap), CANCELLED_KEPT + 2 * 20)
