"""The process inside, as seen from outside: it is asked, and it answers."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.backends.adapter_namespace_processes import (
    END_TIME_S,
    TERMINAL_SIGNALS,
    end_processes_in,
)
from anyvpn.errors import TunUnavailable

log = Logger()

# Ours
LARGEST_MESSAGE_BYTES = 128 * 1024
_LOOK_AGAIN_AFTER_S = 0.02
_CHILD = "anyvpn.backends.adapter_namespace_child"
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from anyvpn.backends import adapter_namespace_child as child; child.main(int(sys.argv[3]))"
)
"""Finds what we find, while the environment stays as the programs that run inside need it."""

Answer = tuple[Mapping[str, Any], int]
"""What is said, and the descriptor that came along; -1 for none."""


class NamespaceReactor(IReactorTime, IReactorFDSet):
    """What is needed of a reactor."""


@implementer(IReadDescriptor)
class Inside:
    """A process with namespaces of its own; `ready` fires with the descriptor of its tun device.

    `on_lost` is told when it is gone without having been closed.
    """

    def __init__(self, reactor: NamespaceReactor, settings: Mapping[str, Any]) -> None:
        self.ready: Deferred[int] = Deferred()
        self._reactor = reactor
        self._asked: dict[int, Deferred[Answer]] = {}
        self._numbers = itertools.count(1)
        self._network = ""
        self.on_lost: Callable[[str], None] = lambda _: None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._channel = ours
        with theirs:
            number = theirs.fileno()
            paths = json.dumps([str(Path(each).absolute()) for each in sys.path])
            # The process inherits it, and is quiet from its first moment until it ignores them
            before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
            try:
                self._process = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, "-I", "-c", _START, paths, _CHILD, str(number)],
                    pass_fds=(number,),
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._channel.send(json.dumps(settings).encode())
        reactor.addReader(self)

    async def ask(self, request: Mapping[str, Any]) -> Answer:
        """Send a request and wait for its answer. Raises: TunUnavailable: nobody is there."""
        number = next(self._numbers)
        message = json.dumps({"id": number, **request}).encode()
        if len(message) > LARGEST_MESSAGE_BYTES:
            raise TunUnavailable("a request to the network namespace is too long")
        waiting: Deferred[Answer] = Deferred(lambda _: self._forget(number))
        self._asked[number] = waiting
        try:
            self._channel.send(message)
        except OSError as error:
            self._forget(number)
            why = os.strerror(error.errno or 0)
            raise TunUnavailable(f"the network namespace cannot be asked: {why}") from None
        return await waiting

    def close(self) -> None:
        """Let it end, and everything with it; closing twice does no harm."""
        if self._channel.fileno() < 0:
            return
        self._reactor.removeReader(self)
        self._channel.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # it may be stopped, with its terminal's job
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.errback(TunUnavailable("the network namespace is gone"))

    async def ended(self) -> None:
        """Wait for the end of the process, which has given everything inside its time to end."""
        end_at_s = self._reactor.seconds() + 4 * END_TIME_S
        while self._process.poll() is None:
            if self._reactor.seconds() > end_at_s:
                self._process.kill()
            await deferLater(self._reactor, _LOOK_AGAIN_AFTER_S)

    def fileno(self) -> int:
        """What the reactor watches."""
        return self._channel.fileno()

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return "namespace"

    def doRead(self) -> None:
        """An answer came, perhaps with a descriptor."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, LARGEST_MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._lose()
            return
        answer = json.loads(message)
        descriptor = descriptors[0] if descriptors else -1
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
        if not self.ready.called:
            if "error" in answer:
                self.ready.errback(TunUnavailable(answer["error"]))
            else:
                self._network = answer["network"]
                self.ready.callback(descriptor)
            return
        waiting = self._asked.pop(answer["id"], None)
        if waiting is not None:
            waiting.callback((answer, descriptor))
        elif descriptor >= 0:  # nobody wants it any more
            os.close(descriptor)

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002
        """The reactor gave the socket up, for whatever reason."""
        self._lose()

    def _forget(self, number: int) -> None:
        self._asked.pop(number, None)

    def _lose(self) -> None:
        """The process is gone, killed perhaps: then what it would have ended is ended by us."""
        if self._channel.fileno() < 0:
            return
        if not self.ready.called:
            self.ready.errback(TunUnavailable("the process of the network namespace ended at once"))
        else:
            log.error("The process of the network namespace is gone, and the network with it")
        self.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        if self._network:
            end_processes_in(self._network, (signal.SIGKILL,))
        self.on_lost("the process of the network namespace is gone")
