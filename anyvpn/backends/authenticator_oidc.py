"""Lets users log in at an identity provider, in their browser: OpenID Connect, code flow with PKCE.

   client        gateway                    browser                       provider
     │ ── asks ──▶ │ ◀── /sso/login ──────────│                              │
     │             │ ─── state, nonce, PKCE ─▶│ ── authorization endpoint ──▶│
     │             │ ◀── /sso/oidc, code ─────│ ◀────────────────────────────│
     │             │ ── code, verifier ────────────────────── token endpoint ▶│
     │ ◀─ token ───────────────────────────── │                              │

Source: OpenID Connect Core 1.0, RFC 7636 (PKCE), RFC 9207 (iss), RFC 9700 (best practice).
"""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlencode

import attrs
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from anyvpn.backends.authenticator_oidc_provider import (
    ClientAuthentication,
    Provider,
    Registration,
    is_safe,
)
from anyvpn.backends.authenticator_oidc_tokens import (
    ALGORITHMS,
    Claims,
    Expectations,
    TokenRefused,
    check_access_token,
    check_claims,
    read_header,
    subject,
    verified_claims,
)
from anyvpn.backends.http_client import HTTPClient
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import BrowserVisit, Identity
from anyvpn.model.browser_pages import BrowserKind, HTMLPage, LoggedIn, Page, PageRequest, Redirect
from anyvpn.model.printable import printable

# Ours
REDIRECT_PATH = "/sso/oidc"
_START_PATH = "/sso/login"
_LONGEST_NAME = 256
_LONGEST_CODE = 8192
_SECRET_BYTES = 32
_TEMPORARY_ERRORS = frozenset({"server_error", "temporarily_unavailable"})


def _help(text: str, example: object = None) -> dict[str, object]:
    return {"help": text} if example is None else {"help": text, "example": example}


@attrs.frozen
class Settings:
    """The provider, who we are to it, and what of its answer is the user."""

    issuer: str = attrs.field(
        metadata=_help("The provider, as it names itself.", "https://login.example.com")
    )
    client_id: str = attrs.field(metadata=_help("Our name there.", "anyvpn"))
    user_claim: str = attrs.field(
        metadata=_help(
            'What is the user\'s name; only "sub" is never given to another user.',
            "preferred_username",
        )
    )
    client_secret: str = attrs.field(
        default="", repr=False, metadata=_help("Our secret there; a public client has none.")
    )
    client_secret_file: Path | None = attrs.field(
        default=None, metadata=_help("File with the secret in its first line.", "oidc-secret")
    )
    client_authentication: ClientAuthentication = attrs.field(
        default="auto",
        metadata=_help("How the secret is shown: basic (a header), post (a form), or either."),
    )
    scopes: tuple[str, ...] = attrs.field(
        default=("openid", "profile"), metadata=_help("What is asked for; openid is a must.")
    )
    groups_claim: str = attrs.field(
        default="",
        metadata=_help(
            "What are the user's groups; dots lead into nested ones.", "realm_access.roles"
        ),
    )
    attributes: tuple[str, ...] = attrs.field(
        default=(), metadata=_help("Claims that the identity keeps.", ("email",))
    )
    browser: Literal["auto", "embedded", "external"] = attrs.field(
        default="auto",
        metadata=_help("Which browser of the client: its own, the desktop's, or what it can do."),
    )
    prompt: Literal["", "login", "select_account", "consent"] = attrs.field(
        default="", metadata=_help("What the provider asks even those who are logged in there.")
    )
    max_age_s: int | None = attrs.field(
        default=None,
        metadata=_help("How long the user may have been logged in there, in seconds.", 3600),
    )
    acr_values: tuple[str, ...] = attrs.field(
        default=(), metadata=_help("Ways to log in there, of which one must have been used.")
    )
    algorithms: tuple[str, ...] = attrs.field(
        default=tuple(ALGORITHMS), metadata=_help("Signatures that are taken.")
    )
    clock_skew_s: float = attrs.field(
        default=60.0, metadata=_help("How far the provider's clock may be off, in seconds.")
    )
    ca_file: Path | None = attrs.field(
        default=None,
        metadata=_help("Authorities (PEM) for its certificate, instead of the system's."),
    )
    time_s: float = attrs.field(
        default=10.0, metadata=_help("How long to wait for each of its answers, in seconds.")
    )

    def __attrs_post_init__(self) -> None:
        if not is_safe(self.issuer) or "?" in self.issuer:
            raise ValueError("issuer must be an https address without a query")
        for name in ("client_id", "user_claim"):
            if not getattr(self, name) or not getattr(self, name).isprintable():
                raise ValueError(f"{name} must not be empty")
        if self.client_secret and self.client_secret_file is not None:
            raise ValueError("client_secret and client_secret_file cannot both be set")
        if "openid" not in self.scopes:
            raise ValueError('scopes must have "openid"')
        unknown = set(self.algorithms) - set(ALGORITHMS)
        if unknown or not self.algorithms:
            raise ValueError(f"algorithms must be some of {', '.join(ALGORITHMS)}")
        if self.max_age_s is not None and self.max_age_s < 0:
            raise ValueError("max_age_s must not be negative")
        if not 0 <= self.clock_skew_s <= 600:
            raise ValueError("clock_skew_s must lie between 0 and 600")
        if not 0 < self.time_s <= 60:
            raise ValueError("time_s must be more than 0 and at most 60")


