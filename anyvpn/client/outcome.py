"""How something ended, for any number of those who wait for it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Outcome:
    """A reason in words, or the error that it ended with; told once."""

    def __init__(self) -> None:
        self._ended: str | Failure | None = None
        self._waiting: list[Deferred[str]] = []

    async def wait(self) -> str:
        """The reason, now or when there is one; cancelling one wait harms no other.

        Raises: the error that it ended with.
        """
        if self._ended is None:
            waiting: Deferred[str] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            return await waiting
        if isinstance(self._ended, Failure):
            self._ended.raiseException()
        return str(self._ended)

    def tell(self, ended: str | Failure) -> None:
        """It is over."""
        self._ended = ended
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(ended)  # a failure is raised where it is waited for
