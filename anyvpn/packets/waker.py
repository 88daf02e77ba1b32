"""How threads that know nothing of Python wake the reactor."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger()


@implementer(IReadDescriptor)
class Waker:
    """An eventfd; `woken` is called on the reactor's thread after it was written to."""

    def __init__(self, woken: Callable[[], object]) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._woken = woken

    def fileno(self) -> int:
        """The eventfd; -1 when it is closed."""
        return self._descriptor

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return "packet engine"

    def doRead(self) -> None:
        """Something was told."""
        os.eventfd_read(self._descriptor)
        try:
            self._woken()
        except Exception:
            # The reactor would take the eventfd away, and with it everybody's control plane
            log.failure("What the packet engine told is lost")

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up."""
        log.error("The packet engine is not heard any more: {why}", why=reason.getErrorMessage())

    def close(self) -> None:
        """Let it go."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
