"""What an adapter's settings mean for the host: addresses and routes, as values.

Everything goes through the tunnel by two routes that halve the address space: they win over the
default route without touching it, whatever DHCP does to it meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_network,
)

from anyvpn.errors import TunUnavailable
from anyvpn.model.adapter import AdapterSettings

Network = IPv4Network | IPv6Network

# From RFC 8200
SMALLEST_IPV6_MTU_BYTES = 1280

_HALVES: dict[int, tuple[Network, ...]] = {
    4: (IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1")),
    6: (IPv6Network("::/1"), IPv6Network("8000::/1")),
}


class Way(Enum):
    """Where packets of a route go."""

    TUNNEL = "tunnel"
    OUTSIDE = "outside"
    """As they would go without the tunnel."""
    NOWHERE = "nowhere"
    """Refused, so that nothing leaks of a family that the tunnel does not carry."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the host."""

    network: Network
    way: Way


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the host is to have."""

    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    mtu_bytes: int
    routes: tuple[Route, ...]


def make_plan(settings: AdapterSettings) -> Plan:
    """The addresses and routes that these settings ask for, without IPv6 where it does not fit.

    Raises: TunUnavailable: there is nothing but IPv6, which does not fit.
    """
    granted = settings.granted
    addresses = tuple(each for each in (granted.lease.ipv4, granted.lease.ipv6) if each is not None)
    if settings.mtu_bytes < SMALLEST_IPV6_MTU_BYTES:
        addresses = tuple(each for each in addresses if each.version == 4)
        if not addresses:
            raise TunUnavailable(
                f"the tunnel carries IPv6 alone, whose packets need an MTU of "
                f"{SMALLEST_IPV6_MTU_BYTES} bytes, and has one of {settings.mtu_bytes}"
            )
    families = {each.version for each in addresses}
    routes: dict[Network, Way] = {}
    for address in addresses:
        # The network that the gateway names is behind it; the device has the bare address
        if address.network.prefixlen < address.max_prefixlen:
            routes[address.network] = Way.TUNNEL
    included = [each for each in granted.split_include if each.version in families]
    for network in included:
        routes[network] = Way.TUNNEL
    if not granted.split_include:
        for family in (4, 6):
            carried = family in families
            if carried or not granted.client_bypass_protocol:
                way = Way.TUNNEL if carried else Way.NOWHERE
                routes |= dict.fromkeys(_HALVES[family], way)
    for server in granted.dns:
        if server.version in families:
            # Resolvers are reached through the tunnel, even when their network is not in it
            routes.setdefault(ip_network(server), Way.TUNNEL)
    for network in granted.split_exclude:
        routes[network] = Way.OUTSIDE
    if settings.gateway_address is not None:
        routes[ip_network(settings.gateway_address)] = Way.OUTSIDE
    return Plan(
        addresses, settings.mtu_bytes, tuple(Route(net, way) for net, way in routes.items())
    )
