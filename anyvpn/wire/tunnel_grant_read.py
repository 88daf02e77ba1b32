"""The headers of the answer to CONNECT, as a client reads them.

What the tunnel's safety hangs on (addresses, routes, MTU, ids, encodings) must be right; the
rest is taken when it can be understood, and reported when it cannot.

Source: protocol reference, section 8.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from types import MappingProxyType
from typing import Final

from anyvpn.errors import MalformedMessage
from anyvpn.model.group_policy import PROXY_SETTINGS, SMALLEST_MTU_BYTES, Address, Network
from anyvpn.model.tunnel_settings import (
    DTLS12_SUITE_HEADER,
    DTLS_SESSION_ID_BYTES,
    DTLS_SUITE_HEADER,
    LARGEST_TUNNEL_MTU_BYTES,
    LONGEST_APP_ID_BYTES,
    REKEY_METHODS,
    DTLSGrant,
    Lease,
    TunnelSettings,
)
from anyvpn.wire.post_auth import read_post_auth
from anyvpn.wire.tunnel_grant_write import FIXED_FLAGS, LOCAL_LAN, OFF
from anyvpn.wire.tunnel_headers import (
    PROTOCOL_TEXT,
    Headers,
    ReceivedHeaders,
    is_name,
    read_address,
    read_domains,
    read_hostname,
    read_number,
)

# From the protocol
_PSK_SUITE: Final = "PSK-NEGOTIATE"
_ENCODINGS: Final = ("oc-lz4", "lzs", "deflate")
_DTLS_ENCODINGS: Final = ("oc-lz4", "lzs")

# Ours
_LONGEST_TIME_S: Final = 2**32 - 1
_LARGEST_LINK_MTU_BYTES: Final = 0xFFFF
_MOST_SERVERS: Final = 16  # DNS, NBNS
_MOST_ROUTES: Final = 2048
_MOST_DOMAINS: Final = 1024
_LONGEST_TEXT_CHARACTERS: Final = 4096

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_OTHER_HEADERS = re.compile(r"x-(?:cstp|dtls|dtls12)-", re.IGNORECASE)


def read_settings(headers: Headers) -> TunnelSettings:
    """What a gateway grants; X-CSTP- and X-DTLS- headers of no use here are in `other_headers`.

    Raises: MalformedMessage, MessageTooLarge.
    """
    return _Answer(ReceivedHeaders(headers)).settings()


class _Answer:
    """One answer while it is read: remembers which headers were understood."""

    def __init__(self, received: ReceivedHeaders) -> None:
        self._received = received
        self._understood = {"x-cstp-version", "x-cstp-post-auth-xml"}

    def settings(self) -> TunnelSettings:
        lease, full_ipv6 = self._lease()
        tunnel_mtu_bytes, dtls_mtu_bytes = self._mtu("X-CSTP-MTU"), self._mtu("X-DTLS-MTU")
        if not (tunnel_mtu_bytes or dtls_mtu_bytes):
            raise MalformedMessage("the gateway gives no MTU")
        excluded = self._all("X-CSTP-Split-Exclude")
        split_dns = self._domains("X-CSTP-Split-DNS")
        post_auth_xml = self._received.first("X-CSTP-Post-Auth-XML")
        include, exclude = read_post_auth(post_auth_xml) if post_auth_xml else ((), ())
        return TunnelSettings(
            lease=lease,
            mtu_bytes=tunnel_mtu_bytes or dtls_mtu_bytes,
            base_mtu_bytes=self._base_mtu(),
            hostname=read_hostname(self._text("X-CSTP-Hostname")),
            server_name=self._text("X-CSTP-Server-Name") or self._text("Server"),
            full_ipv6=full_ipv6,
            dns=self._resolvers(),
            nbns=self._nbns(),
            default_domain=" ".join(self._domains("X-CSTP-Default-Domain")),
            split_dns=split_dns,
            split_include=_without_default(
                self._routes(self._all("X-CSTP-Split-Include", "X-CSTP-Split-Include-IP6"))
            ),
            split_exclude=self._routes(
                [each for each in excluded if each != LOCAL_LAN]
                + self._all("X-CSTP-Split-Exclude-IP6")
            ),
            exclude_local_lan=LOCAL_LAN in excluded,
            tunnel_all_dns=self._flag("X-CSTP-Tunnel-All-DNS"),
            client_bypass_protocol=self._flag("X-CSTP-Client-Bypass-Protocol"),
            keepalive_s=self._time("X-CSTP-Keepalive"),
            dpd_s=self._time("X-CSTP-DPD"),
            idle_timeout_s=self._time("X-CSTP-Idle-Timeout"),
            session_timeout_s=self._time("X-CSTP-Session-Timeout"),
            session_timeout_remaining_s=self._time("X-CSTP-Session-Timeout-Remaining"),
            disconnected_timeout_s=self._time("X-CSTP-Disconnected-Timeout"),
            rekey_s=self._time("X-CSTP-Rekey-Time"),
            rekey_method=self._rekey_method("X-CSTP-Rekey-Method") or OFF,
            banner=self._text("X-CSTP-Banner"),
            encoding=self._encoding("X-CSTP-Content-Encoding", _ENCODINGS),
            dynamic_dns=self._flag("X-CSTP-DynDNS"),
            proxy=self._proxy(),
            dynamic_split_include=include[:_MOST_DOMAINS],
            dynamic_split_exclude=exclude[:_MOST_DOMAINS],
            post_auth_xml=post_auth_xml,
            dtls=self._dtls(dtls_mtu_bytes),
            other_headers=self._other_headers(),
        )

    # --- addresses and routes ---

    def _lease(self) -> tuple[Lease, bool]:
        """The inner addresses, and whether IPv6 came in the new form."""
        ipv4: IPv4Interface | None = None
        ipv6: IPv6Interface | None = None
        masks = self._all("X-CSTP-Netmask")
        for text in self._all("X-CSTP-Address"):
            address = _address(text)
            if isinstance(address, IPv4Address) and ipv4 is None:
                mask = next((each for each in masks if ":" not in each), "255.255.255.255")
                ipv4 = IPv4Interface((address, _prefix_length(mask)))
            elif isinstance(address, IPv6Address) and ipv6 is None:
                network = next((each for each in masks if ":" in each), f"{address}/128")
                ipv6 = IPv6Interface((address, _route(network).prefixlen))
        full_ipv6 = ipv6 is None
        for text in self._all("X-CSTP-Address-IP6")[:1]:
            bare, _, length = text.partition("/")
            new_form = _address(bare)
            if not isinstance(new_form, IPv6Address):
                raise MalformedMessage("the gateway gives an IPv6 address that is none")
            prefix_length = read_number(length or "128", 128)
            if prefix_length is None:
                raise MalformedMessage("the gateway gives an IPv6 prefix that is none")
            ipv6, full_ipv6 = IPv6Interface((new_form, prefix_length)), True
        if ipv4 is None and ipv6 is None:
            raise MalformedMessage("the gateway gives no address")
        return Lease(ipv4, ipv6), full_ipv6

    def _resolvers(self) -> tuple[Address, ...]:
        texts = self._all("X-CSTP-DNS", "X-CSTP-DNS-IP6")
        return tuple(dict.fromkeys(map(_address, texts[:_MOST_SERVERS])))

    def _nbns(self) -> tuple[IPv4Address, ...]:
        addresses = dict.fromkeys(map(_address, self._all("X-CSTP-NBNS")[:_MOST_SERVERS]))
        return tuple(each for each in addresses if isinstance(each, IPv4Address))

    def _routes(self, texts: list[str]) -> tuple[Network, ...]:
        if len(texts) > _MOST_ROUTES:
            raise MalformedMessage(f"the gateway gives {len(texts)} routes")
        return tuple(dict.fromkeys(map(_route, texts)))

    def _mtu(self, name: str) -> int:
        text = self._first(name)
        if text in {"", "0"}:
            return 0
        mtu_bytes = read_number(text, LARGEST_TUNNEL_MTU_BYTES)
        if mtu_bytes is None or mtu_bytes < SMALLEST_MTU_BYTES:
            raise MalformedMessage("the gateway gives an MTU that cannot be")
        return mtu_bytes

    def _base_mtu(self) -> int:
        mtu_bytes = self._readable(
            "X-CSTP-Base-MTU", lambda text: read_number(text, _LARGEST_LINK_MTU_BYTES)
        )
        return mtu_bytes or 0

    # --- the DTLS channel ---

    def _dtls(self, mtu_bytes: int) -> DTLSGrant | None:
        """The DTLS channel that the gateway offers; None when a part of it is missing."""
        session_id = self._identifier("X-DTLS-Session-ID")
        if session_id and len(session_id) != DTLS_SESSION_ID_BYTES:
            raise MalformedMessage("the gateway gives a DTLS session id that is not 32 bytes")
        app_id = self._identifier("X-DTLS-App-ID")
        if len(app_id) > LONGEST_APP_ID_BYTES:
            raise MalformedMessage("the gateway gives an App-ID that is too long")
        encoding = self._encoding("X-DTLS-Content-Encoding", _DTLS_ENCODINGS)
        grant_header, suite = "", ""
        for name in (DTLS_SUITE_HEADER, DTLS12_SUITE_HEADER):
            value = self._first(name)
            if value and not is_name(value):
                raise MalformedMessage("the gateway chooses a DTLS suite that is none")
            if value:
                grant_header, suite = name, value
        port_text = self._first("X-DTLS-Port")
        port = read_number(port_text, 0xFFFF) if port_text else 0
        if port is None:
            raise MalformedMessage("the gateway gives a DTLS port that cannot be")
        if suite == _PSK_SUITE:
            session_id = b""
        else:
            app_id = b""
        dpd_s, keepalive_s = self._time("X-DTLS-DPD"), self._time("X-DTLS-Keepalive")
        rekey_s = self._time("X-DTLS-Rekey-Time")
        rekey_method = self._rekey_method("X-DTLS-Rekey-Method")
        if not (port and suite and (session_id or app_id)):
            return None
        return DTLSGrant(
            port=port,
            header=grant_header,
            suite=suite,
            session_id=session_id,
            app_id=app_id,
            mtu_bytes=mtu_bytes,
            dpd_s=dpd_s,
            keepalive_s=keepalive_s,
            rekey_s=rekey_s,
            rekey_method=rekey_method,
            encoding=encoding,
        )

    def _identifier(self, name: str) -> bytes:
        text = self._first(name)
        if text and _HEX.fullmatch(text) is None:
            raise MalformedMessage(f"the gateway gives an {name} that is not hexadecimal")
        return bytes.fromhex(text)

    def _encoding(self, name: str, known: tuple[str, ...]) -> str:
        text = self._first(name).lower()
        if text and text not in known:
            raise MalformedMessage("the gateway chooses a compression that nobody offered")
        return text

    # --- what may be left out ---

    def _time(self, name: str) -> int:
        return self._readable(name, _seconds) or 0

    def _rekey_method(self, name: str) -> str:
        """The way to rekey: none for what is unknown, "" when nothing is said."""
        text = self._first(name).lower()
        return text if text in REKEY_METHODS or not text else OFF

    def _flag(self, name: str) -> bool:
        return self._first(name).lower() == "true"

    def _domains(self, name: str) -> tuple[str, ...]:
        domains, wrong = read_domains(self._all(name))
        if wrong:
            self._understood.discard(name.lower())
        return domains[:_MOST_DOMAINS]

    def _proxy(self) -> MappingProxyType[str, str]:
        found = {name: self._text(f"X-CSTP-{name}") for name in PROXY_SETTINGS}
        return MappingProxyType({name: text for name, text in found.items() if text})

    def _text(self, name: str) -> str:
        return self._first(name)[:_LONGEST_TEXT_CHARACTERS]

    # --- headers ---

    def _all(self, *names: str) -> list[str]:
        self._understood.update(name.lower() for name in names)
        return [value for name in names for value in self._received.all(name) if value]

    def _first(self, name: str) -> str:
        return next(iter(self._all(name)), "")

    def _readable(self, name: str, read: Callable[[str], int | None]) -> int | None:
        """The first value, when there is one that can be read; else it is reported."""
        text = self._first(name)
        number = read(text) if text else None
        if text and number is None:
            self._understood.discard(name.lower())
        return number

    def _other_headers(self) -> tuple[tuple[str, str], ...]:
        """What was not understood, and what is usually fixed and here is not."""
        fixed = {(name.lower(), value) for name, value in FIXED_FLAGS}
        fixed.add(("x-cstp-protocol", PROTOCOL_TEXT))
        return tuple(
            (name, value[:_LONGEST_TEXT_CHARACTERS])
            for name, value in self._received.items
            if _OTHER_HEADERS.match(name)
            and name.lower() not in self._understood
            and (name.lower(), value) not in fixed
        )


def _seconds(text: str) -> int | None:
    return 0 if text.lower() == OFF else read_number(text, _LONGEST_TIME_S)


def _address(text: str) -> Address:
    address = read_address(text)
    if address is None:
        raise MalformedMessage("the gateway gives an address that is none")
    return address


def _route(text: str) -> Network:
    """A network with a dotted mask or a prefix length; bits beyond it are cleared."""
    bare, _, mask = text.partition("/")
    if "%" in bare:
        raise MalformedMessage("the gateway gives a route with a scope")
    try:
        if ":" in bare:
            return IPv6Network((IPv6Address(bare), _ipv6_length(mask)), strict=False)
        length = _prefix_length(mask) if mask else 32
        return IPv4Network((IPv4Address(bare), length), strict=False)
    except ValueError:
        raise MalformedMessage("the gateway gives a route that is none") from None


def _ipv6_length(text: str) -> int:
    length = read_number(text or "128", 128)
    if length is None:
        raise MalformedMessage("the gateway gives an IPv6 prefix that is none")
    return length


def _prefix_length(mask: str) -> int:
    """Of a dotted mask or a number; masks with holes are refused."""
    length = read_number(mask, 32)
    if length is not None:
        return length
    try:
        bits = f"{int(IPv4Address(mask)):032b}"
    except ValueError:
        raise MalformedMessage("the gateway gives a mask that is none") from None
    if "01" in bits:
        raise MalformedMessage("the gateway gives a mask with holes")
    return bits.count("1")


def _without_default(networks: tuple[Network, ...]) -> tuple[Network, ...]:
    """No routes at all when all of them are default routes, which means the same."""
    return networks if any(each.prefixlen for each in networks) else ()
