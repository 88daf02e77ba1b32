"""Requests to one gateway: a connection that comes and goes, and the cookies that stay.

Source: protocol reference, sections 2.1, 2.3 and 2.7.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from anyvpn.client.dialer import Dialer
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.http_connection import Answer, Headers, HTTPConnection, Request
from anyvpn.client.masking import masked_body, masked_headers
from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import AcceptedCertificate
from anyvpn.errors import GatewayUnreachable, MalformedMessage
from anyvpn.model.client_events import ClientEvent, Traffic
from anyvpn.wire.cookies import read_set_cookie, write_cookies
from anyvpn.wire.tunnel_headers import header
from anyvpn.wire.tunnel_offer import identifier_headers

log = Logger()

# Ours
MOST_COOKIES = 32


class HTTPSession:
    """Speaks to `url`, which a redirect may change; connections are checked against the first.

    `address` is the gateway's outer address once there was a connection.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        dialer: Dialer,
        settings: ClientSettings,
        tell: Callable[[ClientEvent], None],
        url: GatewayURL,
        *,
        address: str = "",
        accepted: AcceptedCertificate | None = None,
    ) -> None:
        self.url = url
        self.cookies: dict[str, str] = {}
        self.extra_headers: Headers = ()
        self.address = address
        self.accepted = accepted
        self._reactor = reactor
        self._dialer = dialer
        self._settings = settings
        self._tell = tell
        self._connection: HTTPConnection | None = None

    # --- the connection ---------------------------------------------------------------------

    async def connection(self) -> HTTPConnection:
        """The open connection, or a new one. Raises: GatewayUnreachable, GatewayUntrusted."""
        if self._connection is None or not self._connection.is_open:
            self.close()
            stream, self.accepted = await self._dialer.dial(self.url, self.address, self.accepted)
            if self._settings.proxy is None:
                self.address = stream.peer_address() or self.address
            self._connection = HTTPConnection(self._reactor, stream)
        return self._connection

    def close(self) -> None:
        """Close the connection; cookies stay, and the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def take_connection(self) -> HTTPConnection | None:
        """Hand an open connection over to somebody else; None when there is none."""
        connection, self._connection = self._connection, None
        return connection if connection is not None and connection.is_open else None

    def move_to(self, url: GatewayURL) -> None:
        """Speak to another host or port from now on, which gets no cookie of the first."""
        if not url.is_same_gateway(self.url):
            self.close()
            self.cookies.clear()
            self.address, self.accepted = "", None
        self.url = url

    # --- requests ---------------------------------------------------------------------------

    async def request(
        self, method: str, body: bytes = b"", headers: Headers = (), *, time_s: float = 0.0
    ) -> Answer:
        """Send a request for `url` and wait for the answer, whose cookies are kept.

        Where a connection that was used before turns out to be closed, it is tried once more on
        a new one.

        Raises: GatewayUnreachable, GatewayUntrusted, MalformedMessage, MessageTooLarge.
        """
        time_s = time_s or self._settings.answer_time_s
        for _ in range(2):
            connection = await self.connection()
            request = Request(method, self.url.path, self._headers(headers), body)
            self._show("sent", f"{method} {self.url.path}", request.headers, body)
            answer = await connection.exchange(request, time_s)
            if answer is not None:
                self._show("received", f"{answer.status}", answer.headers, answer.body)
                self._keep_cookies(answer)
                return answer
            if connection.exchanges == 0:
                break
        raise GatewayUnreachable(f"{self.url.authority} closed the connection without an answer")

    def _headers(self, headers: Headers) -> Headers:
        description = self._settings.description
        basic = [
            header("Host", self.url.authority),
            header("User-Agent", description.user_agent),
            header("Accept", "*/*"),
            header("Accept-Encoding", "identity"),
            header("X-Transcend-Version", "1"),
            *identifier_headers(description),
            *self.extra_headers,
        ]
        if self.cookies:
            try:
                basic.append(header("Cookie", write_cookies(self.cookies)))
            except ValueError as error:
                raise MalformedMessage(f"the gateway's cookies cannot be sent: {error}") from None
        return (*basic, *headers)

    def _keep_cookies(self, answer: Answer) -> None:
        for text in answer.all("Set-Cookie"):
            try:
                name, value = read_set_cookie(text)
            except MalformedMessage as error:
                log.debug("A cookie of the gateway is passed over: {why}", why=error)
                continue
            if not value:
                self.cookies.pop(name, None)
            elif name in self.cookies or len(self.cookies) < MOST_COOKIES:
                self.cookies[name] = value

    def _show(self, direction: str, first_line: str, headers: Headers, body: bytes) -> None:
        if self._settings.follow_traffic:
            shown = masked_body(body, is_request=direction == "sent")
            self._tell(Traffic(direction, f"{first_line}\n{masked_headers(headers)}\n\n{shown}"))
