"""One tunnel for everybody who asks: opened at the first use, closed when nobody needs it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from anyvpn.interfaces import IAdapter, IInnerNetwork

log = Logger()

# Ours
LINGER_S = 30.0
"""A program that connects again at once finds the tunnel still there."""


class SharedReactor(IReactorTime, IReactorCore):
    """What sharing needs of a reactor."""


class Tunnel(Protocol):
    """What it needs of a tunnel; `anyvpn.client.tunnel.VPNTunnel` is one."""

    adapter: IAdapter

    async def wait_closed(self) -> str:
        """Wait for the end."""

    async def disconnect(self) -> None:
        """End it."""


class SharedTunnel:
    """Opens a tunnel with `connect`, again when it was lost; its adapter has an inner network.

    Whoever calls `hold` calls `release` once, unless `hold` failed. The tunnel is closed after
    `linger_s` without a holder, and before the reactor stops.
    """

    def __init__(
        self,
        reactor: SharedReactor,
        connect: Callable[[], Coroutine[Deferred[Any], Any, Tunnel]],
        *,
        linger_s: float = LINGER_S,
    ) -> None:
        self.holders = 0
        self._reactor = reactor
        self._connect = connect
        self._linger_s = linger_s
        self._tunnel: Tunnel | None = None
        self._opening: Deferred[None] | None = None
        self._turn = DeferredLock()
        self._waiting: list[Deferred[None]] = []
        self._lingering: IDelayedCall | None = None
        reactor.addSystemEventTrigger(
            "before", "shutdown", lambda: Deferred.fromCoroutine(self.close())
        )

    async def hold(self) -> IInnerNetwork:
        """The network, which stays until `release`. Raises: what `connect` raises."""
        self.holders += 1
        self._stop_lingering()
        try:
            while self._tunnel is None:
                await self._news()
        except BaseException:
            self.release()
            raise
        return IInnerNetwork(self._tunnel.adapter)

    def release(self) -> None:
        """One holder less; the last one's leaving lets the tunnel end, after a while."""
        self.holders -= 1
        if self.holders == 0:
            self._stop_lingering()
            self._lingering = self._reactor.callLater(self._linger_s, self._nobody_came)

    async def close(self) -> None:
        """End the tunnel, whoever holds it; the next `hold` opens another one."""
        self._stop_lingering()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        tunnel, self._tunnel = self._tunnel, None
        await self._turn.acquire()  # somebody else may be closing one already
        try:
            if tunnel is not None:
                await tunnel.disconnect()
        finally:
            self._turn.release()

    def _news(self) -> Deferred[None]:
        """Fires when there is a tunnel, or there is none after all."""
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if self._opening is None:
            self._opening = Deferred.fromCoroutine(self._open())
            self._opening.addBoth(self._opened)
        return waiting

    async def _open(self) -> None:
        await self._turn.acquire()  # the gateway may allow but one session at a time
        try:
            tunnel = self._tunnel = await self._connect()
        finally:
            self._turn.release()
        ended = Deferred.fromCoroutine(tunnel.wait_closed())
        ended.addBoth(self._ended, tunnel)

    def _opened(self, outcome: Failure | None) -> None:
        self._opening = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(outcome)  # a failure becomes theirs

    def _ended(self, reason: str | Failure, tunnel: Tunnel) -> None:
        if self._tunnel is tunnel:
            self._tunnel = None
            why = reason if isinstance(reason, str) else reason.getErrorMessage()
            log.warn("The shared tunnel has ended: {why}", why=why)

    def _nobody_came(self) -> None:
        self._lingering = None
        closing = Deferred.fromCoroutine(self.close())
        closing.addErrback(lambda failure: log.failure("The tunnel does not end well", failure))

    def _stop_lingering(self) -> None:
        lingering, self._lingering = self._lingering, None
        if lingering is not None:
            lingering.cancel()
