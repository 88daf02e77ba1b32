"""Lets a client in whose user logs in at a web page: a gateway's own, with its passwords in it."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import attrs
from twisted.internet import ssl
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from anyvpn.errors import LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import BrowserLogin, Identity
from anyvpn.wire.browser_token import seal_browser_token

EXTERNAL = "single-sign-on-external-browser"


@attrs.frozen
class Settings:
    """Where the page is, and what it shows to prove that it is the one."""

    address: str
    port: int
    name: str
    certificate: Path
    key: Path
    passwords: dict[str, str]
    external: bool = True
    spoils: bool = False


def build(settings: Settings, reactor: object) -> IdentityPage:
    page = IdentityPage(settings)
    certificate = ssl.PrivateCertificate.loadPEM(
        settings.key.read_text() + settings.certificate.read_text()
    )
    reactor.listenSSL(settings.port, Site(page), certificate.options(), interface=settings.address)
    return page


@implementer(IAuthenticator)
class IdentityPage(Resource):
    isLeaf = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._logins: dict[str, bytes] = {}
        self._tokens: dict[str, str] = {}

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        own, request = self._settings, dialogue.request
        if own.external and EXTERNAL not in request.client.capabilities:
            raise LoginRejected("a client without a browser")
        state = secrets.token_urlsafe()
        self._logins[state] = request.browser_key
        base = f"https://{own.name}:{own.port}"
        token = await dialogue.ask(
            BrowserLogin(f"{base}/login?state={state}", f"{base}/done", external=own.external)
        )
        user = self._tokens.pop(str(token), "")
        if not user:
            raise LoginRejected("a token that the page has not given")
        return Identity(user)

    def render_POST(self, request: Request) -> bytes:
        own = self._settings
        given = {name.decode(): values[0].decode() for name, values in request.args.items()}
        key = self._logins.pop(given.get("state", ""), None)
        user = given.get("user", "")
        if key is None or given.get("password") != own.passwords.get(user):
            request.setResponseCode(403)
            return b"No.\n"
        token = secrets.token_hex(40)
        self._tokens[token] = user
        if not own.external:
            request.addCookie("acSamlv2Token", token, path="/")
            request.redirect(f"https://{own.name}:{own.port}/done".encode())
            return b""
        blob = seal_browser_token(token, key, os.urandom(12))
        if own.spoils:
            blob = b64encode(blob.encode()).decode()
        done = quote(f"https://{own.name}:{own.port}/done", safe="")
        blob = quote(blob, safe="")
        request.redirect(f"http://localhost:29786/api/sso/{blob}?return={done}".encode())
        return b""

    def render_GET(self, request: Request) -> bytes:
        return b"You are in.\n" if request.path == b"/done" else b"Who are you?\n"
