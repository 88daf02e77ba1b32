"""What people may see of a conversation with a gateway: everything but its secrets."""

from __future__ import annotations

import re
from urllib.parse import unquote

from anyvpn.client.http_connection import Headers

MASK = "***"

_SECRET_HEADERS = re.compile(
    rb"(?i)cookie|set-cookie|x-dtls-master-secret|x-dtls-session-id|x-dtls-app-id|authorization"
)
_COOKIE_VALUE = re.compile(r"=[^;&\s]+")
_HARMLESS_ANSWERS = frozenset({"username", "secondary_username", "group_list"})
_AUTH = re.compile(r"<auth>.*?</auth>|<auth\b[^>]*>.*?</auth>", re.DOTALL)
_ELEMENT = re.compile(r"<([A-Za-z_][\w.-]*)([^>]*)>((?:<!\[CDATA\[.*?\]\]>|[^<])+)</\1>", re.DOTALL)
_SECRET_ELEMENT = re.compile(
    r"<(session-token|aggauth-handle|host-scan-token|host-scan-ticket|client-cert|"
    r"client-cert-auth-signature|random)\b([^>]*)>(?:<!\[CDATA\[.*?\]\]>|[^<])+</\1>",
    re.DOTALL,
)
_OPAQUE = re.compile(r"(<opaque\b[^>]*>).*?(</opaque>)", re.DOTALL)
_HIDDEN_VALUE = re.compile(r"""(<input\b[^>]*?\bvalue=)("[^"]*"|'[^']*')""")
_QUERY = re.compile(r"\?.*")


def masked_headers(headers: Headers) -> str:
    """One line each; cookies keep their names."""
    lines = []
    for name, value in headers:
        text = value.decode("latin-1")
        if name.lower() == b"location":
            text = _QUERY.sub(f"?{MASK}", text)
        elif name.lower() == b"x-cstp-post-auth-xml":
            text = masked_body(value, is_request=False)
        elif _SECRET_HEADERS.fullmatch(name):
            text = _COOKIE_VALUE.sub(f"={MASK}", text) if b"ookie" in name.lower() else MASK
        lines.append(f"{name.decode('latin-1')}: {text}")
    return "\n".join(lines)


def masked_body(body: bytes, *, is_request: bool) -> str:
    """A document or a form without passwords, tokens and keys."""
    text = body.decode("utf-8", "replace")
    if is_request and not text.lstrip("\ufeff \r\n\t").startswith("<"):
        return "&".join(_masked_pair(pair) for pair in text.split("&"))
    text = _SECRET_ELEMENT.sub(rf"<\1\2>{MASK}</\1>", text)
    text = _OPAQUE.sub(rf"\1{MASK}\2", text)
    if is_request:
        return _AUTH.sub(lambda found: _ELEMENT.sub(_masked_answer, found[0]), text)
    return _HIDDEN_VALUE.sub(rf'\1"{MASK}"', text)


def _masked_answer(found: re.Match[str]) -> str:
    name, attributes, text = found.groups()
    shown = text if name in _HARMLESS_ANSWERS else MASK
    return f"<{name}{attributes}>{shown}</{name}>"


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return pair if not equals or unquote(name) in _HARMLESS_ANSWERS else f"{name}={MASK}"
