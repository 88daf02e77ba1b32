"""Gives a tun device its MTU, addresses and routes, by netlink."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from anyvpn.errors import TunUnavailable
from anyvpn.tun.link import leave_out_link_local, set_address

# From the protocol: RFC 8200, section 5
_SMALLEST_IPV6_MTU_BYTES = 1280


def configure_device(
    name: str,
    addresses: Sequence[IPv4Interface | IPv6Interface],
    mtu_bytes: int,
    routes: Sequence[IPv4Network | IPv6Network],
) -> None:
    """Bring the device up with all of that; what fails leaves the rest to the device's end.

    Raises: TunUnavailable: with what would help.
    """
    if mtu_bytes < _SMALLEST_IPV6_MTU_BYTES and any(each.version == 6 for each in addresses):
        raise TunUnavailable(
            f"IPv6 needs an MTU of at least {_SMALLEST_IPV6_MTU_BYTES} bytes, not {mtu_bytes}: "
            "raise the MTU, or leave out the IPv6 pool"
        )

    def configure() -> None:
        with IPRoute() as netlink:
            _refuse_clashes(netlink, addresses)
            _configure(netlink, name, addresses, mtu_bytes, routes)

    # pyroute2 runs an event loop of its own, which must not meet one of the reactor's
    with ThreadPoolExecutor(1, "netlink") as executor:
        executor.submit(configure).result()


def _configure(
    netlink: IPRoute,
    name: str,
    addresses: Sequence[IPv4Interface | IPv6Interface],
    mtu_bytes: int,
    routes: Sequence[IPv4Network | IPv6Network],
) -> None:
    with _naming("its own index"):
        (index,) = netlink.link_lookup(ifname=name)
    with _naming(f"an MTU of {mtu_bytes} bytes"):
        netlink.link("set", index=index, mtu=mtu_bytes)
    leave_out_link_local(netlink, index)
    for address in addresses:
        with _naming(f"the address {address}"):
            set_address(netlink, index, address, address.network.prefixlen)
    with _naming("the state up"):
        netlink.link("set", index=index, state="up")
    for route in routes:
        with _naming(f"the route to {route}"):
            netlink.route("add", dst=str(route), oif=index)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say which part of the configuration the kernel refused."""
    try:
        yield
    except NetlinkError as error:
        raise TunUnavailable(f"the tun device cannot have {what}: {_reason(error)}") from error


def _reason(error: NetlinkError) -> str:
    match error.code:
        case errno.EPERM:
            return "not permitted; start the gateway as root, or give it CAP_NET_ADMIN"
        case errno.EACCES | errno.EOPNOTSUPP | errno.EAFNOSUPPORT:
            return (
                "this host has IPv6 switched off; set net.ipv6.conf.all.disable_ipv6 and "
                "net.ipv6.conf.default.disable_ipv6 to 0, or leave out the IPv6 pool"
            )
        case errno.EEXIST:
            return "it exists already, for another device of this host"
        case code:
            return os.strerror(code)


def _refuse_clashes(netlink: IPRoute, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
    """Refuse addresses that another device has, and networks that would swallow its network.

    A network inside a wider one of another device is left to the operator: proxies want it.
    """
    names = {each["index"]: each.get("IFLA_IFNAME") for each in netlink.get_links()}
    for existing in netlink.get_addr():
        # On a point-to-point link IFA_ADDRESS is the peer's, IFA_LOCAL ours
        text = existing.get("IFA_LOCAL") or existing.get("IFA_ADDRESS")
        if not text:
            continue
        taken = ip_interface(f"{text}/{existing['prefixlen']}")
        if taken.is_link_local:
            continue
        device = names.get(existing["index"], "another device")
        for address in addresses:
            if address.ip == taken.ip:
                raise TunUnavailable(
                    f"{address.ip} is already an address of {device}: is another gateway "
                    "running? If not, choose another pool"
                )
            if _swallows(address.network, taken.network):
                raise TunUnavailable(
                    f"the pool {address.network} overlaps {taken.network}, to which {device} "
                    f"leads: choose another pool"
                )


def _swallows(ours: IPv4Network | IPv6Network, theirs: IPv4Network | IPv6Network) -> bool:
    if isinstance(ours, IPv4Network):
        return isinstance(theirs, IPv4Network) and theirs.subnet_of(ours)
    return isinstance(theirs, IPv6Network) and theirs.subnet_of(ours)
