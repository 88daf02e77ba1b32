"""Threads of one backend, for libraries that block."""

from __future__ import annotations

from collections.abc import Callable
from threading import BoundedSemaphore, Event
from typing import TypeVar

from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from anyvpn.errors import BackendFailed, LoginAborted

Result = TypeVar("Result")


class ThreadsReactor(IReactorCore, IReactorFromThreads):
    """What threads need of a reactor."""


class WorkerThreads:
    """Do `most` pieces of work at a time; others wait for their turn, up to a bound.

    They end with the reactor: what is at work is finished then, what waits is left.
    """

    def __init__(
        self, name: str, reactor: ThreadsReactor, *, most: int = 1, most_waiting: int = 1024
    ) -> None:
        """`name` is what they are called where they cannot do more: "users", "passwords"."""
        self._name = name
        self._reactor = reactor
        self._most_waiting = most_waiting
        self._room = BoundedSemaphore(most_waiting)
        self._is_closed = False
        # threads begin with the first work, which is after the process has forked
        self._pool = ThreadPool(0, most, name)
        self._pool.start()
        reactor.addSystemEventTrigger("during", "shutdown", self.close)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Have it done in a thread, unless nobody waits for it any more when its turn comes.

        Raises: BackendFailed: too much waits already, or they have ended; and what `work` raises.
        """
        if self._is_closed:
            raise BackendFailed("the authenticator is closed")
        if not self._room.acquire(blocking=False):
            raise BackendFailed(f"{self._most_waiting} {self._name} wait to be checked")
        is_wanted = Event()
        is_wanted.set()

        def do() -> Result:
            try:
                if self._is_closed or not is_wanted.is_set():
                    raise LoginAborted("nobody waits for this any more")
                return work()
            finally:
                self._room.release()

        try:
            return await deferToThreadPool(self._reactor, self._pool, do)
        finally:
            is_wanted.clear()

    def close(self) -> None:
        """End them; nothing more is done. Closing twice does no harm."""
        self._is_closed = True
        if self._pool.started:
            self._pool.stop()
