"""Group policies: what a session may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType

from anyvpn.model.packet_filter import FilterRule, check_rules

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# From the protocol (protocol reference, section 8.3)
PROXY_SETTINGS = (
    "MSIE-Proxy",
    "MSIE-Proxy-Server",
    "MSIE-Proxy-Exception",
    "MSIE-Proxy-PAC-URL",
    "MSIE-Proxy-Lockdown",
    "MSIE-Proxy-Method",
)

# From the protocol (protocol reference, section 10)
COMPRESSIONS = ("oc-lz4", "lzs", "deflate")

# Ours
LONGEST_TIME_S = 10 * 365 * 24 * 3600.0
SMALLEST_MTU_BYTES = 576
LARGEST_MTU_BYTES = 9000
MOST_CLIENT_NETWORKS = 100


def check_proxy(proxy: Mapping[str, str]) -> None:
    """Raises ValueError: a name that is not one of PROXY_SETTINGS."""
    for name in proxy:
        if name not in PROXY_SETTINGS:
            raise ValueError(f"proxy: {name!r} is not one of {', '.join(PROXY_SETTINGS)}")


def check_client_networks(networks: Sequence[Network]) -> None:
    """Raises ValueError: there are too many, or one that can be behind nobody."""
    if len(networks) > MOST_CLIENT_NETWORKS:
        raise ValueError(f"client_networks: more than {MOST_CLIENT_NETWORKS} are too many")
    for each in networks:
        if not each.prefixlen or each.is_multicast or each.is_loopback or each.is_link_local:
            raise ValueError(f"client_networks: {each} cannot lie behind a client")


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """Addresses, routes, names, time-outs and channels of a session.

    Times are seconds; 0 switches the time-out, the probe or the rekeying off. `mtu_bytes`
    bounds the outer link; 0 leaves it to client and path. No `split_include` at all sends
    everything through the tunnel. `address_pools` names pools of the address allocator, all
    of them when empty; `ipv4_address` and `ipv6_address` are wanted before any of a pool.
    `client_networks` lie behind the client, which may send from them and is sent what is for
    them. `proxy` maps names of PROXY_SETTINGS to what browsers are told. `filters` say which
    packets pass, all of them without any rule (packet_filter.py).
    """

    name: str = "default"
    address_pools: tuple[str, ...] = ()
    ipv4: bool = True
    ipv6: bool = True
    ipv4_address: IPv4Address | None = None
    ipv6_address: IPv6Address | None = None
    dns: tuple[Address, ...] = ()
    nbns: tuple[IPv4Address, ...] = ()
    default_domain: str = ""
    split_dns: tuple[str, ...] = ()
    split_include: tuple[Network, ...] = ()
    split_exclude: tuple[Network, ...] = ()
    exclude_local_lan: bool = False
    client_bypass_protocol: bool = False
    banner: str = ""
    mtu_bytes: int = 0
    dtls: bool = True
    compression: tuple[str, ...] = ()
    dpd_s: float = 30.0
    mobile_dpd_s: float = 60.0
    keepalive_s: float = 20.0
    rekey_s: float = 86400.0
    idle_timeout_s: float = 0.0
    session_timeout_s: float = 0.0
    disconnected_timeout_s: float = 1800.0
    max_sessions_per_user: int = 0
    client_networks: tuple[Network, ...] = ()
    proxy: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    dynamic_split_include: tuple[str, ...] = ()
    dynamic_split_exclude: tuple[str, ...] = ()
    filters: tuple[FilterRule, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "dpd_s",
            "mobile_dpd_s",
            "keepalive_s",
            "rekey_s",
            "idle_timeout_s",
            "session_timeout_s",
            "disconnected_timeout_s",
        ):
            if not 0 <= getattr(self, name) <= LONGEST_TIME_S:
                raise ValueError(f"{name} must lie between 0 and {LONGEST_TIME_S:.0f} seconds")
        if self.mtu_bytes and not SMALLEST_MTU_BYTES <= self.mtu_bytes <= LARGEST_MTU_BYTES:
            raise ValueError(
                f"mtu_bytes must be 0 or lie between {SMALLEST_MTU_BYTES} and {LARGEST_MTU_BYTES}"
            )
        if not (self.ipv4 or self.ipv6):
            raise ValueError("a policy must allow IPv4 or IPv6")
        for encoding in self.compression:
            if encoding not in COMPRESSIONS:
                raise ValueError(
                    f"compression: {encoding!r} is not one of {', '.join(COMPRESSIONS)}"
                )
        check_proxy(self.proxy)
        check_client_networks(self.client_networks)
        check_rules(self.filters)


@dataclass(frozen=True, slots=True)
class PolicyLayer:
    """Some values of a policy, by field name, and which rule gives them.

    `origin` is for operators: "by_group of staff", "attribute Framed-Route".
    """

    origin: str
    values: Mapping[str, object] = field(hash=False)


def merge(name: str, layers: Iterable[PolicyLayer]) -> GroupPolicy:
    """The policy of that name that the layers make, the strongest last; the rest is the default.

    Raises: ValueError: the values cannot be together.
    """
    values = {key: value for layer in layers for key, value in layer.values.items()}
    return GroupPolicy(**{**values, "name": name})  # type: ignore[arg-type]  # checked by whoever laid them


def origins(layers: Iterable[PolicyLayer]) -> Mapping[str, str]:
    """Which rule gives each value that `merge` does not leave at its default."""
    return {key: layer.origin for layer in layers for key in layer.values}
