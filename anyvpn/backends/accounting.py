"""What listeners that account for sessions have in common: facts of an event, and a queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from anyvpn.model.events import Event, EventKind
from anyvpn.model.printable import printable
from anyvpn.model.session import SessionRecord

log = Logger()

# Ours
MOST_WAITING = 10_000
END_TIME_S = 10.0
"""How long the end of the gateway waits for what is not written or told yet."""
SESSION_KINDS = frozenset(
    (EventKind.SESSION_STARTED, EventKind.SESSION_PROGRESS, EventKind.SESSION_ENDED)
)


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A session that has started, as an event tells it; times are Unix seconds."""

    kind: EventKind
    record: SessionRecord
    at_s: float

    @property
    def duration_s(self) -> float:
        """How long it has lasted, from its first tunnel on."""
        return max(0.0, self.at_s - self.record.started_at_s)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its inner addresses."""
        lease = self.record.lease
        return () if lease is None else tuple(map(str, lease.addresses))


def session_facts(event: Event) -> SessionFacts | None:
    """What an event says of a session to account for; None when it is not of such a one."""
    record = event.session
    if event.kind not in SESSION_KINDS or record is None or not record.started_at_s:
        return None
    return SessionFacts(event.kind, record, event.at_s)


def utc(at_s: float) -> str:
    """A moment as programs and people read it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


class Writer:
    """A thread that does what it is given, one after the other; what fails is told once.

    When more waits than `MOST_WAITING` the newest is dropped: a disk that stands still must not
    take the gateway with it.
    """

    def __init__(self, name: str, reactor: IReactorCore, *, ends: Callable[[], None]) -> None:
        self._name = name
        self._ends = ends
        self._lock = Lock()
        self._waiting = 0
        self._dropped = 0
        self._is_failing = False
        self._ends_at_s = float("inf")
        # the thread begins with the first work, which is after the process has forked
        self._pool = ThreadPool(0, 1, name)
        self._pool.start()
        reactor.addSystemEventTrigger("during", "shutdown", self.close)

    def put(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have it done soon; from the reactor's thread."""
        with self._lock:
            if self._waiting >= MOST_WAITING or not self._pool.started:
                self._dropped += 1
                return
            self._waiting += 1
        self._pool.callInThread(self._do, work, arguments)

    def close(self) -> None:
        """Do what waits, for some time, and end; what comes later is dropped."""
        if not self._pool.started:
            return
        self._ends_at_s = time.monotonic() + END_TIME_S
        self._pool.stop()
        self._ends()
        if self._dropped:
            log.warn(
                "{name}: {dropped} events are lost at the end",
                name=self._name,
                dropped=self._dropped,
            )

    def _do(self, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if time.monotonic() > self._ends_at_s:
            self._dropped += 1
            return
        problem = ""
        try:
            work(*arguments)
        except Exception as error:  # whatever a disk or a database may come up with
            problem = printable(str(error))[:300] or type(error).__name__
        with self._lock:
            self._waiting -= 1
            if problem:
                self._dropped += 1
            was_failing, self._is_failing = self._is_failing, bool(problem)
            dropped = self._dropped
            if not problem:
                self._dropped = 0
        if problem and not was_failing:
            log.error("{name} cannot be written: {problem}", name=self._name, problem=problem)
        elif dropped and not problem:
            log.warn(
                "{name} is written again; {dropped} events are lost",
                name=self._name,
                dropped=dropped,
            )


class Lanes:
    """Does asynchronous work for sessions: of one session in order, of several side by side.

    When more waits than `most_waiting` the newest is dropped, and the log says so once.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Any], Coroutine[Any, Any, None]],
        *,
        count: int,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._name = name
        self._work = work
        self._most_waiting = most_waiting
        self._lanes: list[deque[Any]] = [deque() for _ in range(count)]
        self._under_way: dict[int, Deferred[None]] = {}
        self._waiting = 0
        self._dropped = 0
        self._all_done: Deferred[None] | None = None

    def __len__(self) -> int:
        return self._waiting

    def put(self, session: str, item: Any) -> None:
        """Have it done after whatever waits for the same session."""
        if self._waiting >= self._most_waiting:
            if not self._dropped:
                log.error("{name}: too much waits, events are lost", name=self._name)
            self._dropped += 1
            return
        number = hash(session) % len(self._lanes)
        self._waiting += 1
        self._lanes[number].append(item)
        if number not in self._under_way:
            self._under_way[number] = Deferred.fromCoroutine(self._run(number))

    def finished(self) -> Deferred[None]:
        """Fires when nothing waits any more; cancelling it ends what is under way."""
        self._all_done = Deferred(lambda _: self._give_up())
        if not self._waiting:
            self._all_done.callback(None)
        return self._all_done

    async def _run(self, number: int) -> None:
        lane = self._lanes[number]
        while lane:
            item = lane.popleft()
            try:
                await self._work(item)
            except CancelledError:
                return
            except Exception:  # whatever it is, the next one may do better
                log.failure("{name} failed", name=self._name)
            self._waiting -= 1
            if self._dropped and not self._waiting:
                log.warn(
                    "{name}: {dropped} events are lost", name=self._name, dropped=self._dropped
                )
                self._dropped = 0
        del self._under_way[number]
        if not self._waiting and self._all_done is not None and not self._all_done.called:
            self._all_done.callback(None)

    def _give_up(self) -> None:
        for each in tuple(self._under_way.values()):
            each.cancel()
