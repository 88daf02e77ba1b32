"""Group policies as they stand in the configuration: what each of them sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

import attrs

from anyvpn.backends.authorizer_static_hours import AccessHours
from anyvpn.model.group_policy import Address, GroupPolicy, Network
from anyvpn.model.packet_filter import EXAMPLE, read_rules

_DEFAULTS = GroupPolicy()


def _help(field_name: str, text: str) -> dict[str, object]:
    default = getattr(_DEFAULTS, field_name)
    if isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, (int, float)):
        shown = f"{default:g}"
    else:
        shown = "none"
    return {"help": f"{text} (default: {shown}).", "default": default}


@attrs.frozen
class PolicySettings:
    """One group policy; what is not given comes from `based_on`, or else is the default."""

    based_on: str = attrs.field(
        default="", metadata={"help": "The policy that gives what is not set here."}
    )
    address_pools: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("address_pools", "Pools of [addresses] to lend from; none: all of them"),
    )
    ipv4: bool | None = attrs.field(
        default=None, metadata=_help("ipv4", "Whether clients get an IPv4 address")
    )
    ipv6: bool | None = attrs.field(
        default=None, metadata=_help("ipv6", "Whether clients get an IPv6 address")
    )
    ipv4_address: IPv4Address | None = attrs.field(
        default=None,
        metadata=_help("ipv4_address", "Address that is wanted before any of a pool"),
    )
    ipv6_address: IPv6Address | None = attrs.field(
        default=None, metadata=_help("ipv6_address", "The same for IPv6")
    )
    dns: tuple[Address, ...] | None = attrs.field(
        default=None, metadata=_help("dns", "Addresses of the DNS servers for clients")
    )
    nbns: tuple[IPv4Address, ...] | None = attrs.field(
        default=None, metadata=_help("nbns", "Addresses of the NetBIOS name servers for clients")
    )
    default_domain: str | None = attrs.field(
        default=None, metadata=_help("default_domain", "Domain that clients append to short names")
    )
    split_dns: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("split_dns", "Domains resolved through the tunnel; none: all of them"),
    )
    split_include: tuple[Network, ...] | None = attrs.field(
        default=None,
        metadata=_help("split_include", "Networks reached through the tunnel; none: everything"),
    )
    split_exclude: tuple[Network, ...] | None = attrs.field(
        default=None, metadata=_help("split_exclude", "Networks not reached through the tunnel")
    )
    exclude_local_lan: bool | None = attrs.field(
        default=None,
        metadata=_help("exclude_local_lan", "Whether the client's own network stays reachable"),
    )
    client_bypass_protocol: bool | None = attrs.field(
        default=None,
        metadata=_help(
            "client_bypass_protocol",
            "Whether an IP version without an address goes past the tunnel instead of nowhere",
        ),
    )
    banner: str | None = attrs.field(
        default=None, metadata=_help("banner", "Text shown to the user at every connection")
    )
    mtu_bytes: int | None = attrs.field(
        default=None,
        metadata=_help("mtu_bytes", "Largest outer packet, in bytes; 0: what the path allows"),
    )
    dtls: bool | None = attrs.field(
        default=None, metadata=_help("dtls", "Whether clients may use DTLS (UDP)")
    )
    compression: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help(
            "compression", "Compressions that clients may use, best first: oc-lz4, lzs, deflate"
        ),
    )
    dpd_s: float | None = attrs.field(
        default=None,
        metadata=_help("dpd_s", "Seconds of silence until a dead peer is probed for; 0: never"),
    )
    mobile_dpd_s: float | None = attrs.field(
        default=None, metadata=_help("mobile_dpd_s", "The same for phones and tablets, in seconds")
    )
    keepalive_s: float | None = attrs.field(
        default=None,
        metadata=_help("keepalive_s", "Seconds between a client's keepalives; 0: none"),
    )
    rekey_s: float | None = attrs.field(
        default=None, metadata=_help("rekey_s", "Seconds until keys are made anew; 0: never")
    )
    idle_timeout_s: float | None = attrs.field(
        default=None,
        metadata=_help("idle_timeout_s", "Seconds without data until a session ends; 0: never"),
    )
    session_timeout_s: float | None = attrs.field(
        default=None,
        metadata=_help("session_timeout_s", "Seconds after its login a session ends; 0: never"),
    )
    disconnected_timeout_s: float | None = attrs.field(
        default=None,
        metadata=_help(
            "disconnected_timeout_s", "Seconds that a client may be away and keep its session"
        ),
    )
    max_sessions_per_user: int | None = attrs.field(
        default=None,
        metadata=_help("max_sessions_per_user", "Sessions of one user at a time; 0: no limit"),
    )
    proxy: dict[str, str] | None = attrs.field(
        default=None,
        metadata=_help("proxy", "Proxy settings for the client's browser, by header name"),
    )
    dynamic_split_include: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("dynamic_split_include", "Domains whose addresses go through the tunnel"),
    )
    dynamic_split_exclude: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("dynamic_split_exclude", "Domains whose addresses go past the tunnel"),
    )
    client_networks: tuple[Network, ...] | None = attrs.field(
        default=None,
        metadata=_help("client_networks", "Networks behind the client, routed to it"),
    )
    filters: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=_help("filters", f'Rules of which packets pass, such as "{EXAMPLE}"'),
    )

    access_hours: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata={
            "help": 'When sessions are allowed, such as "Mon-Fri 07:00-19:00" (default: always).'
        },
    )

    def __attrs_post_init__(self) -> None:
        if self.max_sessions_per_user is not None and self.max_sessions_per_user < 0:
            raise ValueError("max_sessions_per_user must not be negative")
        for each in self.access_hours or ():
            try:
                AccessHours.read(each)
            except ValueError as error:
                raise ValueError(f"access_hours: {error}") from None
        try:
            read_rules(self.filters or ())
        except ValueError as error:
            raise ValueError(f"filters: {error}") from None
        GroupPolicy(**self.given())  # type: ignore[arg-type]  # the same names and types

    def given(self) -> Mapping[str, object]:
        """What is set here, by the names of GroupPolicy."""
        found = {
            each.name: getattr(self, each.name)
            for each in fields(GroupPolicy)
            if each.name != "name" and getattr(self, each.name) is not None
        }
        if "proxy" in found:
            found["proxy"] = MappingProxyType(dict(found["proxy"]))
        if "filters" in found:
            found["filters"] = read_rules(found["filters"])
        return found
