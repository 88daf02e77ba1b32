"""Asks RADIUS servers over UDP: repeats, goes on to the next, and believes nobody else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime, IReactorUDP
from twisted.internet.protocol import ConnectedDatagramProtocol
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from anyvpn.backends.radius_packets import read_answer
from anyvpn.errors import BackendFailed

log = Logger()

# Ours
NAME_TIME_S = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """One server, and the secret that it shares with us."""

    host: str
    port: int
    secret: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a server is asked, how long each time (seconds), how long it is left alone then."""

    tries: int = 3
    time_s: float = 3.0
    retry_after_s: float = 30.0
    needs_authenticator: bool = True


class _Reactor(IReactorTime, IReactorUDP):
    """What the client needs of a reactor."""


class RadiusClient:
    """Each request has a socket of its own, so answers to another one never meet it."""

    def __init__(self, reactor: _Reactor, servers: tuple[Server, ...], patience: Patience) -> None:
        self._reactor = reactor
        self._servers = servers
        self._patience = patience
        self._failed_at_s: dict[Server, float] = {}

    async def ask(
        self, build: Callable[[Server], Any], first: Server | None = None
    ) -> tuple[Any, Server]:
        """The answer of the first server that gives one, and which; `build` makes each a request.

        `first` is asked before any other: who asked the question that this is the answer to.

        Raises: BackendFailed: none of them does; the text says why of each.
        """
        problems = []
        for server in self._in_turn(first):
            request = build(server)
            try:
                answer = await self._ask_one(server, request)
            except _NoAnswer as error:
                self._note_failure(server, str(error))
                problems.append(f"{server} {error}")
                continue
            if self._failed_at_s.pop(server, None) is not None:
                log.info("The RADIUS server {server} answers again", server=str(server))
            return answer, server
        raise BackendFailed(f"no RADIUS server answers: {'; '.join(problems)}")

    def _in_turn(self, first: Server | None) -> list[Server]:
        """Those that work before those that have failed a moment ago."""
        now_s = self._reactor.seconds()
        after_s = self._patience.retry_after_s

        def is_later(server: Server) -> tuple[bool, bool]:
            has_failed = now_s - self._failed_at_s.get(server, -1e9) < after_s
            return server != first, has_failed

        return sorted(self._servers, key=is_later)

    def _note_failure(self, server: Server, problem: str) -> None:
        if server not in self._failed_at_s:
            log.warn("The RADIUS server {server} {problem}", server=str(server), problem=problem)
        self._failed_at_s[server] = self._reactor.seconds()

    async def _ask_one(self, server: Server, request: Any) -> Any:
        patience = self._patience
        address = await self._address(server)
        content = request.RequestPacket()
        exchange = _Exchange(
            address,
            server.port,
            lambda answer: read_answer(
                request, answer, needs_authenticator=patience.needs_authenticator
            ),
        )
        interface = "::" if ":" in address else ""
        try:
            port = self._reactor.listenUDP(0, exchange, interface=interface, maxPacketSize=8192)
        except CannotListenError as error:
            raise _NoAnswer(f"cannot be asked: {error.socketError}") from None
        try:
            for _ in range(patience.tries):
                waiting = exchange.send(content)
                waiting.addTimeout(patience.time_s, self._reactor)
                try:
                    return await waiting
                except NotInTime:
                    continue
        finally:
            await maybeDeferred(port.stopListening)
        raise _NoAnswer(exchange.silence())

    async def _address(self, server: Server) -> str:
        try:
            return str(ip_address(server.host))
        except ValueError:
            pass
        looking_up = deferToThread(
            socket.getaddrinfo, server.host, server.port, type=socket.SOCK_DGRAM
        )
        looking_up.addTimeout(NAME_TIME_S, self._reactor)
        try:
            found = await looking_up
        except (OSError, NotInTime):
            raise _NoAnswer("has a name that leads nowhere") from None
        return str(found[0][4][0])


class _NoAnswer(Exception):
    """This server gives none; the text goes behind its name."""


class _Exchange(ConnectedDatagramProtocol):
    """One request and its answer, over a socket that is connected to the server."""

    noisy = False  # a log line for each socket helps nobody

    def __init__(self, host: str, port: int, read: Callable[[bytes], Any | str]) -> None:
        self.transport: Any
        self._host = host
        self._port = port
        self._read = read
        self._waiting: Deferred[Any] | None = None
        self._strange = ""

    def startProtocol(self) -> None:
        self.transport.connect(self._host, self._port)

    def send(self, content: bytes) -> Deferred[Any]:
        """Send the request, perhaps once more; the answer, of whichever of them it is."""
        waiting = self._waiting = Deferred()
        if self.transport is None:
            self.connectionRefused()
            return waiting
        try:
            self.transport.write(content)
        except OSError as error:
            self._end(_NoAnswer(f"cannot be reached: {error.strerror}"))
        return waiting

    def silence(self) -> str:
        """Why there is no answer."""
        if self._strange:
            return f"gives {self._strange}"
        return "does not answer"

    def datagramReceived(self, datagram: bytes, *_: object) -> None:
        answer = self._read(datagram)
        if isinstance(answer, str):
            self._strange = answer
            return
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(answer)

    def stopProtocol(self) -> None:
        # epoll tells of a refusal as if the socket were gone, and Twisted takes it at its word
        self.connectionRefused()

    def connectionRefused(self) -> None:
        self._end(_NoAnswer("refuses the connection"))

    def _end(self, error: _NoAnswer) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.errback(error)
