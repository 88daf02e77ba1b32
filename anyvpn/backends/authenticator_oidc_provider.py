"""An identity provider of OpenID Connect, as it describes itself (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote_plus, urlencode, urlsplit

from twisted.internet.defer import DeferredLock

from anyvpn.backends.authenticator_oidc_tokens import (
    Claims,
    Header,
    Key,
    fitting_keys,
    read_keys,
    read_object,
)
from anyvpn.backends.http_client import HTTPAnswer, HTTPClient, HTTPFailed
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.model.printable import printable

# From the protocol
DESCRIPTION_PATH = "/.well-known/openid-configuration"
_FORM = "application/x-www-form-urlencoded"

# Ours
KNOWN_TIME_S = 3600.0
"""How long a description and its keys are believed without asking again."""
KEYS_AGAIN_S = 60.0
"""How old they must be to be read again because a token names a key that is not among them."""

ClientAuthentication = Literal["auto", "basic", "post"]


@dataclass(frozen=True, slots=True)
class Registration:
    """Who we are to the provider; a public client has no secret."""

    client_id: str
    secret: str = field(repr=False)
    authentication: ClientAuthentication = "auto"


@dataclass(frozen=True, slots=True)
class Description:
    """What a provider says of itself."""

    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str
    keys_url: str
    token_authentication: tuple[str, ...]
    names_itself: bool
    """Whether its answers through the browser say who it is (RFC 9207)."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A description and its keys, as they were at a moment."""

    description: Description
    keys: tuple[Key, ...]
    at_s: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a code was redeemed for."""

    id_token: str = field(repr=False)
    access_token: str = field(repr=False)


class Provider:
    """Asks the provider, and keeps its description and its keys for a while."""

    def __init__(
        self,
        http: HTTPClient,
        issuer: str,
        registration: Registration,
        seconds: Callable[[], float],
    ) -> None:
        self._http = http
        self._issuer = issuer
        self._registration = registration
        self._seconds = seconds
        self._lock = DeferredLock()
        self._known: _Known | None = None
        self._failures = 0
        self._failure = ""

    async def description(self) -> Description:
        """What it says of itself. Raises: BackendFailed."""
        return (await self._what_is_known()).description

    async def keys_for(self, header: Header) -> tuple[Key, ...]:
        """The keys that may have signed this; read again when there are none, but not often.

        Raises: BackendFailed.
        """
        known = await self._what_is_known()
        if not fitting_keys(known.keys, header):
            known = await self._what_is_known(KEYS_AGAIN_S)
        return fitting_keys(known.keys, header)

    async def redeem(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        """The tokens for a code.

        Raises: LoginRejected: it is not a code of this login, or was used.
        Raises: BackendFailed.
        """
        description = await self.description()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": _FORM, "Accept": "application/json"}
        headers |= self._proof(description, form)
        url = description.token_endpoint
        answer = await self._ask("POST", url, headers, urlencode(form).encode("ascii"))
        if answer.status != 200:
            raise _refusal(answer, url)
        found = _read(answer, url)
        id_token, access_token = found.get("id_token"), found.get("access_token", "")
        if not isinstance(id_token, str):
            raise BackendFailed(f"{url} gives no ID token; is the scope openid allowed?")
        if not isinstance(access_token, str) or not _is_header_text(access_token):
            raise BackendFailed(f"{url} gives an access token that is none")
        return Tokens(id_token, access_token)

    async def user_claims(self, access_token: str) -> Claims:
        """What it says of the user besides; nothing when there is nobody to ask.

        Raises: BackendFailed.
        """
        url = (await self.description()).userinfo_endpoint
        if not url or not access_token:
            return {}
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        return _read(await self._ask("GET", url, headers), url)

    # --- within ---------------------------------------------------------------------------

    async def _what_is_known(self, longest_s: float = KNOWN_TIME_S) -> _Known:
        """Not older than this; all logins that want to know at once ask once, and fail at once."""
        failures = self._failures
        async with self._lock:
            if self._known is not None and self._seconds() - self._known.at_s <= longest_s:
                return self._known
            if self._failures != failures:  # of whoever has asked while this one waited
                raise BackendFailed(self._failure)
            try:
                description = await self._describe()
                keys = await self._read_keys(description.keys_url)
            except BackendFailed as error:
                self._failures += 1
                self._failure = str(error)
                raise
            self._known = _Known(description, keys, self._seconds())
            return self._known

    async def _describe(self) -> Description:
        url = self._issuer.rstrip("/") + DESCRIPTION_PATH
        found = _read(await self._ask("GET", url), url)
        if found.get("issuer") != self._issuer:
            named = printable(str(found.get("issuer")))[:200]
            raise BackendFailed(f"{url} is of the issuer {named}, which is not the configured one")
        methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Description(
            authorization_endpoint=_endpoint(found, "authorization_endpoint", url),
            token_endpoint=_endpoint(found, "token_endpoint", url),
            userinfo_endpoint=_endpoint(found, "userinfo_endpoint", url, optional=True),
            keys_url=_endpoint(found, "jwks_uri", url),
            token_authentication=tuple(methods) if isinstance(methods, list) else (),
            names_itself=found.get("authorization_response_iss_parameter_supported") is True,
        )

    async def _read_keys(self, url: str) -> tuple[Key, ...]:
        answer = await self._ask("GET", url)
        if answer.status != 200:
            raise BackendFailed(f"{url} answers with HTTP status {answer.status}")
        try:
            return read_keys(answer.body)
        except ValueError as error:
            raise BackendFailed(f"{url} answers with what is no key set: {error}") from None

    def _proof(self, description: Description, form: dict[str, str]) -> dict[str, str]:
        """What proves who we are: headers, or more fields of the form."""
        own = self._registration
        supported = description.token_authentication
        by_form = own.authentication == "post" or (
            own.authentication == "auto"
            and "client_secret_basic" not in supported
            and "client_secret_post" in supported
        )
        if own.secret and not by_form:
            pair = f"{quote_plus(own.client_id)}:{quote_plus(own.secret)}".encode("ascii")
            return {"Authorization": "Basic " + b64encode(pair).decode("ascii")}
        form["client_id"] = own.client_id
        if own.secret:
            form["client_secret"] = own.secret
        return {}

    async def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HTTPAnswer:
        try:
            return await self._http.ask(method, url, headers, body)
        except HTTPFailed as error:
            raise BackendFailed(f"the identity provider is of no use: {error}") from None


def is_safe(url: str) -> bool:
    """Whether it is an address that is asked over TLS only."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is read to see whether it can be
    except ValueError:
        return False
    return (
        _is_header_text(url)
        and parts.scheme == "https"
        and bool(parts.hostname)
        and not parts.fragment
    )


