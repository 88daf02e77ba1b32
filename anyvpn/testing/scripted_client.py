"""A client whose every byte is a test's own: for tests of any AnyConnect gateway.

    with ScriptedClient("192.0.2.1", 443, name="vpn.example.com", ca_file=authority) as client:
        asked = client.post("/", init()).expect_form("username", "password")
        answers = {"username": "alice", "password": "secret"}
        client.post(asked.action, reply(asked, answers)).expect_success()
        tunnel = client.connect()
        tunnel.send(frame_packet(PacketKind.DPD_REQUEST, b""))
        assert tunnel.frame() == (PacketKind.DPD_RESPONSE, b"")

Its calls wait, each for a bounded time: with a gateway on the same reactor they belong in a
thread. What is sent, and what may be wrong with it, is in anyvpn.testing.scripted_requests.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import h11

from anyvpn.errors import PeerError
from anyvpn.model.authentication import (
    Form,
    GatewayMessage,
    LoginComplete,
    LoginRefused,
    LoginStep,
)
from anyvpn.model.printable import printable
from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_answers import Ending, Header
from anyvpn.testing.scripted_client_tunnel import ClientTunnel
from anyvpn.testing.scripted_line import LIMIT_S, PIECE_BYTES, NewSocket, ScriptedLine
from anyvpn.testing.scripted_requests import http_request, init, offer, reply
from anyvpn.wire.authentication import read_gateway_message
from anyvpn.wire.cookies import read_set_cookie, write_cookies

# From the protocol
TUNNEL_PATH = "/CSCOSSLC/tunnel"
SESSION_COOKIE = "webvpn"
DTLS_SECRET_BYTES = 48

# Ours
LARGEST_ANSWER_BYTES = 4 << 20
BYTES_SHOWN = 600
MOST_STEPS = 16


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """What a gateway has answered; `number` counts from 1."""

    number: int
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes

    def header(self, name: str) -> str:
        """The first header of that name, whatever its case; empty when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def message(self) -> GatewayMessage | None:
        """The document in it, if it is one of the protocol."""
        try:
            return read_gateway_message(self.body)
        except PeerError:
            return None

    def expect(self, status: int = 200, *parts: bytes, without: Sequence[bytes] = ()) -> Self:
        """This status, and a body with all of these and none of those. Raises: UnmetExpectation."""
        if (
            self.status != status
            or any(each not in self.body for each in parts)
            or any(each in self.body for each in without)
        ):
            words = f"status {status}"
            if parts:
                words += f" with {', '.join(map(repr, parts))}"
            if without:
                words += f" without {', '.join(map(repr, without))}"
            raise self._unexpected(words)
        return self

    def expect_form(self, *names: str) -> LoginStep:
        """A form with these fields, hidden ones left out. Raises: UnmetExpectation."""
        message = self.message
        if isinstance(message, LoginStep) and isinstance(message.step, Form):
            fields = message.step.fields
            shown = tuple(each.name for each in fields if not getattr(each, "hidden", False))
            if shown == names:
                return message
        raise self._unexpected(f"a form with {', '.join(names) or 'nothing to fill in'}")

    def expect_success(self) -> LoginComplete:
        """The end of a login, and the client is in. Raises: UnmetExpectation."""
        message = self.message
        if self.status != 200 or not isinstance(message, LoginComplete):
            raise self._unexpected("the session")
        return message

    def expect_refusal(self) -> str:
        """An error with nothing to fill in; gives its text. Raises: UnmetExpectation."""
        message = self.message
        if not isinstance(message, LoginRefused):
            raise self._unexpected("an error")
        return message.error

    def _unexpected(self, words: str) -> UnmetExpectation:
        body = printable(self.body[:BYTES_SHOWN].decode("utf-8", "replace"))
        return UnmetExpectation(
            f"answer {self.number} is not the expected one\n  expected: {words}\n"
            f"  came: {self.status} {self.reason} with {len(self.body)} bytes: {body}"
        )


