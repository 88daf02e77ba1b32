"""How long something may take."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class TimeLimit:
    """Calls what was given when the time is up, unless it is cancelled before."""

    __slots__ = ("_call", "_reactor")

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._call: IDelayedCall | None = None

    def start(self, time_s: float, is_up: Callable[[], object]) -> None:
        """Begin; a limit that was there before is there no more."""
        self.cancel()
        self._call = self._reactor.callLater(time_s, self._over, is_up)

    def cancel(self) -> None:
        """It is done in time; doing it twice does no harm."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _over(self, is_up: Callable[[], object]) -> None:
        self._call = None  # which would keep whom it calls
        is_up()
