"""One POST of a login, with what its connection knows, and the answer to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from anyvpn.model.authentication import ClientMessage


@dataclass(frozen=True, slots=True)
class LoginPost:
    """One POST, with what its connection knows.

    `certificates` are those that TLS verified; `certificate_problem` says why others were not
    accepted. `server_name` is the name of the TLS handshake, `host` the one of the request, and
    `origin` the same with scheme and port.
    """

    message: ClientMessage
    peer: str
    host: str = ""
    origin: str = ""
    server_name: str = ""
    path: str = "/"
    login_cookie: str = field(default="", repr=False)
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    certificate_problem: str = ""
    browser_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class LoginAnswer:
    """What to send: a document with its cookies, or a status that says it all."""

    status: int
    document: bytes = field(default=b"", repr=False)
    cookies: tuple[str, ...] = field(default=(), repr=False)
