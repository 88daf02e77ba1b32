"""Keeps a tunnel's adapter as it should be, one change after the other."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from anyvpn.interfaces import IAdapter
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.client_events import AdapterChanged, ClientEvent


class AdapterChanges:
    """`applied` is what the adapter is; `wanted` says what it should be by now.

    `failed` is told of a change that cannot be made.
    """

    def __init__(
        self,
        adapter: IAdapter,
        applied: AdapterSettings,
        wanted: Callable[[], AdapterSettings],
        *,
        tell: Callable[[ClientEvent], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self.applied = applied
        self._adapter = adapter
        self._wanted = wanted
        self._tell = tell
        self._failed = failed
        self._changing: Deferred[None] | None = None
        self._stopped = False

    def make(self, reason: str) -> None:
        """Change what is different; what is wanted meanwhile is made next."""
        if self._changing is None or self._changing.called:
            self._changing = Deferred.fromCoroutine(self._change(reason))
            self._changing.addErrback(self._failed)

    def stop(self) -> None:
        """Change nothing more."""
        self._stopped = True
        if self._changing is not None:
            self._changing.cancel()

    async def _change(self, reason: str) -> None:
        while not self._stopped:
            wanted = self._wanted()
            if wanted == self.applied:
                break
            await self._adapter.apply(wanted)
            self.applied = wanted
            self._tell(AdapterChanged(wanted.mtu_bytes, reason))
