"""HTTP on the VPN port: one request at a time over TLS, with a cap on everything.

h11 reads and writes; it keeps the case of header names, which clients compare, and hands over
the first bytes of a tunnel.

(idle) ── first byte ──▶ (reading) ── whole request ──▶ (answering) ── keep-alive ──▶ (idle)
   └─ keep-alive time ─┐      └─ request time, caps ─┐        ├─ CONNECT granted ──▶ (handed over)
                       └─────────────────────────────┴────────┴────────────────────▶ (closed)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import h11
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from anyvpn.gateway.settings import Limits
from anyvpn.packets.stream import TLSStream
from anyvpn.packets.time_limit import TimeLimit

log = Logger()

# Ours
LARGEST_HEAD_BYTES = 16 * 1024
LARGEST_BODY_BYTES = 256 * 1024
MOST_HEADERS = 128
CONTINUE = "100-continue"


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; header names are in lower case, values as they came."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    def all(self, name: str) -> list[str]:
        """The values of all headers of that name."""
        wanted = name.lower().encode("ascii")
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    def first(self, name: str) -> str:
        """The first of them; empty when there is none."""
        return next(iter(self.all(name)), "")


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer. `take_over` ends HTTP here: it is called when the head is sent.

    `reason` is the text of the status line, where a client shows it.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    reason: bytes = b""
    closes: bool = False
    take_over: Callable[[], None] | None = None


class HTTPConnection:
    """The reader of a TLS stream, until a CONNECT is granted.

    `refused` is told why a request was not even looked at.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        stream: TLSStream,
        limits: Limits,
        *,
        answer: Callable[[Request], Awaitable[Response]],
        refused: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._answer = answer
        self._refused = refused
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD_BYTES)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._answering: Deferred[None] | None = None
        self._answered = 0
        self._idle = False
        self._waiting_bytes = 0
        self._time_limit = TimeLimit(reactor)
        self._over = False
        stream.notify_drained(self._drained)
        self._wait_for(limits.request_time_s, "no request came")

    def received(self, data: bytes) -> None:
        """Bytes came."""
        if self._over:
            return
        if self._idle:
            self._idle = False
            self._wait_for(self._limits.request_time_s, "the request took too long")
        self._http.receive_data(data)
        if self._answering is not None:
            # Reading goes on, or nobody would notice that the client leaves; but not for long
            self._waiting_bytes += len(data)
            if self._waiting_bytes > LARGEST_HEAD_BYTES:
                self._stream.pause_reading()
        self._read()

    def closed(self) -> None:
        """The connection is gone: nobody waits for an answer any more."""
        self._end()
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.cancel()

    # --- requests -------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while not self._over and self._answering is None and not self._stream.is_congested:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            # h11's hints: 400, 431, 501
            # What follows the colon is what the peer sent, such as a password
            why = str(error).partition(":")[0]
            self._refuse(error.error_status_hint, f"not HTTP as it should be: {why}")

    def _take(self, event: object) -> None:
        match event:
            case h11.Request():
                self._take_head(event)
            case h11.Data():
                self._body += event.data
                if len(self._body) > LARGEST_BODY_BYTES:
                    self._refuse(413, f"a body of more than {LARGEST_BODY_BYTES} bytes")
            case h11.EndOfMessage():
                self._take_request()
            case h11.ConnectionClosed():
                self._close()

    def _take_head(self, head: h11.Request) -> None:
        self._head = head
        self._body = bytearray()
        # h11 bounds what waits for more, not what comes whole at once
        size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
        if len(head.headers) > MOST_HEADERS or size > LARGEST_HEAD_BYTES:
            self._refuse(431, f"{len(head.headers)} headers, {size} bytes in all")
            return
        # h11 has checked that the length is one number
        lengths = [value for name, value in head.headers if name == b"content-length"]
        if lengths and int(lengths[0]) > LARGEST_BODY_BYTES:
            self._refuse(413, f"a body of {int(lengths[0])} bytes")
        elif self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _take_request(self) -> None:
        head = self._head
        assert head is not None
        self._time_limit.cancel()
        request = Request(
            head.method.decode("ascii"),
            head.target.decode("ascii"),
            tuple(head.headers),
            bytes(self._body),
        )
        self._body = bytearray()
        self._waiting_bytes = 0
        answering = Deferred.fromCoroutine(self._answer_one(request))
        if not answering.called:
            self._answering = answering
            answering.addCallback(lambda _: self._read())
        answering.addErrback(self._failed)

    async def _answer_one(self, request: Request) -> None:
        try:
            response = await self._answer(request)
        except CancelledError:
            return
        except Exception:  # our own fault: the peer learns no more than that
            log.failure("Failed to answer {request}", request=request)
            response = Response(500, closes=True)
        self._answering = None
        if self._over:
            return
        self._answered += 1
        if response.take_over is not None:
            self._hand_over(response, response.take_over)
        else:
            self._send_response(response, request.method == "HEAD")

    def _failed(self, failure: Failure) -> None:
        """An answer that cannot be written: our own fault as well."""
        log.failure("Closing a connection", failure=failure)
        self._answering = None
        self._close()

    # --- responses ------------------------------------------------------------------------

    def _send_response(self, response: Response, head_only: bool) -> None:
        closes = response.closes or self._answered >= self._limits.requests_per_connection
        headers = [
            *response.headers,
            (b"Content-Length", b"%d" % len(response.body)),
            (b"Connection", b"close" if closes else b"Keep-Alive"),
        ]
        parts: list[h11.Event] = [
            h11.Response(status_code=response.status, headers=headers, reason=response.reason)
        ]
        if response.body and not head_only:
            parts.append(h11.Data(data=response.body))
        parts.append(h11.EndOfMessage())
        self._send(*parts)
        if self._over:  # the connection broke at it
            return
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._close()
            return
        self._http.start_next_cycle()
        self._idle = not self._http.trailing_data[0]
        if self._idle:
            self._wait_for(self._limits.keep_alive_s, "")
        else:
            self._wait_for(self._limits.request_time_s, "the request took too long")
        if self._stream.is_congested:
            self._stream.pause_reading()
        else:
            self._stream.resume_reading()

    def _drained(self) -> None:
        """The peer has taken its answers, so it may ask for more."""
        if not self._over and self._answering is None:
            self._stream.resume_reading()
            self._read()

    def _hand_over(self, response: Response, take_over: Callable[[], None]) -> None:
        """End HTTP; what came after the request belongs to whoever reads next."""
        head = h11.Response(
            status_code=response.status, headers=list(response.headers), reason=response.reason
        )
        self._send(head)
        if self._over:  # the connection broke at it
            return
        rest, _ = self._http.trailing_data
        self._end()
        take_over()
        self._stream.give_back(rest)
        self._stream.resume_reading()

    def _refuse(self, status: int, why: str) -> None:
        """Answer what cannot be read, if that is possible still, and close."""
        self._refused(why)
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [(b"Content-Length", b"0"), (b"Connection", b"close")]
            self._send(
                h11.Response(status_code=status, headers=headers, reason=_reason(status)),
                h11.EndOfMessage(),
            )
        self._close()

    def _send(self, *parts: h11.Event) -> None:
        """Write the parts in as few TLS records as they need."""
        written = b"".join(self._http.send(part) or b"" for part in parts)
        if written:
            self._stream.write(written)

    # --- time and end ---------------------------------------------------------------------

    def _wait_for(self, time_s: float, or_else: str) -> None:
        self._time_limit.start(time_s, partial(self._out_of_time, or_else))

    def _out_of_time(self, why: str) -> None:
        if why:
            self._refuse(408, why)
        else:
            self._close()

    def _close(self) -> None:
        self._end()
        self._stream.resume_reading()  # or the peer's goodbye would not be seen
        self._stream.close()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._time_limit.cancel()
            del self._answer, self._refused  # who answers holds this object, too


def _reason(status: int) -> bytes:
    return {408: b"Request Timeout", 413: b"Content Too Large"}.get(status, b"Bad Request")
