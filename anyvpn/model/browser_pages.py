"""What the user's browser asks of an authenticator in the middle of a login, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvpn.model.authentication import Identity

# From the protocol (protocol reference, section 2.8): the second one holds Cisco's own names
PAGE_TREES = ("/sso/", "/+CSCOE+/saml/")
"""Authenticators serve what lies below these paths; browsers begin at "/sso/login"."""

HANDLE_PARAMETERS = ("ctx", "state", "RelayState")
"""One of these, in query or form, holds the handle. The last two are what identity providers bring
back as they got it: those of OpenID Connect, and those of SAML."""


class BrowserKind(Enum):
    """Which browser a login is to use."""

    AUTO = "auto"
    """The one that the client can start: the desktop's own if it can, or else the embedded one."""

    EMBEDDED = "embedded"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One GET or POST of the browser.

    `handle` says which login it is of, to be carried along in links, forms and redirects; nobody
    can guess it, and it is good for this login only. No parameter comes twice.
    """

    method: str
    path: str
    handle: str = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Sends the browser elsewhere: to an https address."""

    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HTMLPage:
    """Shows a whole HTML document, without scripts; its forms go to the gateway only."""

    html: str = field(repr=False)
    status: int = 200


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The browser's part is done, and this is who it was.

    The gateway makes a token and sends the browser home with it; whoever brings it back is in.
    """

    identity: Identity


Page = Redirect | HTMLPage | LoggedIn
