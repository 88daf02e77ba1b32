"""The headers of CONNECT: what a client can do and would like.

Source: protocol reference, section 8.1.
"""

from __future__ import annotations

import re
from typing import Final

from anyvpn.errors import MalformedMessage
from anyvpn.model.authentication import ClientDescription
from anyvpn.model.group_policy import SMALLEST_MTU_BYTES, Address
from anyvpn.model.tunnel_settings import (
    DTLS12_SUITE_HEADER,
    DTLS_SUITE_HEADER,
    MASTER_SECRET_BYTES,
    TunnelOffer,
)
from anyvpn.wire.cookies import SESSION_COOKIE, read_cookies, write_cookies
from anyvpn.wire.tunnel_headers import (
    PROTOCOL_TEXT,
    Headers,
    ReceivedHeaders,
    header,
    read_address,
    read_hostname,
    read_names,
    read_number,
)

# From the protocol
_FAMILIES: Final = {"ipv4": 4, "ipv6": 6}
_IDENTIFIER: Final = "X-AnyConnect-Identifier-"

# Ours
_LARGEST_MTU_BYTES: Final = 0xFFFF
_MOST_ENCODINGS: Final = 8
_MOST_SUITES: Final = 64
_MOST_TEXT_CHARACTERS: Final = 256
_MOST_WISHES: Final = 8  # looked at; one of each family is taken

_MASTER_SECRET = re.compile(rf"[0-9A-Fa-f]{{{2 * MASTER_SECRET_BYTES}}}")


def read_offer(headers: Headers) -> TunnelOffer:
    """What the headers of a CONNECT offer; a value that makes no sense counts as absent.

    Names are compared without regard to case, of several headers that should be one the first
    counts. The token may be missing: answering that is the gateway's.

    Raises: MalformedMessage, MessageTooLarge: more than any client needs.
    """
    received = ReceivedHeaders(headers)
    secret = received.first("X-DTLS-Master-Secret")
    types = read_names(received.first("X-CSTP-Address-Type"), ",", _MOST_ENCODINGS)
    return TunnelOffer(
        token=read_cookies(received.all("Cookie")).get(SESSION_COOKIE, ""),
        hostname=read_hostname(received.first("X-CSTP-Hostname")),
        client=_read_client(received),
        encodings=_read_encodings(received.first("X-CSTP-Accept-Encoding")),
        dtls_encodings=_read_encodings(received.first("X-DTLS-Accept-Encoding")),
        base_mtu_bytes=_read_mtu(received.first("X-CSTP-Base-MTU")),
        mtu_bytes=_read_mtu(received.first("X-CSTP-MTU")),
        address_families=frozenset(
            _FAMILIES[each.lower()] for each in types if each.lower() in _FAMILIES
        ),
        full_ipv6=received.flag("X-CSTP-Full-IPv6-Capability"),
        wished_addresses=_read_wishes(received.all("X-CSTP-Address")),
        dtls_master_secret=bytes.fromhex(secret) if _MASTER_SECRET.fullmatch(secret) else b"",
        dtls_suites=read_names(received.first(DTLS_SUITE_HEADER), ":", _MOST_SUITES),
        dtls12_suites=read_names(received.first(DTLS12_SUITE_HEADER), ":", _MOST_SUITES),
        mobile_licence=received.first("X-CSTP-License").lower() == "mobile",
    )


def write_offer(offer: TunnelOffer, host: str) -> list[tuple[bytes, bytes]]:
    """The headers of a CONNECT to `host`, which names a port other than 443, as openconnect has it.

    Raises: MalformedMessage: the gateway gave a token that no cookie can carry.
    """
    try:
        cookie = write_cookies({SESSION_COOKIE: offer.token})
    except ValueError:
        raise MalformedMessage("a session token that no cookie can carry") from None
    headers = [
        header("Host", host),
        header("User-Agent", offer.client.user_agent),
        header("Cookie", cookie),
        header("X-CSTP-Version", "1"),
        *([header("X-CSTP-Hostname", offer.hostname)] if offer.hostname else []),
        header("X-CSTP-Protocol", PROTOCOL_TEXT),
        *identifier_headers(offer.client),
    ]
    families = [
        name for name, family in (("IPv6", 6), ("IPv4", 4)) if family in offer.address_families
    ]
    wishes = [("X-CSTP-Address", str(address)) for address in offer.wished_addresses]
    optional = [
        ("X-CSTP-Accept-Encoding", ",".join(offer.encodings)),
        ("X-CSTP-Base-MTU", str(offer.base_mtu_bytes or "")),
        ("X-CSTP-MTU", str(offer.mtu_bytes or "")),
        ("X-CSTP-Address-Type", ",".join(families)),
        *wishes,
        ("X-CSTP-Full-IPv6-Capability", "true" if offer.full_ipv6 else ""),
        ("X-CSTP-License", "mobile" if offer.mobile_licence else ""),
        ("X-DTLS-Master-Secret", offer.dtls_master_secret.hex().upper()),
        (DTLS_SUITE_HEADER, ":".join(offer.dtls_suites)),
        (DTLS12_SUITE_HEADER, ":".join(offer.dtls12_suites)),
        ("X-DTLS-Accept-Encoding", ",".join(offer.dtls_encodings)),
    ]
    return headers + [header(name, value) for name, value in optional if value]


def _read_client(received: ReceivedHeaders) -> ClientDescription:
    def text(name: str) -> str:
        return received.first(name)[:_MOST_TEXT_CHARACTERS]

    return ClientDescription(
        user_agent=text("User-Agent"),
        version=text(_IDENTIFIER + "ClientVersion"),
        platform=text(_IDENTIFIER + "Platform") or text("X-AnyConnect-Platform"),
        platform_version=text(_IDENTIFIER + "PlatformVersion"),
        device_type=text(_IDENTIFIER + "DeviceType"),
        unique_id=text(_IDENTIFIER + "Device-UniqueID"),
    )


def identifier_headers(client: ClientDescription) -> list[tuple[bytes, bytes]]:
    """The X-AnyConnect-Identifier- headers: only phones and tablets say so much of themselves."""
    if not client.is_mobile:
        return []
    return [
        header(_IDENTIFIER + "ClientVersion", client.version),
        header(_IDENTIFIER + "Platform", client.platform),
        header(_IDENTIFIER + "PlatformVersion", client.platform_version),
        header(_IDENTIFIER + "DeviceType", client.device_type),
        header(_IDENTIFIER + "Device-UniqueID", client.unique_id),
    ]


def _read_encodings(text: str) -> tuple[str, ...]:
    return read_names(text.lower(), ",", _MOST_ENCODINGS)


def _read_mtu(text: str) -> int:
    mtu_bytes = read_number(text, _LARGEST_MTU_BYTES)
    return mtu_bytes if mtu_bytes is not None and mtu_bytes >= SMALLEST_MTU_BYTES else 0


def _read_wishes(texts: list[str]) -> tuple[Address, ...]:
    wishes: dict[int, Address] = {}
    for text in texts[:_MOST_WISHES]:
        address = read_address(text)
        if address is not None:
            wishes.setdefault(address.version, address)
    return tuple(wishes.values())
