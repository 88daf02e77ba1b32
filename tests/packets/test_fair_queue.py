"""A fair queue: even shares of what is sent and of the room, whatever each one asks for."""

from __future__ import annotations

from collections import Counter
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from anyvpn.packets.fair_queue import QUANTUM_BYTES, FairQueue

MOST_BYTES = 1 << 20
EVERYTHING = 1 << 40


def frame(owner: str, size: int = 1000, number: int = 0) -> bytes:
    return f"{owner}{number}".encode().ljust(size, b".")


def owner(frame: bytes) -> str:
    return frame[:1].decode()


class FairQueueTests(TestCase):
    def setUp(self) -> None:
        self.queue: FairQueue[str] = FairQueue(MOST_BYTES)

    def add(self, *frames: bytes) -> int:
        """How many of them there was room for."""
        return sum(self.queue.add(owner(each), each) for each in frames)

    def sent_bytes(self, most_bytes: int) -> Counter[str]:
        sent: Counter[str] = Counter()
        for each in self.queue.take(EVERYTHING, most_bytes):
            sent[owner(each)] += len(each)
        return sent

    def test_each_sends_as_much_as_the_others_whatever_waits(self) -> None:
        self.add(*[frame("a", 1500)] * 500)
        self.add(*[frame("b", 300)] * 500)
        self.add(*[frame("c", 60_000)] * 10)
        sent = self.sent_bytes(300_000)
        for each in "abc":
            self.assertAlmostEqual(sent[each], 100_000, delta=60_000)
        self.assertLess(abs(sent["a"] - sent["b"]), 2 * QUANTUM_BYTES)

    def test_long_frames_that_come_one_at_a_time_give_no_advantage(self) -> None:
        sent: Counter[str] = Counter()
        for _ in range(200):
            self.add(frame("l", 60_000), *[frame("s", 1000)] * 60)
            sent += self.sent_bytes(20_000)
        self.assertLess(sent["l"] / sent["s"], 1.1)
        self.assertGreater(sent["l"] / sent["s"], 0.9)

    def test_whoever_asks_for_little_waits_for_one_round(self) -> None:
        self.add(*[frame("a", 60_000)] * 10, *[frame("b", 1000)] * 100, frame("c", 100))
        self.assertIn("c", self.sent_bytes(60_000 + QUANTUM_BYTES + 1000))

    def test_a_full_queue_has_room_for_those_with_less_than_their_share(self) -> None:
        self.assertEqual(self.add(*[frame("a", 1024)] * 2000), 1024)
        self.assertEqual(self.add(*[frame("b", 1024)] * 2000), 512)
        self.assertEqual(self.add(*[frame("c", 1024)] * 2000), 342)
        self.assertEqual(self.add(frame("a"), frame("b"), frame("c")), 0)
        self.assertEqual(self.add(frame("d")), 1)

    def test_what_is_sent_makes_room(self) -> None:
        self.add(*[frame("a", 1024)] * 2000)
        self.queue.take(1, EVERYTHING)
        self.assertEqual(self.add(*[frame("a", 1024)] * 3), 1)

    def test_no_more_is_taken_at_once_than_is_asked_for(self) -> None:
        self.add(*[frame("a", 1000)] * 100, *[frame("b", 1000)] * 100)
        self.assertEqual(len(self.queue.take(7, EVERYTHING)), 7)
        self.assertEqual(len(self.queue.take(EVERYTHING, 10_500)), 11)
        self.assertEqual(len(self.queue.take(EVERYTHING, EVERYTHING)), 200 - 7 - 11)
        self.assertEqual(self.queue.take(EVERYTHING, EVERYTHING), [])

    def test_a_queue_that_was_emptied_remembers_nobody(self) -> None:
        self.add(*[frame(each, 60_000) for each in "abc"])
        self.queue.take(EVERYTHING, EVERYTHING)
        self.assertEqual((self.queue._waiting, len(self.queue._turns)), ({}, 0))
        self.add(frame("a"))
        self.queue.clear()
        self.assertEqual((self.queue.size_bytes, self.queue.take(9, EVERYTHING)), (0, []))

    @given(
        st.lists(
            st.tuples(st.sampled_from("abcd"), st.integers(10, 60_000), st.integers(0, 70_000)),
            max_size=60,
        )
    )
    def test_nothing_is_lost_or_overtaken(self, steps: list[tuple[str, int, int]]) -> None:
        queue: FairQueue[str] = FairQueue(EVERYTHING)
        added: dict[str, list[bytes]] = {each: [] for each in "abcd"}
        taken: dict[str, list[bytes]] = {each: [] for each in "abcd"}
        for number, (who, size, room_bytes) in enumerate((*steps, ("a", 10, EVERYTHING))):
            added[who].append(frame(who, size, number))
            queue.add(who, added[who][-1])
            for each in queue.take(EVERYTHING, room_bytes):
                taken[owner(each)].append(each)
        self.assertEqual(taken, added)
        self.assertEqual(queue.size_bytes, 0)
