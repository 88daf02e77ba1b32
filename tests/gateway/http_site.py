"""An HTTP connection of the gateway's with a client at its other end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.gateway.http_connection import HTTPConnection, Request, Response
from anyvpn.gateway.settings import Limits
from anyvpn.packets.stream import TLSStream
from tests.gateway.memory_tls import HTTPAnswer, connect, read_answers, server_context

Answer = Callable[[Request], Awaitable[Response]]


class Site:
    """The reader of the stream: it makes the HTTP connection as soon as TLS is up."""

    def __init__(self, clock: Clock, limits: Limits, answer: Answer) -> None:
        self.clock = clock
        self.limits = limits
        self.answer = answer
        self.refusals: list[str] = []
        self.http: HTTPConnection | None = None
        self.stream = TLSStream(clock, server_context(), self)

    def secured(self) -> None:
        self.http = HTTPConnection(
            self.clock,
            self.stream,
            self.limits,
            answer=self.answer,
            refused=self.refusals.append,
        )

    def received(self, data: bytes) -> None:
        assert self.http is not None
        self.http.received(data)

    def closed(self, reason: str) -> None:
        if self.http is not None:
            self.http.closed()


class HTTPCase(SynchronousTestCase):
    """Notes each request and answers with its target, unless a test says otherwise."""

    limits = Limits(request_time_s=15.0, keep_alive_s=120.0)

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.requests: list[Request] = []
        self.site = Site(self.clock, self.limits, self.answer)
        self.client, self.wire = connect(self.clock, self.site.stream)

    async def answer(self, request: Request) -> Response:
        """What the gateway would do."""
        self.requests.append(request)
        return Response(200, request.target.encode(), reason=b"OK")

    def send(self, data: bytes) -> None:
        """Let the client send, and everything happen that comes of it."""
        self.client.send(data)
        self.wire.pump()

    def answers(self) -> list[HTTPAnswer]:
        """What the client got since the last call."""
        return read_answers(self.client.take())

    def exchange(self, data: bytes) -> list[HTTPAnswer]:
        """Send, and take what comes back."""
        self.send(data)
        return self.answers()

    def statuses(self, data: bytes) -> list[int]:
        """The statuses of what comes back."""
        return [each.status for each in self.exchange(data)]

    def pass_time(self, seconds: float) -> None:
        """Move the clock on."""
        self.clock.advance(seconds)
        self.wire.pump()

    def assert_closed(self) -> None:
        """The connection is at its end, and nothing of it is left."""
        self.assertTrue(self.client.is_closed)
        self.client.transport.loseConnection()
        self.wire.pump()
        self.assertTrue(self.wire.near.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])
