"""Cookies of the authentication and of the downloader.

Source: protocol reference, section 2.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from anyvpn.errors import MalformedMessage
from anyvpn.model.downloads import DownloadHints

# From the protocol
SESSION_COOKIE = "webvpn"
LOGIN_COOKIE = "webvpncontext"
HINTS_COOKIE = "webvpnc"
_LONG_AGO = "Thu, 01 Jan 1970 22:00:00 GMT"  # as ocserv writes it

# Ours
_MAXIMUM_COOKIES = 64
_MAXIMUM_CHARACTERS = 16 * 1024

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x3a\x3c-\x7e]*")


def read_cookies(header_values: Iterable[str]) -> dict[str, str]:
    """Name to value out of a client's Cookie headers; the first of a name counts.

    Values stay as they are: nothing is URL-decoded. What is no cookie is passed over.

    Raises: MalformedMessage: more than anyone needs.
    """
    cookies: dict[str, str] = {}
    for header_value in header_values:
        if len(header_value) > _MAXIMUM_CHARACTERS:
            raise MalformedMessage("a Cookie header that is too long")
        for part in header_value.split(";"):
            name, equals, value = part.partition("=")
            name, value = name.strip(), value.strip()
            if not equals or not _is_cookie(name, value):
                continue
            cookies.setdefault(name, value)
            if len(cookies) > _MAXIMUM_COOKIES:
                raise MalformedMessage(f"more than {_MAXIMUM_COOKIES} cookies")
    return cookies


def write_cookies(cookies: dict[str, str]) -> str:
    """The value of a client's Cookie header.

    Raises: ValueError: a name or a value that no cookie can have.
    """
    return "; ".join(f"{name}={_checked(name, value)}" for name, value in cookies.items())


def read_set_cookie(header_value: str) -> tuple[str, str]:
    """Name and value of one Set-Cookie header; an empty value means: forget the cookie.

    Raises: MalformedMessage.
    """
    if len(header_value) > _MAXIMUM_CHARACTERS:
        raise MalformedMessage("a Set-Cookie header that is too long")
    pair, *attributes = header_value.split(";")
    name, equals, value = pair.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not _is_cookie(name, value):
        raise MalformedMessage("a Set-Cookie header without a cookie")
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        if key.strip().lower() == "max-age" and re.fullmatch(r"0+|-\d+", text.strip()):
            return name, ""
    return name, value


def write_set_cookie(
    name: str,
    value: str,
    *,
    max_age_s: int | None = None,
    path: str = "/",
    http_only: bool = True,
) -> str:
    """The value of a gateway's Set-Cookie header; an empty value deletes the cookie.

    `http_only` keeps it from scripts, and from what looks into an embedded browser as one.

    Raises: ValueError: a name or a value that no cookie can have.
    """
    parts = [f"{name}={_checked(name, value)}"]
    if not value:
        parts.append(f"expires={_LONG_AGO}")
    elif max_age_s is not None:
        parts.append(f"Max-Age={max_age_s}")
    if path:
        parts.append(f"path={path}")
    return "; ".join([*parts, "Secure", *(["HttpOnly"] if http_only else [])])


def read_webvpnc(value: str) -> DownloadHints:
    """What the cookie `webvpnc` tells; unknown parts are passed over.

    Raises: MalformedMessage.
    """
    if len(value) > _MAXIMUM_CHARACTERS:
        raise MalformedMessage("a webvpnc cookie that is too long")
    parts = {}
    for part in value.split("&"):
        key, _, text = part.partition(":")
        try:
            parts[key] = unquote(text, errors="strict")
        except UnicodeError:
            raise MalformedMessage("a webvpnc cookie that is not UTF-8") from None
        if not parts[key].isprintable():
            raise MalformedMessage("a webvpnc cookie with control characters")
    return DownloadHints(
        base_path=parts.get("bu", ""),
        packages_path=parts.get("iu", ""),
        server_cert_hash=parts.get("sh", "").upper(),
        translation_path=parts.get("lu", ""),
        profile_path=parts.get("fu", ""),
        profile_sha1=parts.get("fh", "").upper(),
    )


def write_webvpnc(hints: DownloadHints) -> str:
    """The value of the cookie `webvpnc`; a slash in the profile's path is encoded, as it is seen.

    Source: protocol reference, section 6 (observed: ocserv 1.1.6).
    """
    parts = [f"bu:{quote(hints.base_path)}", "p:t", f"iu:{quote(hints.packages_path)}"]
    parts.append(f"sh:{quote(hints.server_cert_hash)}")
    if hints.translation_path:
        parts.append(f"lu:{quote(hints.translation_path, safe='/+?')}")
    if hints.profile_path:
        parts.append(f"fu:{quote(hints.profile_path, safe='')}")
        parts.append(f"fh:{quote(hints.profile_sha1)}")
    return "&".join(parts)


def _is_cookie(name: str, value: str) -> bool:
    return _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def _checked(name: str, value: str) -> str:
    if not _is_cookie(name, value):
        raise ValueError(f"the cookie {name!r} has a name or a value that no cookie can have")
    return value
