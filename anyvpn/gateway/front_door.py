"""What the VPN port answers: logins, downloads, logouts, and the way into a tunnel.

One object serves one connection. Paths and statuses: protocol reference, sections 2.4 and 2.8.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from http import HTTPStatus

from twisted.internet.interfaces import IReactorTime

from anyvpn.errors import BackendFailed, PeerError
from anyvpn.gateway.authentication import (
    ANNOUNCED_PROFILES_PATH,
    PROFILES_PATH,
    LoginDesk,
)
from anyvpn.gateway.browser_desk import is_page
from anyvpn.gateway.http_connection import HTTPConnection, Request, Response
from anyvpn.gateway.login_exchange import LoginAnswer, LoginPost
from anyvpn.gateway.session import Session
from anyvpn.gateway.sessions import SessionRegistry
from anyvpn.gateway.settings import GatewaySettings
from anyvpn.gateway.tls_contexts import peer_certificates_der, verification_failure
from anyvpn.gateway.tunnels import TunnelDesk
from anyvpn.interfaces import IProfileProvider
from anyvpn.model.authentication import ClientMessage, ClientMessageKind, LogoutComplete
from anyvpn.model.downloads import Download
from anyvpn.model.events import Event, EventKind
from anyvpn.model.session import EndReason
from anyvpn.packets.stream import TLSStream
from anyvpn.wire.authentication import read_client_message, write_gateway_message
from anyvpn.wire.cookies import LOGIN_COOKIE, SESSION_COOKIE, read_cookies, write_set_cookie
from anyvpn.wire.downloads import find_core_download, read_path
from anyvpn.wire.forms import is_xml, read_form_message

# From the protocol (protocol reference, sections 2.2, 2.6, 2.8, 4 and 8.1)
TUNNEL_PATH = "/CSCOSSLC/tunnel"
_LOGOUT_PATHS = frozenset({"/logout", "/+webvpn+/webvpn_logout.html"})
_PROFILE_TREES = (ANNOUNCED_PROFILES_PATH, "/" + PROFILES_PATH)
_VPN_AGENTS = ("anyconnect", "openconnect")
_XML = "text/xml; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_ALWAYS = ((b"X-Transcend-Version", b"1"), (b"Cache-Control", b"no-store"))

# Ours
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._-]{1,253})(:[0-9]{1,5})?")
_PORTAL = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>VPN gateway</title></head>
<body><h1>VPN gateway</h1>
<p>This address is for VPN clients, not for browsers. Give it to Cisco Secure Client
(AnyConnect), or to openconnect:</p>
<pre>openconnect --protocol=anyconnect https://{host}{path}</pre>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Desks:
    """Who does what a request asks for."""

    settings: GatewaySettings
    logins: LoginDesk
    tunnels: TunnelDesk
    registry: SessionRegistry
    tell: Callable[[Event], None]


class FrontDoor:
    """The reader of one TLS connection, until a tunnel takes it over."""

    def __init__(self, reactor: IReactorTime, desks: Desks, peer: str) -> None:
        self._reactor = reactor
        self._desks = desks
        self.peer = peer
        """The client's address; a proxy before us may tell it later."""
        self._stream: TLSStream | None = None
        self._http: HTTPConnection | None = None

    def serve(self, stream: TLSStream) -> None:
        """Answer on this stream, as soon as it is secured."""
        self._stream = stream

    # --- the stream's reader --------------------------------------------------------------

    def secured(self) -> None:
        """TLS is up."""
        assert self._stream is not None
        self._http = HTTPConnection(
            self._reactor,
            self._stream,
            self._desks.settings.limits,
            answer=self._respond,
            refused=self._refused,
        )

    def received(self, data: bytes) -> None:
        """Bytes of HTTP."""
        if self._http is not None:
            self._http.received(data)

    def closed(self, reason: str) -> None:
        """The connection is gone."""
        if self._http is not None:
            self._http.closed()
        else:
            self._tell(EventKind.TLS_FAILED, reason)

    # --- requests -------------------------------------------------------------------------

    async def _respond(self, request: Request) -> Response:
        try:
            if request.method == "CONNECT":
                return await self._connect(request)
            path = read_path(request.target)
            if is_page(path):
                return await self._desks.logins.browsers.answer(request, path, self.peer)
            cookies = read_cookies(request.all("Cookie"))
            match request.method:
                case "POST":
                    return await self._post(request, path, cookies)
                case "GET" | "HEAD":
                    return await self._get(request, path, cookies)
        except PeerError as error:
            self._refused(f"{_named(request)}: {error}")
            return _status(400, closes=True)
        except BackendFailed as error:
            self._refused(f"{_named(request)}: {error}")
            return _status(503)
        self._refused(f"method {request.method}")
        return _status(405, (b"Allow", b"GET, HEAD, POST, CONNECT"), closes=True)

    async def _connect(self, request: Request) -> Response:
        if request.target != TUNNEL_PATH:
            self._refused(f"CONNECT {request.target[:64]}: there is no proxy here")
            return _status(404, closes=True)
        assert self._stream is not None
        return await self._desks.tunnels.open(self._stream, request.headers, self.peer)

    async def _post(self, request: Request, path: str, cookies: dict[str, str]) -> Response:
        body = request.body
        message = read_client_message(body) if is_xml(body) else read_form_message(body)
        if message.kind is ClientMessageKind.LOGOUT:
            return await self._log_out(message.session_token or cookies.get(SESSION_COOKIE, ""))
        return await self._log_in(request, path, cookies, message)

    async def _get(self, request: Request, path: str, cookies: dict[str, str]) -> Response:
        if path in _LOGOUT_PATHS:
            return await self._log_out(cookies.get(SESSION_COOKIE, ""))
        for tree in _PROFILE_TREES:
            if path.startswith(tree):
                return await self._send_profile(path.removeprefix(tree), cookies)
        download = find_core_download(path)
        if download is not None:
            return _download(download)
        if not self._desks.logins.is_login_path(_host(request), path):
            return _not_found()
        agent = request.first("User-Agent").lower()
        if request.first("X-Transcend-Version") or any(name in agent for name in _VPN_AGENTS):
            first = ClientMessage(ClientMessageKind.INIT, protocol_version=1)
            return await self._log_in(request, path, cookies, first)
        page = _PORTAL.format(host=escape(request.first("Host")), path=escape(path))
        return _document(page.encode("utf-8"), _HTML)

    # --- answers --------------------------------------------------------------------------

    async def _log_in(
        self, request: Request, path: str, cookies: dict[str, str], message: ClientMessage
    ) -> Response:
        stream = self._stream
        assert stream is not None
        client = replace(message.client, user_agent=request.first("User-Agent")[:256])
        problem = verification_failure(stream.tls)
        answer = await self._desks.logins.post(
            LoginPost(
                replace(message, client=client),
                peer=self.peer,
                host=_host(request),
                origin=_origin(request),
                server_name=stream.server_name_indication(),
                path=path,
                login_cookie=cookies.get(LOGIN_COOKIE, ""),
                certificates=() if problem else peer_certificates_der(stream.tls),
                certificate_problem=problem,
                browser_key=_browser_key(request),
            )
        )
        return _login_response(answer)

    async def _log_out(self, token: str) -> Response:
        session = await self._session(token)
        if session is not None:
            self._desks.registry.end(session, EndReason.LOGOUT)
        gone = (b"Set-Cookie", write_set_cookie(SESSION_COOKIE, "").encode("ascii"))
        return _document(write_gateway_message(LogoutComplete()), _XML, gone)

    async def _send_profile(self, name: str, cookies: dict[str, str]) -> Response:
        session = await self._session(cookies.get(SESSION_COOKIE, ""))
        if session is None:
            self._refused("a profile was asked for without a valid token")
            return _status(401, closes=True)
        record = session.record
        provider: IProfileProvider = self._desks.settings.profile_provider
        profiles = await provider.profiles_for(record.identity, record.policy)
        for profile in profiles:
            if profile.name == name:
                user = record.identity.user
                detail = f"{name} SHA-1 {profile.sha1}"
                self._tell(EventKind.PROFILE_SENT, detail, user, session.identifier)
                return _download(Download("text/xml", profile.content))
        return _not_found()

    async def _session(self, token: str) -> Session | None:
        return await self._desks.registry.find(token) if token else None

    # --- events ---------------------------------------------------------------------------

    def _refused(self, why: str) -> None:
        self._tell(EventKind.REQUEST_REFUSED, why)

    def _tell(self, kind: EventKind, detail: str, user: str = "", session_id: int = 0) -> None:
        self._desks.tell(
            Event(
                kind,
                self._reactor.seconds(),
                user=user,
                peer=self.peer,
                session_id=session_id,
                detail=detail,
            )
        )


