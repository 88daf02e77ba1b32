"""Connected sockets, a reactor with a clock of its own, and a network that hands sockets out."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as running
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorSocket
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from anyvpn.interfaces import IInnerNetwork

LOOK_AGAIN_AFTER_S = 0.002
LIMIT_S = 10.0


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for each in (one, other):
        each.setblocking(False)
    return one, other


@implementer(IReactorSocket)
class SteeredReactor(Clock):
    """Time passes when a test says so; sockets work on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.before_shutdown: list[Callable[[], Any]] = []

    def adoptStreamConnection(self, *arguments: Any) -> Any:
        return running.adoptStreamConnection(*arguments)

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], Any]) -> None:
        assert (phase, event) == ("before", "shutdown")
        self.before_shutdown.append(call)


@implementer(IInnerNetwork)
class HandedOut:
    """A network whose every connection leads to a socket that the test has: `ends`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, float]] = []
        self.ends: list[socket.socket] = []
        self.failure: Exception | None = None
        self.hold_back: Deferred[None] | None = None

    async def connect(self, host: str, port: int, timeout_s: float) -> int:
        self.asked.append((host, port, timeout_s))
        if self.hold_back is not None:
            await self.hold_back
        if self.failure is not None:
            raise self.failure
        one, other = connected_pair()
        self.ends.append(other)
        return one.detach()

    async def run(self, command: object) -> int:
        raise NotImplementedError


async def eventually(look: Callable[[], Any], what: str) -> Any:
    """Let the reactor run until there is something true."""
    began_at_s = running.seconds()
    while not (found := look()):
        assert running.seconds() - began_at_s < LIMIT_S, what
        await deferLater(running, LOOK_AGAIN_AFTER_S)
    return found


async def receive(end: socket.socket, size_bytes: int) -> bytes:
    """So many bytes, or fewer and then the end."""
    data = b""

    def look() -> bool:
        nonlocal data
        try:
            chunk = end.recv(size_bytes - len(data))
        except BlockingIOError:
            return False
        data += chunk
        return not chunk or len(data) == size_bytes

    if size_bytes:
        await eventually(look, f"{size_bytes} bytes; there are {data!r}")
    return data


async def receive_all(end: socket.socket) -> bytes:
    """Everything to the end."""
    return await receive(end, 1 << 30)
