"""Tests of anyvpn.backends.worker_threads."""

from __future__ import annotations

import threading

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from anyvpn.backends.worker_threads import WorkerThreads
from anyvpn.errors import BackendFailed
from anyvpn.testing.outcomes import error_of


class ThreadsTests(TestCase):
    def make(self, most: int = 1, most_waiting: int = 10) -> WorkerThreads:
        made = WorkerThreads("jobs", reactor, most=most, most_waiting=most_waiting)  # type: ignore[arg-type]
        self.addCleanup(made.close)
        return made

    async def test_work_gives_its_result_or_its_error(self) -> None:
        threads = self.make()
        assert await threads.run(lambda: threading.current_thread().name) != "MainThread"
        await error_of(threads.run(lambda: 1 // 0), ZeroDivisionError)

    async def test_as_much_as_may_be_is_done_at_a_time(self) -> None:
        threads = self.make(most=2)
        both = threading.Barrier(2)
        started = [Deferred.fromCoroutine(threads.run(lambda: both.wait(5))) for _ in range(2)]
        assert sorted([await each for each in started]) == [0, 1]

    async def test_more_than_may_wait_is_refused(self) -> None:
        threads = self.make(most_waiting=2)
        gate = threading.Event()
        started = [Deferred.fromCoroutine(threads.run(lambda: gate.wait(5))) for _ in range(2)]
        error = await error_of(threads.run(lambda: None), BackendFailed)
        assert str(error) == "2 jobs wait to be checked"
        gate.set()
        for each in started:
            assert await each
        await threads.run(lambda: None)

    async def test_what_nobody_waits_for_is_not_done(self) -> None:
        threads = self.make()
        gate, done = threading.Event(), threading.Event()
        first = Deferred.fromCoroutine(threads.run(lambda: gate.wait(5)))
        second = Deferred.fromCoroutine(threads.run(done.set))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        gate.set()
        await first
        await threads.run(lambda: None)
        assert not done.is_set()

    async def test_after_the_end_nothing_is_done(self) -> None:
        threads = self.make()
        gate, done = threading.Event(), threading.Event()
        first = Deferred.fromCoroutine(threads.run(gate.set))
        second = Deferred.fromCoroutine(threads.run(done.set))
        second.addErrback(lambda _: None)
        assert gate.wait(5)
        threads.close()
        threads.close()
        await first
        assert str(await error_of(threads.run(done.set), BackendFailed)).endswith("is closed")