class ScriptedClient:
    """Does what it is told, over one connection after the other; cookies are kept.

    `name` is what the certificate is for (without one: the address); without a `ca_file` it is
    not looked at. `certificate` is a PEM file with the client's own and its key. `new_socket`
    makes the sockets, such as `Namespace.socket`.
    """

    def __init__(
        self,
        address: str,
        port: int = 443,
        *,
        name: str = "",
        ca_file: Path | None = None,
        certificate: Path | None = None,
        new_socket: NewSocket = socket.socket,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.cookies: dict[str, str] = {}
        self.answers: list[GatewayAnswer] = []
        """All that came."""
        self._new_line: Callable[[], ScriptedLine] = lambda: ScriptedLine(
            address,
            port,
            name=name,
            ca_file=ca_file,
            certificate=certificate,
            new_socket=new_socket,
            limit_s=limit_s,
        )
        self._line: ScriptedLine | None = None
        self._tunnels: list[ClientTunnel] = []
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()
        for each in self._tunnels:
            each.cut()

    # --- bytes --------------------------------------------------------------------------------

    @property
    def line(self) -> ScriptedLine:
        """The connection, a new one if there is none. Raises: UnmetExpectation."""
        if self._line is None:
            self._line, self._rest = self._new_line(), b""
        return self._line

    def send(self, data: bytes, *, piece_bytes: int = PIECE_BYTES, pause_s: float = 0.0) -> None:
        """Any bytes; with a `pause_s`, so long before each piece. Raises: UnmetExpectation."""
        self.line.send(data, piece_bytes=piece_bytes, pause_s=pause_s)

    def send_below(self, data: bytes) -> None:
        """Any bytes past TLS."""
        self.line.send_below(data)

    def answer(self, method: str = "POST") -> GatewayAnswer:
        """The next answer on this connection, to a request of this method.

        Raises: UnmetExpectation: none comes, or what comes is no HTTP.
        """
        line = self.line
        http = h11.Connection(h11.CLIENT)
        # h11 reads no answer before there was a request
        target = "gateway" if method == "CONNECT" else "/"
        http.send(h11.Request(method=method, target=target, headers=[("Host", "gateway")]))
        http.send(h11.EndOfMessage())
        if self._rest:  # for h11 nothing is the end
            http.receive_data(self._rest)
            self._rest = b""
        head: h11.Response | None = None
        body = bytearray()
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                raise UnmetExpectation(f"what came is no HTTP answer: {error}") from None
            if event is h11.NEED_DATA:
                data = line.receive()
                if not data and head is None:
                    raise UnmetExpectation(f"the gateway {_IN_WORDS[line.wait_closed()]} instead")
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LARGEST_ANSWER_BYTES:
                    raise UnmetExpectation("an answer without end")
            elif isinstance(event, h11.EndOfMessage | h11.PAUSED | h11.ConnectionClosed):
                break
        assert head is not None
        self._rest = bytes(http.trailing_data[0])
        return self._taken(head, bytes(body))

    def close(self) -> None:
        """End the connection as TLS has it; the next request makes another one."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def cut(self) -> None:
        """End it without a word in TLS."""
        if self._line is not None:
            self._line.cut()
            self._line = None

    def reset(self) -> None:
        """End it with a reset."""
        if self._line is not None:
            self._line.reset()
            self._line = None

    def wait_closed(self, *, limit_s: float | None = None) -> Ending:
        """Wait until the gateway ends the connection; gives how. Raises: UnmetExpectation."""
        ending = self.line.wait_closed(limit_s=limit_s)
        self.cut()
        return ending

    # --- requests -----------------------------------------------------------------------------

    def request(self, method: str, path: str, body: bytes = b"", *headers: Header) -> GatewayAnswer:
        """A request with the cookies that were given, and its answer. Raises: UnmetExpectation."""
        cookies: list[Header] = []
        if self.cookies and not any(name.lower() == "cookie" for name, _ in headers):
            cookies.append(("Cookie", write_cookies(self.cookies)))
        self.send(http_request(method, path, body, *cookies, *headers))
        answer = self.answer(method)
        if answer.header("Connection").lower() == "close":
            self.close()
        return answer

    def get(self, path: str, *headers: Header) -> GatewayAnswer:
        """A GET, and its answer. Raises: UnmetExpectation."""
        return self.request("GET", path, b"", *headers)

    def post(self, path: str, body: bytes, *headers: Header) -> GatewayAnswer:
        """A POST, and its answer; an empty path is the root. Raises: UnmetExpectation."""
        return self.request("POST", path or "/", body, *headers)

    def log_in(self, *, group: str = "", **fields: str) -> str:
        """Answer form after form with what it asks of these; gives the session's token.

        Raises: UnmetExpectation: something else is asked, or the client is not let in.
        """
        answer = self.post("/", init(group=group))
        path = "/"
        for _ in range(MOST_STEPS):
            message = answer.message
            if not isinstance(message, LoginStep) or not isinstance(message.step, Form):
                break
            names = {each.name for each in message.step.fields}
            path = message.action or path
            known = {name: text for name, text in fields.items() if name in names}
            answer = self.post(path, reply(message, known, group=group))
        complete = answer.expect_success()
        return complete.session_token or self.cookies.get(SESSION_COOKIE, "")

    @property
    def token(self) -> str:
        """The session's token, as the cookie has it."""
        return self.cookies.get(SESSION_COOKIE, "")

    def connect(
        self, *headers: Header, token: str | None = None, without: Sequence[str] = ()
    ) -> ClientTunnel:
        """A CONNECT, after which the connection is a tunnel, with the means for a DTLS channel.

        Raises: UnmetExpectation: it is not granted.
        """
        secret = os.urandom(DTLS_SECRET_BYTES)
        own = self.token if token is None else token
        wanted = offer(own, *headers, without=without, dtls_secret=secret)
        self.send(http_request("CONNECT", TUNNEL_PATH, b"", *wanted))
        answer = self.answer("CONNECT").expect(200)
        line, self._line = self.line, None
        tunnel = ClientTunnel(line, answer.headers, self._rest, secret)
        self._tunnels.append(tunnel)
        return tunnel

    def _taken(self, head: h11.Response, body: bytes) -> GatewayAnswer:
        answer = GatewayAnswer(
            len(self.answers) + 1,
            head.status_code,
            bytes(head.reason).decode("latin-1"),
            tuple(
                (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                for name, value in head.headers.raw_items()
            ),
            body,
        )
        self.answers.append(answer)
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                self._keep_cookie(value)
        return answer

    def _keep_cookie(self, header: str) -> None:
        try:
            name, text = read_set_cookie(header)
        except PeerError as error:
            raise UnmetExpectation(f"{header!r}: {error}") from None
        if text:
            self.cookies[name] = text
        else:
            self.cookies.pop(name, None)


_IN_WORDS = {
    Ending.CLOSE: "closes the connection",
    Ending.CUT: "cuts the connection",
    Ending.RESET: "resets the connection",
}
