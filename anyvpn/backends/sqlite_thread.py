"""The thread of one SQLite file: does what it is asked for, in that order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.python.failure import Failure

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Result]


class ThreadReactor(IReactorCore, IReactorFromThreads):
    """What the thread needs of a reactor."""


class SQLiteThread:
    """Works on what `connect` opens; where that fails, the next job tries it again.

    Twisted's thread pool would do, but its way to a thread and back costs more than the work. The
    thread begins with the first job, which is after the process has forked, and ends with the
    reactor or by `close`, in both cases after everything that was asked for before.
    """

    def __init__(
        self, name: str, reactor: ThreadReactor, connect: Callable[[], sqlite3.Connection]
    ) -> None:
        self.is_closed = False
        self._asked = 0
        self._done = 0  # the thread counts, whether or not anybody waits for it still
        self._name = name
        self._reactor = reactor
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._jobs: SimpleQueue[tuple[Job[Any], Deferred[Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._ended: Deferred[None] = Deferred()
        reactor.addSystemEventTrigger("after", "shutdown", self._end)

    @property
    def waiting(self) -> int:
        """Jobs that were asked for and are not done."""
        return self._asked - self._done

    async def do(self, job: Job[Result]) -> Result:
        """Have it done. Raises: what `job` and `connect` raise."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name)
            self._thread.start()
        self._asked += 1
        done: Deferred[Result] = Deferred()
        self._jobs.put((job, done))
        return await done

    async def close(self) -> None:
        """Wait for all that was asked for, then let go of file and thread."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._thread is not None:
            self._jobs.put(None)
            await self._ended
        self._end()

    def _end(self) -> None:
        self.is_closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while (asked := self._jobs.get()) is not None:
            job, done = asked
            try:
                if self._connection is None:
                    self._connection = self._connect()
                result = job(self._connection)
            except Exception:  # whoever has asked for it gets it
                self._done += 1
                failure = Failure()  # type: ignore[no-untyped-call]  # Twisted's
                self._reactor.callFromThread(done.errback, failure)
            else:
                self._done += 1
                self._reactor.callFromThread(done.callback, result)
            del asked, job, done
        if self._connection is not None:
            self._connection.close()
        self._reactor.callFromThread(self._ended.callback, None)
