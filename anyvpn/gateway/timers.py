"""The timers of all sessions, over one delayed call of the reactor.

Ten thousand sessions have some tens of thousands of timers, most of which are moved or cancelled
before their time. A heap of tuples, compared by their moments in C, costs a fraction of as many
delayed calls; and many that are due at once, such as after a restart, do not keep the reactor
from its connections.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

# Ours
MOST_IN_TURN = 64
"""How many run before the reactor may look at its connections: what each does takes up to 1 ms."""
CANCELLED_KEPT = 1024
"""Cancelled ones stay in the heap until there are as many, and more than others."""

Action = Callable[[], object]


class Timer:
    """One action that is due at `at_s`."""

    __slots__ = ("_action", "_timers", "at_s")

    def __init__(self, timers: Timers, at_s: float, action: Action) -> None:
        self.at_s = at_s
        self._timers = timers
        self._action: Action | None = action

    def cancel(self) -> None:
        """Let it not happen; cancelling twice, or after it has happened, does no harm."""
        if self._take() is not None:
            self._timers._cancelled()

    def _take(self) -> Action | None:
        action, self._action = self._action, None
        return action


class Timers:
    """Runs actions at their moments, in order; those of one moment as they were asked for."""

    def __init__(self, reactor: IReactorTime) -> None:
        self.seconds = reactor.seconds
        """The moment now, on the reactor's clock."""
        self._reactor = reactor
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._waiting = 0
        self._wake: IDelayedCall | None = None
        self._running = False

    def call_at(self, at_s: float, action: Action) -> Timer:
        """Run the action at that moment, or as soon as possible when it has passed.

        An action that raises is logged and harms no other.
        """
        timer = Timer(self, at_s, action)
        heappush(self._heap, (at_s, next(self._numbers), timer))
        self._waiting += 1
        self._wake_in_time()
        return timer

    def _run(self) -> None:
        self._wake = None
        self._running = True
        try:
            self._run_due(self.seconds())
        finally:
            self._running = False
            self._wake_in_time()

    def _run_due(self, now_s: float) -> None:
        ran = 0
        while self._heap and self._heap[0][0] <= now_s and ran < MOST_IN_TURN:
            action = heappop(self._heap)[2]._take()
            if action is None:
                continue
            self._waiting -= 1
            ran += 1
            try:
                action()
            except Exception:  # the fault of one session
                log.failure("A timer failed")

    def _cancelled(self) -> None:
        self._waiting -= 1
        if len(self._heap) - self._waiting > max(self._waiting, CANCELLED_KEPT):
            self._heap = [each for each in self._heap if each[2]._action is not None]
            heapify(self._heap)
        if not self._waiting:
            self._heap.clear()
            self._wake_in_time()

    def _wake_in_time(self) -> None:
        """Have the reactor wake us for the first one; to be woken for nothing does no harm."""
        if self._running:
            return
        wake, at_s = self._wake, self._heap[0][0] if self._heap else None
        if wake is not None and (at_s is None or at_s < wake.getTime()):
            wake.cancel()
            self._wake = wake = None
        if wake is None and at_s is not None:
            self._wake = self._reactor.callLater(max(0.0, at_s - self.seconds()), self._run)
