"""Notices that somebody sets a tun device down, and when it is up again: its routes are gone then.

Source: Linux, rtnetlink(7), netdevice(7).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger()

# From Linux
_LINKS = 1  # RTMGRP_LINK
_NEW_LINK = 16
_GET_FLAGS = 0x8913  # SIOCGIFFLAGS
_IS_UP = 1
_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, kind, index, flags, which of them have changed
_FLAGS = struct.Struct("16sH22x")  # name, flags

# Ours
_MOST_BYTES = 1 << 16
_MOST_MESSAGES = 64
"""What a wake leaves is the next one's."""


@implementer(IReadDescriptor)
class LinkWatch:
    """Watches one device, which is up; `restore` is called and awaited when it is up again.

    `meanwhile` says in the log what packets do while it is down.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        name: str,
        restore: Callable[[], Coroutine[Any, Any, None]],
        meanwhile: str,
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._index = socket.if_nametoindex(name)
        self._restore = restore
        self._meanwhile = meanwhile
        self._is_up = True
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _LINKS))
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor that the reactor watches; -1 when it is closed."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return f"link {self._name}"

    def doRead(self) -> None:
        """Something has changed about some link."""
        for _ in range(_MOST_MESSAGES):
            if self.fileno() < 0:
                return
            try:
                data = self._socket.recv(_MOST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    self._give_up(error)
                    return
                self._missed_some()
            else:
                for is_up in self._states(data):
                    self._told(is_up)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up."""
        self._give_up(reason.value)

    def close(self) -> None:
        """Watch no more; closing twice does no harm."""
        if self.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()

    def _give_up(self, why: BaseException | None) -> None:
        if self.fileno() >= 0:
            log.error("{name} is watched no more: {why}", name=self._name, why=why)
            self.close()

    def _missed_some(self) -> None:
        """There was more than the kernel keeps: the device may have been down and up again."""
        try:
            answer = fcntl.ioctl(self._socket, _GET_FLAGS, _FLAGS.pack(self._name.encode(), 0))
        except OSError:
            return  # it is gone, which its owner hears of otherwise
        is_up = bool(_FLAGS.unpack(answer)[1] & _IS_UP)
        if is_up and self._is_up:
            self._came_up()
        else:
            self._told(is_up)

    def _told(self, is_up: bool) -> None:
        if is_up == self._is_up:
            return
        self._is_up = is_up
        if is_up:
            # Where warnings alone are shown, its end would be missed
            log.warn("Tun device {name} is up again", name=self._name)
            self._came_up()
        else:
            log.warn(
                "Tun device {name} is down: {meanwhile} until it is up again",
                name=self._name,
                meanwhile=self._meanwhile,
            )

    def _came_up(self) -> None:
        Deferred.fromCoroutine(self._restore()).addErrback(
            lambda failure: log.error(
                "Tun device {name} is not as before: {why}",
                name=self._name,
                why=failure.getErrorMessage(),
            )
        )

    def _states(self, data: bytes) -> Iterator[bool]:
        """Whether the device was up, by each message about it."""
        at = 0
        while len(data) - at >= _MESSAGE.size + _LINK.size:
            length, kind, *_ = _MESSAGE.unpack_from(data, at)
            _, _, index, flags, _ = _LINK.unpack_from(data, at + _MESSAGE.size)
            if kind == _NEW_LINK and index == self._index:
                yield bool(flags & _IS_UP)
            at += max(_MESSAGE.size, (length + 3) & ~3)