def _host(request: Request) -> str:
    """The host that the client asked for, without its port."""
    host = request.first("Host")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _origin(request: Request) -> str:
    """Where the client thinks we are; empty when it says nothing that a browser could be told."""
    host = request.first("Host")
    return f"https://{host.removesuffix(':443')}" if _AUTHORITY.fullmatch(host) else ""


def _named(request: Request) -> str:
    """The request in the log; what follows the path may be a secret."""
    return f"{request.method} {request.target.partition('?')[0][:64]}"


def _browser_key(request: Request) -> bytes:
    """The key that a login's token is sealed for when an external browser brings it."""
    try:
        return base64.b64decode(request.first("X-AnyConnect-STRAP-DH-Pubkey"), validate=True)
    except ValueError:
        return b""


def _login_response(answer: LoginAnswer) -> Response:
    cookies = [(b"Set-Cookie", cookie.encode("ascii")) for cookie in answer.cookies]
    if answer.document:
        return _document(answer.document, _XML, *cookies)
    return _status(answer.status, *cookies, closes=True)


def _download(download: Download) -> Response:
    return _document(download.content, download.content_type)


def _document(body: bytes, content_type: str, *headers: tuple[bytes, bytes]) -> Response:
    return Response(
        200,
        body,
        (
            (b"Content-Type", content_type.encode("ascii")),
            *_ALWAYS,
            (b"X-Aggregate-Auth", b"1"),
            (b"X-Frame-Options", b"DENY"),
            *headers,
        ),
        reason=b"OK",
    )


def _not_found() -> Response:
    return Response(
        404, b"There is nothing here.\n", ((b"Content-Type", b"text/plain"), *_ALWAYS), b"Not Found"
    )


def _status(status: int, *headers: tuple[bytes, bytes], closes: bool = False) -> Response:
    reason = HTTPStatus(status).phrase.encode("ascii")
    return Response(status, b"", (*_ALWAYS, *headers), reason, closes)
