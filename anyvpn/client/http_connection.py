"""HTTP to the gateway: one request at a time over a TLS stream, with a cap on every answer.

h11 reads and writes; it keeps the spelling of header names and hands over the first bytes of a
tunnel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import h11
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from anyvpn.errors import AnyvpnError, GatewayUnreachable, MalformedMessage, MessageTooLarge
from anyvpn.packets.stream import TLSStream
from anyvpn.packets.time_limit import TimeLimit

# Ours
LARGEST_HEAD_BYTES = 128 * 1024
"""The answer to CONNECT may hold a thousand routes."""
LARGEST_BODY_BYTES = 256 * 1024

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What to send; a Content-Length is added where there is a body or could be one."""

    method: str
    target: str
    headers: Headers = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; header names and values as they came."""

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    def all(self, name: str) -> list[str]:
        """The values of all headers of that name, whatever its case."""
        wanted = name.lower().encode("ascii")
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def first(self, name: str) -> str:
        """The first of them; empty when there is none."""
        return next(iter(self.all(name)), "")


class HTTPConnection:
    """The reader of a TLS stream that is open, until a tunnel takes the stream over."""

    def __init__(self, reactor: IReactorTime, stream: TLSStream) -> None:
        self.stream = stream
        self.exchanges = 0
        """How many requests were answered."""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD_BYTES)
        self._waiting: Deferred[Answer | None] | None = None
        self._time_limit = TimeLimit(reactor)
        self._request: Request | None = None
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._head_bytes = 0
        self._is_open = True
        stream.reader = self

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._is_open and self._waiting is None

    def close(self) -> None:
        """Say goodbye in TLS, and close."""
        self._is_open = False
        self.stream.close()

    async def exchange(self, request: Request, time_s: float) -> Answer | None:
        """Send a request and wait for its whole answer.

        None: the gateway closed the connection without a byte of an answer, as it may do with
        one that was idle. A CONNECT that is granted ends HTTP here: the stream is paused, and
        holds what came after the head.

        Raises: GatewayUnreachable: the connection broke, or time was up.
        Raises: MalformedMessage, MessageTooLarge: no HTTP, or too much of it.
        """
        assert self.is_open, "one request at a time"
        self._request = request
        self._head, self._body, self._head_bytes = None, bytearray(), 0
        waiting = self._waiting = Deferred(self._cancelled)
        try:
            data = self._http.send(
                h11.Request(
                    method=request.method, target=request.target, headers=list(self._headers())
                )
            )
            data = (data or b"") + (self._http.send(h11.Data(request.body)) or b"")
            data += self._http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            self._waiting = None
            self.close()
            raise MalformedMessage(f"the gateway makes us send what HTTP cannot: {error}") from None
        self._time_limit.start(time_s, partial(self._late, time_s))
        self.stream.write(data)
        return await waiting

    # --- the stream's reader ----------------------------------------------------------------

    def secured(self) -> None:
        """Nothing to do: it was secured before there was HTTP."""

    def received(self, data: bytes) -> None:
        """Bytes came."""
        if not self._is_open:
            return
        if self._waiting is None:
            self._is_open = False
            self.stream.close()  # an answer to nothing
            return
        if self._head is None:
            self._head_bytes += len(data)
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as error:
            self._fail(MalformedMessage(f"the gateway's answer is no HTTP: {error}"))
        except MessageTooLarge as error:
            self._fail(error)

    def closed(self, reason: str) -> None:
        """Nothing more comes."""
        was_open, self._is_open = self._is_open, False
        if self._waiting is None or not was_open:
            return
        if self._head is None and not self._head_bytes:
            self._finish(None)
            return
        try:
            self._http.receive_data(b"")
            self._read()
        except h11.RemoteProtocolError:
            pass  # told below: the answer is not whole
        if self._waiting is not None:
            self._fail(GatewayUnreachable(f"the connection broke within an answer: {reason}"))

    # --- within -----------------------------------------------------------------------------

    def _headers(self) -> Headers:
        request = self._request
        assert request is not None
        if request.body or request.method == "POST":
            length = str(len(request.body)).encode("ascii")
            return (*request.headers, (b"Content-Length", length))
        return request.headers

    def _read(self) -> None:
        while self._waiting is not None:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._head is None and self._head_bytes > LARGEST_HEAD_BYTES:
                    raise MessageTooLarge("the head of the gateway's answer has no end")
                return
            if isinstance(event, h11.Response):
                if self._head_bytes > LARGEST_HEAD_BYTES + LARGEST_BODY_BYTES:
                    raise MessageTooLarge("the head of the gateway's answer is too long")
                self._head = event
                if self._request is not None and self._request.method == "CONNECT":
                    self._connect_answered(event.status_code)
                    return
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > LARGEST_BODY_BYTES:
                    raise MessageTooLarge("the gateway's answer is too long")
            elif isinstance(event, h11.EndOfMessage):
                self._answered()
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("it goes on after its end")

    def _connect_answered(self, status: int) -> None:
        if status == 200:
            self.stream.pause_reading()
            self.stream.give_back(bytes(self._http.trailing_data[0]))
        else:
            self._is_open = False  # what follows a refusal is of no use
        self._finish(self._answer())

    def _answered(self) -> None:
        answer = self._answer()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self.exchanges += 1
        else:
            self._is_open = False
            self.stream.close()
        self._finish(answer)

    def _answer(self) -> Answer:
        head = self._head
        assert head is not None
        headers = tuple((bytes(name), bytes(value)) for name, value in head.headers.raw_items())
        reason = bytes(head.reason).decode("latin-1")
        return Answer(head.status_code, reason, headers, bytes(self._body))

    def _late(self, time_s: float) -> None:
        self._fail(GatewayUnreachable(f"the gateway did not answer within {time_s:g} s"))

    def _fail(self, error: AnyvpnError) -> None:
        self._is_open = False
        self.stream.abort("closed here")
        waiting = self._end_waiting()
        if waiting is not None:
            waiting.errback(error)

    def _finish(self, answer: Answer | None) -> None:
        waiting = self._end_waiting()
        if waiting is not None:
            waiting.callback(answer)

    def _cancelled(self, _: Deferred[Answer | None]) -> None:
        self._end_waiting()
        self._is_open = False
        self.stream.abort("cancelled here")

    def _end_waiting(self) -> Deferred[Answer | None] | None:
        self._time_limit.cancel()
        waiting, self._waiting = self._waiting, None
        return waiting
