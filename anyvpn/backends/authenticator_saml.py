"""Lets an identity provider log users in with their browser, by SAML 2.0."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

import attrs
from zope.interface import implementer

from anyvpn.backends.authenticator_saml_documents import read_answer
from anyvpn.backends.authenticator_saml_metadata import WatchedProvider
from anyvpn.backends.authenticator_saml_service import Keys, ServiceProvider
from anyvpn.backends.authenticator_saml_statements import Expected, Statement, read_statement
from anyvpn.backends.worker_threads import ThreadsReactor, WorkerThreads
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue, IPublisher
from anyvpn.model.authentication import BrowserVisit, Identity
from anyvpn.model.browser_address import browser_origin
from anyvpn.model.browser_pages import (
    PAGE_TREES,
    BrowserKind,
    HTMLPage,
    LoggedIn,
    Page,
    PageRequest,
    Redirect,
)
from anyvpn.model.credentials import LONGEST_INPUT_CHARACTERS, read_name
from anyvpn.model.downloads import Download

_Result = TypeVar("_Result")

# From the protocol: Cisco's gateways take answers there (observed: ASA)
ACS_PATH = "/+CSCOE+/saml/sp/acs"
METADATA_PATH = "/+CSCOE+/saml/sp/metadata"
_METADATA_TYPE = "application/samlmetadata+xml"

# Ours
MOST_THREADS = 64
MOST_WAITING = 1024
SESSION_TIMEOUT = "SAML-Session-Timeout"
"""The attribute that says for how many seconds the login lasts at the identity provider."""
_REQUEST_BYTES = 20  # SAML 2.0 core, section 1.3.4, wants 16 at least
LONGEST_SKEW_S = 600.0
_NOT_HERE = "<!DOCTYPE html><title>VPN</title><p>There is nothing here.</p>\n"


def _help(text: str, example: object = None) -> dict[str, object]:
    return {"help": text} if example is None else {"help": text, "example": example}


@attrs.frozen
class Settings:
    """The identity provider, how it knows us, and what is taken from its answers."""

    idp_metadata: Path = attrs.field(
        metadata=_help("File with the identity provider's metadata.", "idp-metadata.xml")
    )
    origin: str = attrs.field(
        metadata=_help("Where browsers find this gateway.", "https://vpn.example.com")
    )
    idp: str = attrs.field(
        default="", metadata=_help("Which entity of the metadata, if it describes several.")
    )
    entity_id: str = attrs.field(
        default="", metadata=_help("Our name; the address of our metadata unless set.")
    )
    signing_key: Path | None = attrs.field(
        default=None, metadata=_help("RSA key (PEM) to sign requests with; none: they are not.")
    )
    signing_certificate: Path | None = attrs.field(
        default=None, metadata=_help("The certificate of this key (PEM).")
    )
    user_attribute: str = attrs.field(
        default="", metadata=_help("Attribute with the user's name; none: it is the NameID.", "uid")
    )
    groups_attribute: str = attrs.field(
        default="", metadata=_help("Attribute whose values are the user's groups.", "memberOf")
    )
    attributes: tuple[str, ...] = attrs.field(
        default=(), metadata=_help("Attributes that the identity keeps.", ("mail",))
    )
    name_id_format: str = attrs.field(
        default="",
        metadata=_help(
            "Kind of NameID to ask for.", "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
        ),
    )
    force_authn: bool = attrs.field(
        default=False,
        metadata=_help("Whether users must log in anew, even when they just have elsewhere."),
    )
    browser: Literal["auto", "embedded", "external"] = attrs.field(
        default="auto", metadata=_help("The client's own browser, the desktop's, or what it has.")
    )
    clock_skew_s: float = attrs.field(
        default=60.0, metadata=_help("How far clocks may be apart, in seconds.")
    )
    time_s: float = attrs.field(
        default=10.0, metadata=_help("How long xmlsec1 may take for one signature, in seconds.")
    )
    max_parallel: int = attrs.field(
        default=4, metadata=_help("Answers checked at a time, each in a thread.")
    )

    def __attrs_post_init__(self) -> None:
        if not browser_origin(self.origin).startswith("https:") or self.origin.count("/") != 2:
            raise ValueError('origin must be an address such as "https://vpn.example.com"')
        if (self.signing_key is None) != (self.signing_certificate is None):
            raise ValueError("signing_key and signing_certificate go together")
        if not 0 <= self.clock_skew_s <= LONGEST_SKEW_S:
            raise ValueError(f"clock_skew_s must lie between 0 and {LONGEST_SKEW_S:g}")
        if not 0 < self.time_s <= 120:
            raise ValueError("time_s must be more than 0 and at most 120")
        if not 1 <= self.max_parallel <= MOST_THREADS:
            raise ValueError(f"max_parallel must lie between 1 and {MOST_THREADS}")


def build(
    settings: Settings, reactor: ThreadsReactor, seconds: Callable[[], float] = time.time
) -> SAMLAuthenticator:
    """What the configuration `backend = "saml"` makes. Raises: ConfigurationError."""
    program = shutil.which("xmlsec1")
    if program is None:
        raise ConfigurationError("the program xmlsec1 is missing: apt-get install xmlsec1")
    key, certificate = settings.signing_key, settings.signing_certificate
    service = ServiceProvider(
        Path(program),
        entity_id=entity_id(settings),
        acs_url=settings.origin + ACS_PATH,
        keys=None if key is None or certificate is None else Keys(key, certificate),
        name_id_format=settings.name_id_format,
        force_authn=settings.force_authn,
        time_s=settings.time_s,
    )
    provider = WatchedProvider(settings.idp_metadata, settings.idp, signs=key is not None)
    return SAMLAuthenticator(settings, provider, service, reactor, seconds)


@implementer(IAuthenticator, IPublisher)
class SAMLAuthenticator:
    """Sends the browser to the identity provider, and believes what it signs."""

    def __init__(
        self,
        settings: Settings,
        provider: WatchedProvider,
        service: ServiceProvider,
        reactor: ThreadsReactor,
        seconds: Callable[[], float],
    ) -> None:
        self.documents = {metadata_path(settings): Download(_METADATA_TYPE, service.metadata())}
        self._settings = settings
        self._provider = provider
        self._service = service
        self._seconds = seconds
        self._used: dict[str, float] = {}
        self._threads = WorkerThreads(
            "answers of browsers", reactor, most=settings.max_parallel, most_waiting=MOST_WAITING
        )

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who it is to the identity provider.

        Raises: LoginRejected: it says no, or its answer is not one to believe.
        Raises: BackendFailed: the answer could not be checked.
        """
        visit = _Visit(self, self._seconds)
        found = await dialogue.ask(BrowserVisit(visit.serve, BrowserKind(self._settings.browser)))
        if not isinstance(found, Identity):
            raise BackendFailed(f"the browser's visit gave {type(found).__name__}")
        return found

    def close(self) -> None:
        """End the threads, after the answers that they are at; nobody can log in any more."""
        self._threads.close()

    async def login_address(self, request_id: str, handle: str) -> str:
        """Where the browser is sent. Raises: BackendFailed."""
        return await self._threads.run(
            lambda: self._service.login_address(self._provider.current(), request_id, handle)
        )

    async def identify(self, encoded: str, request: _Sent) -> Identity:
        """Who an answer to that request speaks of. Raises: LoginRejected, BackendFailed."""
        statement = await self._threads.run(lambda: self._read(encoded, request))
        self._use_up(statement)
        return self._identity(statement)

    def _read(self, encoded: str, request: _Sent) -> Statement:
        own, provider = self._settings, self._provider.current()
        answer = read_answer(encoded)
        self._service.check_signatures(answer, provider)
        expected = Expected(
            request_id=request.identifier,
            issuer=provider.entity_id,
            audience=entity_id(own),
            recipient=own.origin + ACS_PATH,
            asked_at_s=request.at_s,
            now_s=self._seconds(),
            skew_s=own.clock_skew_s,
            fresh=own.force_authn,
        )
        return read_statement(answer, expected)

    def _use_up(self, statement: Statement) -> None:
        """Each assertion is good once, for as long as it is good at all."""
        now_s = self._seconds()
        self._used = {each: until for each, until in self._used.items() if until > now_s}
        if statement.assertion_id in self._used:
            raise LoginRejected("the assertion has been used before")
        self._used[statement.assertion_id] = statement.good_until_s

    def _identity(self, statement: Statement) -> Identity:
        own, attributes = self._settings, statement.attributes
        name = statement.name_id
        if own.user_attribute:
            values = attributes.get(own.user_attribute, ())
            if len(values) != 1:
                count = len(values)
                raise LoginRejected(f"the assertion has {count} values of {own.user_attribute}")
            name = values[0]
        if len(name) > LONGEST_INPUT_CHARACTERS:
            raise LoginRejected(f"the name has more than {LONGEST_INPUT_CHARACTERS} characters")
        kept = {key: attributes[key] for key in own.attributes if key in attributes}
        if statement.ends_at_s is not None:
            left_s = max(1, int(statement.ends_at_s - self._seconds()))
            kept[SESSION_TIMEOUT] = (str(left_s),)
        return Identity(
            read_name(name),
            frozenset(attributes.get(own.groups_attribute, ())),
            MappingProxyType(kept),
        )


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request that the browser was sent away with."""

    identifier: str
    at_s: float


class _Visit:
    """One login's browser: on its way to the identity provider, and back."""

    def __init__(self, authenticator: SAMLAuthenticator, seconds: Callable[[], float]) -> None:
        self._authenticator = authenticator
        self._seconds = seconds
        self._sent: _Sent | None = None

    async def serve(self, asked: PageRequest) -> Page:
        """Send it away with a new request; only the answer to the newest is good."""
        if asked.path == ACS_PATH and asked.method == "POST":
            sent, self._sent = self._sent, None
            if sent is None:
                raise LoginRejected("the browser brings an answer that nobody has asked for")
            encoded = asked.form.get("SAMLResponse", "")
            return LoggedIn(await self._authenticator.identify(encoded, sent))
        if asked.path == ACS_PATH or asked.method != "GET":
            return HTMLPage(_NOT_HERE, 404)
        self._sent = _Sent(f"_{secrets.token_hex(_REQUEST_BYTES)}", self._seconds())
        address = self._authenticator.login_address(self._sent.identifier, asked.handle)
        return Redirect(await address)


def metadata_path(settings: Settings) -> str:
    """Where our metadata stands: at the address that our name is, if that is one of our pages."""
    path = settings.entity_id.removeprefix(settings.origin)
    return path if path.startswith(PAGE_TREES) else METADATA_PATH


def entity_id(settings: Settings) -> str:
    """Our name for identity providers."""
    return settings.entity_id or settings.origin + METADATA_PATH