def _is_header_text(text: str) -> bool:
    """Whether it can stand in a header, and looks the same to everybody."""
    return text.isascii() and text.isprintable() and " " not in text


def _endpoint(found: Mapping[str, Any], name: str, url: str, *, optional: bool = False) -> str:
    value = found.get(name, "" if optional else None)
    if value == "" and optional:
        return ""
    if not isinstance(value, str) or not is_safe(value):
        raise BackendFailed(f"{url} names no https address as {name}")
    return value


def _read(answer: HTTPAnswer, url: str) -> dict[str, Any]:
    if answer.status != 200:
        raise BackendFailed(f"{url} answers with HTTP status {answer.status}")
    try:
        return read_object(answer.body)
    except ValueError:
        raise BackendFailed(f"{url} answers with what is no JSON object") from None


def _refusal(answer: HTTPAnswer, url: str) -> Exception:
    try:
        found = read_object(answer.body)
    except ValueError:
        found = {}
    said = [found.get(name) for name in ("error", "error_description")]
    why = printable(": ".join(each for each in said if isinstance(each, str)))[:200]
    if found.get("error") == "invalid_grant":
        return LoginRejected(f"the provider does not take the code: {why}")
    return BackendFailed(f"{url} answers with HTTP status {answer.status} {why}".rstrip())
