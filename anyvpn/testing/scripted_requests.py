"""What a scripted client sends: the usual requests, and whatever is wrong with one.

Everything here is bytes, so a test may cut, change and repeat it at will:

    http_request("POST", "/", init())           a whole request
    http_request("POST", "/", init())[:80]      the beginning of one
    reply(step, {"username": "alice"}).replace(b"<opaque", b"<forged")
    lying_frame(0, packet, length=9000)         a CSTP frame that says more than there is

Source: protocol reference, sections 2.1, 3.2, 8.1 and 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from anyvpn.model.authentication import (
    ClientDescription,
    ClientMessage,
    ClientMessageKind,
    LoginStep,
    Opaque,
)
from anyvpn.model.tunnel_settings import TunnelOffer
from anyvpn.testing.scripted_answers import Header, head
from anyvpn.wire.authentication import write_client_message
from anyvpn.wire.cstp import MAGIC
from anyvpn.wire.tunnel_offer import write_offer

# Ours
CLIENT = ClientDescription(
    user_agent="AnyConnect Linux_64 scripted", version="scripted", platform="linux-64"
)


def http_request(
    method: str,
    path: str,
    body: bytes = b"",
    *headers: Header,
    host: str = "gateway",
    content_length: int | None = None,
) -> bytes:
    """A request; `content_length` is what the head says of the body, if that is a lie."""
    length = len(body) if content_length is None else content_length
    usual: list[Header] = [
        ("Host", host),
        ("User-Agent", CLIENT.user_agent),
        ("X-Transcend-Version", "1"),
        ("X-Aggregate-Auth", "1"),
    ]
    if body or content_length is not None:
        usual += [
            ("Content-Type", "application/xml; charset=utf-8"),
            ("Content-Length", str(length)),
        ]
    return head(f"{method} {path} HTTP/1.1", *_laid_over(usual, headers)) + body


def init(*, group: str = "", url: str = "") -> bytes:
    """The first document of a login; `url` is what the client calls the gateway by."""
    return write_client_message(
        ClientMessage(ClientMessageKind.INIT, client=CLIENT, group_select=group, group_access=url)
    )


def reply(
    step: LoginStep | None, answers: Mapping[str, str], *, group: str = "", opaque: bytes = b""
) -> bytes:
    """The answer to a step, by field, with the step's own note unless an `opaque` is given."""
    noted = step.opaque if step is not None else None
    if opaque:
        noted = Opaque(document=opaque)
    return write_client_message(
        ClientMessage(
            ClientMessageKind.REPLY,
            client=CLIENT,
            group_select=group,
            opaque=noted,
            answers=MappingProxyType(dict(answers)),
        )
    )


def logout(*, token: str, session_id: str = "") -> bytes:
    """The end of a session."""
    return write_client_message(
        ClientMessage(
            ClientMessageKind.LOGOUT, client=CLIENT, session_id=session_id, session_token=token
        )
    )


def offer(
    token: str, *headers: Header, without: Sequence[str] = (), dtls_secret: bytes = b""
) -> list[Header]:
    """The headers of a CONNECT.

    `headers` take the place of the usual ones of the same name; those named in `without` are
    left out. With a `dtls_secret` there may be a DTLS channel.
    """
    usual = TunnelOffer(
        token=token,
        hostname="scripted",
        client=CLIENT,
        base_mtu_bytes=1500,
        mtu_bytes=1400,
        address_families=frozenset((4, 6)),
        full_ipv6=True,
        dtls_master_secret=dtls_secret,
        dtls12_suites=("AES256-GCM-SHA384", "AES128-GCM-SHA256") if dtls_secret else (),
    )
    written: list[Header] = [
        (name.decode("ascii"), value) for name, value in write_offer(usual, "gateway")
    ]
    return _laid_over(written, headers, without)


def lying_frame(kind: int, payload: bytes, *, length: int, magic: bytes = MAGIC) -> bytes:
    """A CSTP frame whose header says another length, or begins with something else."""
    return magic + length.to_bytes(2, "big") + bytes((kind, 0)) + payload


def _laid_over(
    usual: Iterable[Header], headers: Iterable[Header], without: Iterable[str] = ()
) -> list[Header]:
    given = list(headers)
    replaced = {name.lower() for name, _ in given} | {name.lower() for name in without}
    return [*(each for each in usual if each[0].lower() not in replaced), *given]
