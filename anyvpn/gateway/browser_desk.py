"""The browser desk: pages of authenticators, for browsers in the middle of a login.

                 first page … more pages                    the client brings the token
(open: a handle) ───────────────────────▶ (done: a token) ──────────────────────────────▶ (over)
    │  serve raises                                │
    └──────────────┬───────────────────────────────┘ the login ends, or asks for something else
                   └──▶ (over)

The handle finds the login; it travels through the browser and is worth nothing without the token,
which the browser gets when somebody has logged in, and which only the client can bring back.

Source: protocol reference, sections 2.8 and 3.11.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from http import HTTPStatus
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred

from anyvpn.errors import LoginRejected, MalformedMessage
from anyvpn.gateway.admission import Admission
from anyvpn.gateway.http_connection import Request, Response
from anyvpn.model.authentication import (
    Answer,
    BrowserLogin,
    BrowserVisit,
    Identity,
    LoginRequest,
)
from anyvpn.model.browser_address import browser_origin
from anyvpn.model.browser_pages import (
    HANDLE_PARAMETERS,
    PAGE_TREES,
    BrowserKind,
    HTMLPage,
    LoggedIn,
    Page,
    PageRequest,
    Redirect,
)
from anyvpn.model.downloads import Download
from anyvpn.wire.browser_token import NONCE_BYTES, read_exchange_key, seal_browser_token
from anyvpn.wire.cookies import read_cookies, write_set_cookie
from anyvpn.wire.forms import read_parameters

# From the protocol
TOKEN_COOKIE = "acSamlv2Token"  # noqa: S105 - the cookie's name, not a secret
ERROR_COOKIE = "acSamlv2Error"
FINAL_PATH = "/+CSCOE+/saml_ac_login.html"
_EMBEDDED = "single-sign-on-v2"
_EXTERNAL = "single-sign-on-external-browser"
_CLIENTS_OWN_PAGE = "http://localhost:29786/api/sso/"
_FORM = "application/x-www-form-urlencoded"

# Ours
_LOGIN_PATH = PAGE_TREES[0] + "login"
_HANDLE_BYTES = 16
_TOKEN_BYTES = 32
MOST_REQUESTS = 32
"""Of one visit; somebody who reads a page, mistypes and reloads needs a handful."""
_HEADERS = (
    (b"Cache-Control", b"no-store"),
    (
        b"Content-Security-Policy",
        b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
        b"frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
)
_DONE = "You are logged in and can close this window."
_FAILED = "The login has failed. Your VPN client can begin another one."
_OVER = "This login is over. Your VPN client can begin another one."
_BUSY = "This login goes on in another window."
_SHUT_OUT = "Too many logins have failed. Please try again later."


class BrowserDesk:
    """All visits of browsers that logins wait for."""

    def __init__(
        self,
        admission: Admission,
        random: Callable[[int], bytes],
        documents: Mapping[str, Download],
    ) -> None:
        self._admission = admission
        self._random = random
        self._documents = documents
        self._visits: dict[str, Visit] = {}

    def __len__(self) -> int:
        return len(self._visits)

    def open(
        self, request: LoginRequest, wanted: BrowserVisit, failed: Callable[[Exception], None]
    ) -> Visit:
        """Wait for the browser of this client; `failed` is told what a page raised.

        Raises: LoginRejected: the client cannot send one.
        """
        external = _is_external(request, wanted.browser)
        if not request.origin:
            raise LoginRejected("the client does not say at which host its browser finds us")
        handle = self._random(_HANDLE_BYTES).hex()
        step = BrowserLogin(
            f"{request.origin}{_LOGIN_PATH}?{HANDLE_PARAMETERS[0]}={handle}",
            request.origin + FINAL_PATH,
            token_cookie=TOKEN_COOKIE,
            error_cookie=ERROR_COOKIE,
            external=external,
            message=wanted.message,
        )

        def home(token: str) -> str:
            """Where the browser of the desktop brings the token."""
            blob = seal_browser_token(token, request.browser_key, self._random(NONCE_BYTES))
            final_url = quote(step.final_url, safe="")
            return f"{_CLIENTS_OWN_PAGE}{quote(blob, safe='')}?return={final_url}"

        visit = self._visits[handle] = Visit(
            step,
            wanted.serve,
            self._random(_TOKEN_BYTES).hex(),
            home=home if external else None,
            failed=failed,
            closed=lambda: self._visits.pop(handle, None),
        )
        return visit

    async def answer(self, request: Request, path: str, peer: str) -> Response:
        """Serve a browser. Raises: MalformedMessage."""
        if self._admission.is_banned(peer):
            return _page(_SHUT_OUT, 403)
        if path == FINAL_PATH:
            has_failed = read_cookies(request.all("Cookie")).get(ERROR_COOKIE)
            return _page(_FAILED if has_failed else _DONE)
        if path in self._documents and request.method in ("GET", "HEAD"):
            return _document(self._documents[path])
        if request.method not in ("GET", "POST"):
            return _page("There is nothing of this kind here.", 405)
        asked = _read(request, path)
        visit = self._visits.get(asked.handle)
        return _page(_OVER, 404) if visit is None else await visit.answer(asked)


class Visit:
    """One login that waits for its browser."""

    def __init__(
        self,
        step: BrowserLogin,
        serve: Callable[[PageRequest], Awaitable[Page]],
        token: str,
        *,
        home: Callable[[str], str] | None,
        failed: Callable[[Exception], None],
        closed: Callable[[], object],
    ) -> None:
        self.step = step
        self._serve = serve
        self._token = token
        self._home = home
        self._failed = failed
        self._closed = closed
        self._found: Identity | None = None
        self._serving: Deferred[Page] | None = None
        self._requests = 0
        self._is_over = False

    def redeem(self, token: Answer) -> Identity:
        """Who has logged in, for the client that brings the token. Raises: LoginRejected."""
        if self._found is None:
            raise LoginRejected("nobody has logged in with the browser")
        if not isinstance(token, str) or not hmac.compare_digest(
            token.encode("utf-8", "replace"), self._token.encode("ascii")
        ):
            raise LoginRejected("the token is not the one that the browser was given")
        return self._found

    def close(self) -> None:
        """Nobody waits for the browser any more; closing twice does no harm."""
        self._is_over = True
        self._closed()
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()

    async def answer(self, asked: PageRequest) -> Response:
        """Serve the browser one page; it has one request under way at a time."""
        if self._found is not None:
            return _page(_OVER, 404)
        if self._serving is not None:
            return _page(_BUSY, 409)
        self._requests += 1
        try:
            if self._requests > MOST_REQUESTS:
                raise LoginRejected(f"the browser asks for more than {MOST_REQUESTS} pages")
            self._serving = Deferred.fromCoroutine(self._served(asked))
            page = await self._serving
            self._serving = None
            response = self._response(page)
        except CancelledError:
            self._serving = None
            if self._is_over:
                return _page(_OVER, 404)
            raise  # the browser is gone; it may come back
        except Exception as error:  # the login's own error handling says and logs what it was
            self._serving = None
            if self._is_over:  # what is raised then is about the end of it, too
                return _page(_OVER, 404)
            self._failed(error)
            return self._sent_home(_FAILED)
        return response

    async def _served(self, asked: PageRequest) -> Page:
        return await self._serve(asked)

    def _response(self, page: Page) -> Response:
        match page:
            case Redirect():
                if not browser_origin(page.address):
                    raise ValueError("the authenticator redirects to what is no https address")
                return _redirect(page.address, *self._forgotten_cookies())
            case HTMLPage():
                return _html(page.html, page.status, *self._forgotten_cookies())
            case LoggedIn(identity=Identity()):
                self._found = page.identity
                return self._sent_home(_DONE)
        raise TypeError(f"the authenticator serves {type(page).__name__}, which is no page")

    def _sent_home(self, text: str) -> Response:
        """The browser's last answer: a client that is waiting for it goes on, whatever came of it.

        An external browser gets a page that leads on, since whoever served the form before may
        allow no redirect to a plain address.
        """
        failed = write_set_cookie(ERROR_COOKIE, "login-failed", http_only=False)
        if self._home is not None:
            # The client sends it on to the final page, which has nothing but this to know by
            cookies = (failed,) if self._found is None else ()
            return _page(text, 200, *cookies, address=self._home(self._token))
        token = write_set_cookie(TOKEN_COOKIE, self._token, http_only=False)
        return _redirect(self.step.final_url, failed if self._found is None else token)

    def _forgotten_cookies(self) -> tuple[str, ...]:
        """What a browser may still have of the login before."""
        if self._requests > 1:
            return ()
        return tuple(write_set_cookie(name, "") for name in (TOKEN_COOKIE, ERROR_COOKIE))


def is_page(path: str) -> bool:
    """Whether a browser is served there."""
    return path == FINAL_PATH or path.startswith(PAGE_TREES)


def _is_external(request: LoginRequest, wanted: BrowserKind) -> bool:
    """Raises: LoginRejected: the client has no browser of this kind."""
    capabilities = request.client.capabilities
    if wanted is not BrowserKind.EMBEDDED and _EXTERNAL in capabilities:
        try:
            read_exchange_key(request.browser_key)
        except MalformedMessage:
            why = "it sends no key that its token could be sealed for"
        else:
            return True
    else:
        why = f"it announces {', '.join(sorted(capabilities)) or 'nothing'}"
    if wanted is not BrowserKind.EXTERNAL and _EMBEDDED in capabilities:
        return False
    kind = "" if wanted is BrowserKind.AUTO else f"an {wanted.value} "
    raise LoginRejected(f"the client cannot log in with {kind or 'a '}browser: {why}")


def _read(request: Request, path: str) -> PageRequest:
    """Raises: MalformedMessage."""
    query = read_parameters(request.target.partition("?")[2].partition("#")[0].encode("ascii"))
    form = read_parameters(b"")
    if request.method == "POST":
        if request.first("Content-Type").partition(";")[0].strip().lower() != _FORM:
            raise MalformedMessage("a browser's form of another media type")
        form = read_parameters(request.body)
    handles = [each[name] for each in (query, form) for name in HANDLE_PARAMETERS if name in each]
    return PageRequest(request.method, path, handles[0] if handles else "", query, form)


def _page(text: str, status: int = 200, *cookies: str, address: str = "") -> Response:
    """A text, and where to go from there at once."""
    leads = f'<meta http-equiv="refresh" content="0; url={escape(address)}">' if address else ""
    link = f'<p><a href="{escape(address)}">Continue</a></p>' if address else ""
    return _html(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>VPN gateway</title>{leads}</head>\n"
        f"<body><p>{escape(text)}</p>{link}</body></html>\n",
        status,
        *cookies,
    )


def _html(html: str, status: int, *cookies: str) -> Response:
    headers = ((b"Content-Type", b"text/html; charset=utf-8"), *_HEADERS, *_set(cookies))
    return Response(status, html.encode("utf-8", "replace"), headers, _reason(status))


def _document(document: Download) -> Response:
    headers = ((b"Content-Type", document.content_type.encode("ascii")), *_HEADERS)
    return Response(200, document.content, headers, _reason(200))


def _redirect(address: str, *cookies: str) -> Response:
    headers = ((b"Location", address.encode("ascii")), *_HEADERS, *_set(cookies))
    return Response(302, b"", headers, _reason(302))


def _set(cookies: tuple[str, ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((b"Set-Cookie", each.encode("ascii")) for each in cookies)


def _reason(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")