def build(
    settings: Settings, reactor: IReactorTime, seconds: Callable[[], float] = time.time
) -> OIDCAuthenticator:
    """What the configuration `backend = "oidc"` makes. Raises: ConfigurationError."""
    http = HTTPClient(reactor, settings.time_s, ca_file=settings.ca_file)
    registration = Registration(
        settings.client_id, _secret(settings), settings.client_authentication
    )
    provider = Provider(http, settings.issuer, registration, seconds)
    return OIDCAuthenticator(settings, provider, seconds)


def _secret(settings: Settings) -> str:
    file = settings.client_secret_file
    if file is None:
        return settings.client_secret
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"client_secret_file {file} cannot be read: {error}") from None
    if not lines or not lines[0]:
        raise ConfigurationError(f"client_secret_file {file} has no secret in its first line")
    return lines[0]


@implementer(IAuthenticator)
class OIDCAuthenticator:
    """Sends the browser to the provider, and believes what that has signed."""

    def __init__(
        self, settings: Settings, provider: Provider, seconds: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._seconds = seconds

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who it is to the provider.

        Raises: LoginRejected: the provider, or what it says, lets the user not in.
        Raises: BackendFailed: the provider does not do its work.
        """
        login = _Login(self._settings, self._provider, self._seconds, dialogue)
        found = await dialogue.ask(BrowserVisit(login.serve, BrowserKind(self._settings.browser)))
        if not isinstance(found, Identity):
            raise LoginRejected("the client does not log in with a browser")
        return found


class _Login:
    """One login: its secrets are its own, and are good once."""

    def __init__(
        self,
        settings: Settings,
        provider: Provider,
        seconds: Callable[[], float],
        dialogue: IDialogue,
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._seconds = seconds
        self._redirect_uri = dialogue.request.origin + REDIRECT_PATH
        self._known = dialogue.identity.user if dialogue.identity is not None else ""
        self._nonce = secrets.token_urlsafe(_SECRET_BYTES)
        self._verifier = secrets.token_urlsafe(_SECRET_BYTES)
        self._is_back = False

    async def serve(self, request: PageRequest) -> Page:
        """The way to the provider, and what it brings back."""
        if request.path == _START_PATH and request.method == "GET":
            return Redirect(await self._way_there(request.handle))
        if request.path != REDIRECT_PATH or request.method != "GET":
            return HTMLPage("<!DOCTYPE html><title>VPN</title><p>There is nothing here.</p>", 404)
        if self._is_back:
            raise LoginRejected("the browser comes back from the provider a second time")
        self._is_back = True
        return LoggedIn(await self._way_back(request.query))

    async def _way_there(self, state: str) -> str:
        own = self._settings
        challenge = urlsafe_b64encode(sha256(self._verifier.encode("ascii")).digest())
        asked = {
            "response_type": "code",
            "client_id": own.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(own.scopes),
            "state": state,
            "nonce": self._nonce,
            "code_challenge": challenge.rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
            "prompt": own.prompt,
            "max_age": "" if own.max_age_s is None else str(own.max_age_s),
            "acr_values": " ".join(own.acr_values),
            "login_hint": self._known,
        }
        endpoint = (await self._provider.description()).authorization_endpoint
        query = urlencode({name: text for name, text in asked.items() if text})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def _way_back(self, query: Mapping[str, str]) -> Identity:
        description = await self._provider.description()
        issuer = query.get("iss", "" if description.names_itself else self._settings.issuer)
        if issuer != self._settings.issuer:
            raise LoginRejected(f"the browser comes back from {_shown(issuer) or 'nowhere'}")
        if "error" in query:
            why = _shown(f"{query['error']} {query.get('error_description', '')}")
            if query["error"] in _TEMPORARY_ERRORS:
                raise BackendFailed(f"the provider cannot let anybody in: {why}")
            raise LoginRejected(f"the provider lets the user not in: {why}")
        code = query.get("code", "")
        if not code or len(code) > _LONGEST_CODE:
            raise LoginRejected("the browser comes back from the provider without a code")
        tokens = await self._provider.redeem(code, self._verifier, self._redirect_uri)
        claims = await self._believed(tokens.id_token, tokens.access_token)
        return self._identity(await self._completed(claims, tokens.access_token))

    async def _believed(self, id_token: str, access_token: str) -> Claims:
        own = self._settings
        expected = Expectations(
            own.issuer,
            own.client_id,
            self._nonce,
            own.clock_skew_s,
            own.max_age_s,
            own.acr_values,
        )
        try:
            header = read_header(id_token, own.algorithms)
            claims = verified_claims(id_token, header, await self._provider.keys_for(header))
            check_claims(claims, expected, self._seconds())
            check_access_token(claims, header, access_token)
        except TokenRefused as error:
            raise LoginRejected(f"the provider's ID token is not to be believed: {error}") from None
        return claims

    async def _completed(self, claims: Claims, access_token: str) -> Claims:
        """With what the provider says elsewhere, when the token does not say all that is wanted."""
        own = self._settings
        wanted = filter(None, (own.user_claim, own.groups_claim, *own.attributes))
        if all(_find(claims, name) is not None for name in wanted):
            return claims
        more = await self._provider.user_claims(access_token)
        if more and subject(more) != subject(claims):
            raise LoginRejected("the provider's user information is about somebody else")
        return {**more, **claims}

    def _identity(self, claims: Claims) -> Identity:
        own = self._settings
        user = _find(claims, own.user_claim)
        if not isinstance(user, str) or not 0 < len(user) <= _LONGEST_NAME:
            raise LoginRejected(f"the provider gives no name as {own.user_claim}")
        if not user.isprintable():
            raise LoginRejected(f"the provider gives what is no name: {_shown(user)}")
        if own.user_claim == "email" and claims.get("email_verified", True) is not True:
            raise LoginRejected(f"the provider has not verified the address {user}")
        groups = _texts(_find(claims, own.groups_claim)) if own.groups_claim else ()
        kept = {name: _texts(_find(claims, name)) for name in own.attributes}
        attributes = {name: texts for name, texts in kept.items() if texts}
        return Identity(user, frozenset(groups), MappingProxyType(attributes))


def _find(claims: Claims, name: str) -> Any:
    """A claim by its name, dots and all, or by the way to it."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(found: Any) -> tuple[str, ...]:
    """One text or several; what is neither text nor number is left out."""
    each = found if isinstance(found, list) else [found]
    texts = (
        str(one).lower() if isinstance(one, bool) else str(one)
        for one in each
        if isinstance(one, str | int | float)
    )
    return tuple(text for text in texts if text and text.isprintable())


def _shown(text: str) -> str:
    return printable(text)[:200]
