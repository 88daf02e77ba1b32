"""What the headers of CONNECT and of its answer are made of: texts, numbers, names, lists.

Source: protocol reference, section 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from anyvpn.errors import MessageTooLarge
from anyvpn.model.group_policy import Address

Headers = Sequence[tuple[bytes, bytes]]

# From the protocol
PROTOCOL_TEXT: Final = "Copyright (c) 2004 Cisco Systems, Inc."  # some peers insist on it

# Ours
MOST_HEADERS: Final = 2048  # a thousand routes each way
MOST_BYTES: Final = 128 * 1024
_LONGEST_NUMBER_DIGITS: Final = 10
_LONGEST_DOMAIN_CHARACTERS: Final = 253

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NUMBER = re.compile(r"[0-9]+")
_NAME = re.compile(r"[A-Za-z0-9_+.-]{1,64}")
_HOSTNAME = re.compile(r"[A-Za-z0-9.-]{1,255}")
_DOMAIN = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_BETWEEN_DOMAINS = re.compile(r"[\s,;]+")


class ReceivedHeaders:
    """Headers by name, whatever their case; all values are one clean line of text."""

    def __init__(self, headers: Headers) -> None:
        """Raises MessageTooLarge."""
        if len(headers) > MOST_HEADERS:
            raise MessageTooLarge(f"{len(headers)} headers")
        if sum(len(name) + len(value) for name, value in headers) > MOST_BYTES:
            raise MessageTooLarge(f"more than {MOST_BYTES} bytes of headers")
        self.items = tuple(
            (name.decode("latin-1").strip(), _decoded(value)) for name, value in headers
        )
        self._values: dict[str, list[str]] = {}
        for name, value in self.items:
            self._values.setdefault(name.lower(), []).append(value)

    def all(self, name: str) -> list[str]:
        """The values of all headers of this name, in order."""
        return self._values.get(name.lower(), [])

    def first(self, name: str) -> str:
        """The first value of this name, "" when there is none."""
        values = self.all(name)
        return values[0] if values else ""

    def flag(self, name: str) -> bool:
        """Whether the first value says true."""
        return self.first(name).lower() == "true"


def header(name: str, value: object) -> tuple[bytes, bytes]:
    """One header to send, text in UTF-8: nothing in the value can begin another one."""
    return name.encode("ascii"), one_line(str(value)).encode("utf-8", "replace")


def one_line(text: str) -> str:
    """The text with a space for each run of control characters and line ends."""
    return _CONTROLS.sub(" ", text).strip()


def read_number(text: str, maximum: int) -> int | None:
    """A decimal number up to `maximum`, None for anything else."""
    if len(text) > _LONGEST_NUMBER_DIGITS or _NUMBER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= maximum else None


def read_names(text: str, separator: str, most: int) -> tuple[str, ...]:
    """Up to `most` suites or encodings of a list; what is no name is passed over."""
    names = (part.strip() for part in text.split(separator))
    return tuple(dict.fromkeys(name for name in names if _NAME.fullmatch(name)))[:most]


def is_name(text: str) -> bool:
    """Whether this can be a suite's or an encoding's name."""
    return _NAME.fullmatch(text) is not None


def read_hostname(text: str) -> str:
    """A host's name of letters, digits, hyphens and dots; "" for anything else."""
    return text if _HOSTNAME.fullmatch(text) else ""


def read_domains(texts: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The domains of several lists, each once, and what is no domain."""
    parts = [part for text in texts for part in _BETWEEN_DOMAINS.split(text) if part]
    domains = tuple(dict.fromkeys(part for part in parts if is_domain(part)))
    return domains, tuple(part for part in parts if not is_domain(part))


def is_domain(text: str) -> bool:
    """Whether this is a domain as DNS could have it; "*." may stand before it."""
    return len(text) <= _LONGEST_DOMAIN_CHARACTERS and _DOMAIN.fullmatch(text) is not None


def read_address(text: str) -> Address | None:
    """An address that a host can have, None for anything else."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None
    return address


def _decoded(value: bytes) -> str:
    """Text as peers send it: mostly ASCII, a banner in UTF-8 or in Latin-1."""
    try:
        return one_line(value.decode("utf-8"))
    except UnicodeDecodeError:
        return one_line(value.decode("latin-1"))
