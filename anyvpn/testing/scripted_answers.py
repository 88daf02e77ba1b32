"""What a scripted gateway answers: the usual documents, and whatever is wrong with an answer.

An answer is bytes and a way of sending them; every function here gives one, or one from one:

    form("username", "password")                    a login form
    slowly(form("username"), pause_s=0.05)          the same, a byte at a time
    cut(form("username"), after_bytes=20)           the first 20 bytes, then the connection is gone
    endlessly(b"HTTP/1.1 200 OK\\r\\n", b"X-More: 1\\r\\n")    a head without an end

Source: protocol reference, sections 2.1, 3.2, 3.13, 6 and 8.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha1

from anyvpn.model.authentication import (
    Field,
    Form,
    GatewayMessage,
    LoginComplete,
    LoginRefused,
    LoginStep,
    LogoutComplete,
    Manifest,
)
from anyvpn.wire.authentication import write_gateway_message

Header = tuple[str, str | bytes]

# From the protocol
_XML = ("Content-Type", "text/xml; charset=utf-8")
_SECRET_NAMES = ("password", "answer", "pin")
_REASONS = {200: "OK", 302: "Found", 401: "Unauthorized", 404: "Not Found", 503: "Unavailable"}

# Ours
TOKEN = "token-of-the-script"
PIECE_BYTES = 4096
USUAL_GRANT: tuple[Header, ...] = (
    ("X-CSTP-Version", "1"),
    ("X-CSTP-Address", "192.0.2.100"),
    ("X-CSTP-Netmask", "255.255.255.255"),
    ("X-CSTP-MTU", "1400"),
    ("X-CSTP-DPD", "30"),
    ("X-CSTP-Keepalive", "20"),
    ("X-CSTP-Split-Include", "192.0.2.0/255.255.255.0"),
    ("X-CSTP-Rekey-Method", "none"),
)
"""What `grant` says unless it is told otherwise: IPv4, one route, no DTLS."""


class Ending(Enum):
    """What becomes of the connection when an answer is sent."""

    KEEP = "kept for the next request"
    CLOSE = "closed, as TLS has it"
    CUT = "closed without a word in TLS"
    RESET = "reset"
    HANG = "kept, without another word"
    TUNNEL = "handed to whoever waits for the tunnel"


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """Bytes, and how they go out.

    `repeated` follows `data` again and again for as long as the client takes it. With a `pause_s`
    there are `piece_bytes` at a time, and so long between them.
    """

    data: bytes = field(repr=False)
    ending: Ending = Ending.KEEP
    repeated: bytes = field(default=b"", repr=False)
    pause_s: float = 0.0
    piece_bytes: int = PIECE_BYTES
    changes_certificate: bool = False
    """Whether connections after this answer are shown the gateway's other certificate."""


# --- any answer at all ---------------------------------------------------------------------------


def raw(data: bytes, ending: Ending = Ending.CLOSE) -> ScriptedAnswer:
    """These bytes, whether they are HTTP or not."""
    return ScriptedAnswer(data, ending)


def page(
    body: bytes = b"",
    *headers: Header,
    status: int = 200,
    reason: str | None = None,
    content_length: int | None = None,
) -> ScriptedAnswer:
    """An answer with a body; `content_length` is what the head says of it, if that is a lie."""
    length = len(body) if content_length is None else content_length
    words = _REASONS.get(status, "") if reason is None else reason
    return ScriptedAnswer(
        head(f"HTTP/1.1 {status} {words}", *headers, ("Content-Length", str(length))) + body
    )


def head(first_line: str, *headers: Header) -> bytes:
    """The head of an answer, with the empty line; texts are UTF-8, bytes go out as they are."""
    lines = [first_line.encode()]
    for name, value in headers:
        lines.append(name.encode() + b": " + (value.encode() if isinstance(value, str) else value))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def redirect(location: str, *headers: Header, status: int = 302) -> ScriptedAnswer:
    """Somewhere else."""
    return page(b"", ("Location", location), *headers, status=status)


def document(message: GatewayMessage, *headers: Header, version: int = 2) -> ScriptedAnswer:
    """One message of the aggregate authentication protocol."""
    return page(write_gateway_message(message, protocol_version=version), _XML, *headers)


# --- the usual conversation ------------------------------------------------------------------


def form(
    *names: str,
    message: str = "Please log in.",
    action: str = "/auth",
    error: str = "",
    version: int = 2,
) -> ScriptedAnswer:
    """Asks for text; what has a name as passwords have it is not shown while it is typed."""
    fields = tuple(
        Field(name, f"{name}:", secret=any(word in name for word in _SECRET_NAMES))
        for name in names or ("username", "password")
    )
    step = LoginStep(Form(message, fields, error=error), action=action)
    return document(step, version=version)


def refusal(error: str, *, version: int = 2) -> ScriptedAnswer:
    """An error with nothing to fill in."""
    return document(LoginRefused(error), version=version)


def success(
    *profiles: Manifest,
    token: str = TOKEN,
    session_id: str = "",
    banner: str = "",
    version: int = 2,
) -> ScriptedAnswer:
    """The session: the token as cookie and, in version 2, in the document.

    Clients log out at the end where they were given a `session_id`.
    """
    complete = LoginComplete(session_id, token, banner=banner, profiles=profiles)
    cookie = ("Set-Cookie", f"webvpn={token}; Secure; HttpOnly")
    return document(complete, cookie, version=version)


def logged_out() -> ScriptedAnswer:
    """What a logout is answered with."""
    return document(LogoutComplete())


def announce(path: str, content: bytes) -> Manifest:
    """The announcement of a client profile, for `success`; `page(content)` is the file."""
    return Manifest(path, sha1(content, usedforsecurity=False).hexdigest().upper())


def grant(*headers: Header, without: Sequence[str] = ()) -> ScriptedAnswer:
    """The answer to CONNECT, after which the connection is a tunnel.

    `headers` take the place of those of USUAL_GRANT that have the same name; those named in
    `without` are left out.
    """
    replaced = {name.lower() for name, _ in headers} | {name.lower() for name in without}
    usual = [each for each in USUAL_GRANT if each[0].lower() not in replaced]
    return ScriptedAnswer(head("HTTP/1.1 200 CONNECTED", *usual, *headers), Ending.TUNNEL)


# --- what may be wrong with an answer ------------------------------------------------------------


def slowly(answer: ScriptedAnswer, *, pause_s: float, piece_bytes: int = 1) -> ScriptedAnswer:
    """The same answer in small pieces with a pause before each."""
    return replace(answer, pause_s=pause_s, piece_bytes=piece_bytes)


def endlessly(start: bytes, repeated: bytes) -> ScriptedAnswer:
    """An answer that goes on for as long as anybody reads it."""
    return ScriptedAnswer(start, Ending.CLOSE, repeated)


def cut(
    answer: ScriptedAnswer, *, after_bytes: int | None = None, ending: Ending = Ending.CUT
) -> ScriptedAnswer:
    """As much of the answer; then the connection ends, or as `ending` says."""
    return replace(answer, data=answer.data[:after_bytes], ending=ending)


def changing_certificate(answer: ScriptedAnswer) -> ScriptedAnswer:
    """The answer, after which the gateway is another one, as far as TLS can tell.

    The connection is closed, so that there has to be another, unless it is a tunnel's.
    """
    ending = answer.ending if answer.ending is Ending.TUNNEL else Ending.CLOSE
    return replace(answer, ending=ending, changes_certificate=True)
