"""An adapter that needs no privileges: the tun device lives in a network namespace of its own.

A socket keeps the namespace it was made in, so this process, outside, reaches hosts behind the
gateway with sockets that the process inside hands out, and the kernel does TCP.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IAdapter, IAdapterBackend, IInnerNetwork
from anyvpn.model.adapter import AdapterSettings
from anyvpn.tun.descriptor import OpenedTun, adopt_descriptor
from anyvpn.tun.device import LinuxTunDevice

log = Logger()

_CHILD = "anyvpn.backends.adapter_namespace_child"
_LARGEST_MESSAGE_BYTES = 128 * 1024
_FAILURES: dict[str, type[ConnectError]] = {
    "no such host": ConnectError,
    "timed out": TCPTimedOutError,
    "refused": ConnectionRefusedError,
    "unreachable": NoRouteError,
}


@attrs.frozen
class Settings:
    """Nothing but the offloads."""

    offloads: bool = attrs.field(
        default=True,
        metadata={"help": "Let the kernel hand over and take up to 64 KB of a flow at once."},
    )


def build(settings: Settings, reactor: IReactorFDSet) -> NamespaceAdapterBackend:
    """The backend that makes adapters without privileges."""
    return NamespaceAdapterBackend(settings, reactor)


@implementer(IAdapterBackend)
class NamespaceAdapterBackend:
    """Starts a process for each adapter, which has the namespaces."""

    def __init__(self, settings: Settings, reactor: IReactorFDSet) -> None:
        self._settings = settings
        self._reactor = reactor

    async def open(self, settings: AdapterSettings) -> NamespaceAdapter:
        """An adapter that is up. Raises: TunUnavailable: what the system forbids."""
        wanted = _described(settings, self._settings.offloads)
        child = _Child(self._reactor, wanted)
        try:
            descriptor = await child.ready
            opened = adopt_descriptor(descriptor)
        except BaseException:
            child.close()
            raise
        return NamespaceAdapter(self._reactor, opened, child, wanted, settings.mtu_bytes)


@implementer(IAdapter, IInnerNetwork)
class NamespaceAdapter(LinuxTunDevice):
    """The device inside, and the way to what is behind it."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        opened: OpenedTun,
        child: _Child,
        applied: dict[str, Any],
        mtu_bytes: int,
    ) -> None:
        super().__init__(reactor, opened, mtu_bytes, child.close)
        self._child = child
        self._applied = applied

    async def apply(self, settings: AdapterSettings) -> None:
        """Change what is different. Raises: TunUnavailable."""
        wanted = _described(settings, bool(self._applied["offloads"]))
        if wanted != self._applied:
            answer, _ = await self._child.ask({"do": "apply", "settings": wanted})
            if "failure" in answer:
                raise TunUnavailable(str(answer["why"]))
            self._applied = wanted
            self.mtu_bytes = settings.mtu_bytes

    async def prepare_reconnect(self) -> None:
        """The host's own network is not touched, so there is nothing to prepare."""

    async def connect(self, host: str, port: int, timeout_s: float = 30.0) -> socket.socket:
        """A connected TCP socket, non-blocking, to a host behind the gateway.

        Raises: twisted.internet.error.ConnectError: refused, unreachable, timed out, no such host.
        """
        request = {"do": "connect", "host": host, "port": port, "timeout_s": timeout_s}
        answer, descriptors = await self._child.ask(request)
        if descriptors:
            return socket.socket(fileno=descriptors[0])
        kind = str(answer.get("failure", ""))
        if kind == "no such host":
            raise DNSLookupError(f"{host}: {answer['why']}")
        raise _FAILURES.get(kind, ConnectError)(string=str(answer.get("why", "no connection")))

    async def run(self, command: Sequence[str]) -> int:
        """Run a command inside, at this process's terminal; gives its exit status.

        Raises: TunUnavailable: it cannot be started, or the namespace is gone.
        """
        answer, _ = await self._child.ask({"do": "run", "command": list(command)})
        if "failure" in answer:
            raise TunUnavailable(f"{command[0]} cannot be run: {answer['why']}")
        return int(answer["status"])


def _described(settings: AdapterSettings, offloads: bool) -> dict[str, Any]:
    """What the process inside is told."""
    granted = settings.granted
    leases = (granted.lease.ipv4, granted.lease.ipv6)
    return {
        "offloads": offloads,
        "addresses": [str(each) for each in leases if each is not None],
        "mtu_bytes": settings.mtu_bytes,
        "dns": [str(each) for each in granted.dns],
        "search": [each for each in granted.default_domain.split() if each.isprintable()],
    }


@implementer(IReadDescriptor)
class _Child:
    """The process inside, and the questions that it has not answered yet."""

    def __init__(self, reactor: IReactorFDSet, settings: dict[str, Any]) -> None:
        self.ready: Deferred[int] = Deferred()
        self._reactor = reactor
        self._asked: dict[int, Deferred[tuple[dict[str, Any], list[int]]]] = {}
        self._numbers = itertools.count(1)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._channel = ours
        # The module path is ours, whatever the directory that we were started in
        paths = os.pathsep.join(each for each in sys.path if each)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", _CHILD, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": paths},
            )
        self._channel.send(json.dumps(settings).encode())
        reactor.addReader(self)

    async def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Send a request and wait for its answer. Raises: TunUnavailable: nobody is there."""
        number = next(self._numbers)
        waiting: Deferred[tuple[dict[str, Any], list[int]]] = Deferred(
            lambda _: self._forget(number)
        )
        self._asked[number] = waiting
        try:
            self._channel.send(json.dumps({"id": number, **request}).encode())
        except OSError as error:
            self._asked.pop(number, None)
            raise TunUnavailable(f"the network namespace does not answer: {error}") from None
        return await waiting

    def _forget(self, number: int) -> None:
        self._asked.pop(number, None)

    def close(self) -> None:
        """Let the process inside end, and everything with it; closing twice does no harm."""
        if self._channel.fileno() < 0:
            return
        self._reactor.removeReader(self)
        self._channel.close()
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.errback(TunUnavailable("the network namespace is gone"))
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
            return
        self._process.send_signal(signal.SIGCONT)
        # What runs inside is given time to end; nobody waits for that here
        self._reactor.callLater(10.0, self._reap)  # type: ignore[attr-defined]  # every reactor has it

    def fileno(self) -> int:
        """What the reactor watches."""
        return self._channel.fileno()

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return "namespace"

    def doRead(self) -> None:
        """An answer came, perhaps with a descriptor."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, _LARGEST_MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._gone()
            return
        answer = json.loads(message)
        if not self.ready.called:
            if "error" in answer:
                self.ready.errback(TunUnavailable(answer["error"]))
            else:
                self.ready.callback(descriptors[0])
            return
        waiting = self._asked.pop(answer.get("id"), None)
        if waiting is None:  # nobody wants it any more
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            waiting.callback((answer, list(descriptors)))

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002
        """The reactor gave the socket up, for whatever reason."""
        self._gone()

    def _gone(self) -> None:
        if not self.ready.called:
            self.ready.errback(TunUnavailable("the process of the namespace ended at once"))
        elif self._channel.fileno() >= 0:
            log.error("The process of the network namespace is gone")
        self.close()

    def _reap(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
