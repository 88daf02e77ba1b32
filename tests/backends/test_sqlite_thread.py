from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.backends.sqlite_thread import SQLiteThread, ThreadReactor

TIME_S = 10.0


class Reactor:
    """Does what threads ask for when it is told to, and ends when it is told to."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.end: Callable[[], object] = lambda: None

    def addSystemEventTrigger(self, phase: str, event: str, end: Callable[[], object]) -> None:
        assert (phase, event) == ("after", "shutdown")
        self.end = end

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        self.asked.put(lambda: function(*arguments))

    def turn(self) -> None:
        self.asked.get(timeout=TIME_S)()


class SQLiteThreadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.problems: list[Exception] = []
        self.thread = SQLiteThread("jobs", cast(ThreadReactor, self.reactor), self.connect)
        self.addCleanup(self.reactor.end)

    def connect(self) -> sqlite3.Connection:
        if self.problems:
            raise self.problems.pop()
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)

    def ask(self, job: Callable[[sqlite3.Connection], Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.thread.do(job))

    def test_jobs_are_done_in_their_order_in_one_thread(self) -> None:
        done: list[int] = []
        threads: set[int] = set()

        def job(number: int) -> Callable[[sqlite3.Connection], int]:
            def do(_: sqlite3.Connection) -> int:
                done.append(number)
                threads.add(threading.get_ident())
                return number

            return do

        may_go_on = Event()
        self.ask(lambda _: may_go_on.wait(TIME_S))
        asked = [self.ask(job(number)) for number in range(50)]
        assert self.thread.waiting == 51
        may_go_on.set()
        self.reactor.turn()
        for _ in asked:
            self.reactor.turn()
        assert [self.successResultOf(each) for each in asked] == done == list(range(50))
        assert self.thread.waiting == 0
        assert len(threads) == 1
        assert threading.get_ident() not in threads

    def test_jobs_that_are_done_wait_no_more_whoever_has_heard_of_it(self) -> None:
        asked = [self.ask(lambda _: None) for _ in range(50)]
        may_be_seen = Event()
        asked.append(self.ask(lambda _: may_be_seen.set()))
        assert may_be_seen.wait(TIME_S)
        assert self.thread.waiting <= 1
        assert not any(each.called for each in asked)

    def test_jobs_whose_askers_are_gone_wait_still(self) -> None:
        may_go_on = Event()
        self.ask(lambda _: may_go_on.wait(TIME_S))
        for _ in range(50):
            given_up = self.ask(lambda _: None)
            given_up.cancel()
            self.failureResultOf(given_up)
        assert self.thread.waiting == 51
        may_go_on.set()

    def test_closing_opens_no_file_that_could_not_be_opened(self) -> None:
        self.problems.extend([OSError("no such place"), OSError("still not")])
        failing = self.ask(lambda _: None)
        self.reactor.turn()
        self.failureResultOf(failing, OSError)
        closing = Deferred.fromCoroutine(self.thread.close())
        self.reactor.turn()
        self.successResultOf(closing)
        assert len(self.problems) == 1

    def test_job_that_fails_fails_alone(self) -> None:
        failing = self.ask(lambda connection: connection.execute("NO SQL"))
        good = self.ask(lambda connection: connection.execute("SELECT 7").fetchone())
        self.reactor.turn()
        self.reactor.turn()
        self.failureResultOf(failing, sqlite3.OperationalError)
        assert self.successResultOf(good) == (7,)
        assert self.thread.waiting == 0

    def test_file_that_cannot_be_opened_is_tried_again(self) -> None:
        self.problems.append(OSError("no such place"))
        asked = [self.ask(lambda _: "done") for _ in range(2)]
        self.reactor.turn()
        self.reactor.turn()
        self.failureResultOf(asked[0], OSError)
        assert self.successResultOf(asked[1]) == "done"

    def test_end_of_the_reactor_loses_nothing_that_was_asked_for(self) -> None:
        done: list[int] = []
        may_go_on = Event()
        self.ask(lambda _: may_go_on.wait(TIME_S))
        for number in range(20):
            self.ask(lambda _, number=number: done.append(number))
        assert done == []
        may_go_on.set()
        self.reactor.end()
        assert done == list(range(20))

    def test_closing_waits_for_what_was_asked_for_and_lets_go_of_the_file(self) -> None:
        connections: list[sqlite3.Connection] = []
        asked = self.ask(connections.append)
        closing = Deferred.fromCoroutine(self.thread.close())
        self.assertNoResult(closing)
        assert self.thread.is_closed
        self.reactor.turn()
        self.reactor.turn()
        self.successResultOf(asked)
        self.successResultOf(closing)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connections[0].execute("SELECT 1")

    def test_without_a_job_there_is_no_thread(self) -> None:
        threads = threading.active_count()
        self.successResultOf(Deferred.fromCoroutine(self.thread.close()))
        assert threading.active_count() == threads
