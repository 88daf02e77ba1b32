"""Gives a tun device its MTU, addresses and routes, by netlink."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
from anyvpn.model.group_policy import Network
from anyvpn.tun.link import keep_addresses_when_down, leave_out_link_local, set_address

# From the protocol: RFC 8200, section 5
_SMALLEST_IPV6_MTU_BYTES = 1280

_DEVICE_NEEDS = "start the gateway as root, or give it CAP_NET_ADMIN"
_ROUTE_NEEDS = "put it into routes of [tun], or let the gateway keep CAP_NET_ADMIN"


def configure_device(
    name: str,
    addresses: Sequence[IPv4Interface | IPv6Interface],
    mtu_bytes: int,
    routes: Sequence[Network],
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


def restore_addresses(name: str, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    """Have them again, which the kernel may have forgotten. Blocking: run it in a thread.

    Raises: TunUnavailable.
    """
    with IPRoute() as netlink:
        index = _index_of(netlink, name)
        for each in addresses:
            with _naming(f"the address {each} again"):
                set_address(netlink, index, each, each.network.prefixlen)


class ClientRoutes:
    """Routes to the device that come and go with clients. Blocking: run it in a thread.

    What lies within one of the `lasting` networks, which lead to the device as long as it is
    there, needs no route of its own.
    """

    def __init__(self, name: str, lasting: Sequence[Network]) -> None:
        self._name = name
        self._lasting = tuple(lasting)
        self._routes: frozenset[Network] = frozenset()

    def set(self, networks: Iterable[Network]) -> None:
        """Have routes to these networks and to no others. Raises: TunUnavailable."""
        wanted = frozenset(each for each in networks if not self._leads_here(each))
        if wanted == self._routes:
            return
        new = sorted(wanted - self._routes, key=str)
        with IPRoute() as netlink:
            index = _index_of(netlink, self._name)
            _delete(netlink, index, self._routes - wanted)
            self._routes &= wanted
            _refuse_neighbours(netlink, index, new)
            made: list[Network] = []
            try:
                for each in new:
                    with _naming(f"the route to {each}", _ROUTE_NEEDS):
                        netlink.route("add", dst=str(each), oif=index)
                    made.append(each)
            except TunUnavailable:
                _delete(netlink, index, made)
                raise
        self._routes = wanted

    def restore(self) -> None:
        """Have all of them again, and the lasting ones, that the kernel may have forgotten.

        Raises: TunUnavailable.
        """
        with IPRoute() as netlink:
            index = _index_of(netlink, self._name)
            for each in (*self._lasting, *sorted(self._routes, key=str)):
                with _naming(f"the route to {each} again"):
                    _add(netlink, index, each)

    def _leads_here(self, network: Network) -> bool:
        return any(_holds(each, network) for each in self._lasting)


def _index_of(netlink: IPRoute, name: str) -> int:
    with _naming("its own index"):
        found = netlink.link_lookup(ifname=name)
    if not found:
        raise TunUnavailable(f"the tun device {name} is gone")
    index: int = found[0]
    return index


def _add(netlink: IPRoute, index: int, route: Network) -> None:
    try:
        netlink.route("add", dst=str(route), oif=index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:  # there already is as good
            raise


def _delete(netlink: IPRoute, index: int, routes: Iterable[Network]) -> None:
    for each in routes:
        with suppress(NetlinkError):  # gone already is as good
            netlink.route("del", dst=str(each), oif=index)


def _refuse_neighbours(netlink: IPRoute, index: int, networks: Sequence[Network]) -> None:
    """Refuse networks that overlap one on another link of this host."""
    for taken, other, device in _addresses(netlink):
        for network in networks:
            if other != index and taken.network.overlaps(network):
                raise TunUnavailable(
                    f"{network} behind a client overlaps {taken.network}, to which {device} leads"
                )


def _configure(
    netlink: IPRoute,
    name: str,
    addresses: Sequence[IPv4Interface | IPv6Interface],
    mtu_bytes: int,
    routes: Sequence[Network],
) -> None:
    index = _index_of(netlink, name)
    with _naming(f"an MTU of {mtu_bytes} bytes"):
        netlink.link("set", index=index, mtu=mtu_bytes)
    leave_out_link_local(netlink, index)
    keep_addresses_when_down(name)
    for address in addresses:
        with _naming(f"the address {address}"):
            set_address(netlink, index, address, address.network.prefixlen)
    with _naming("the state up"):
        netlink.link("set", index=index, state="up")
    for route in routes:
        with _naming(f"the route to {route}"):
            netlink.route("add", dst=str(route), oif=index)


@contextmanager
def _naming(what: str, needs: str = _DEVICE_NEEDS) -> Iterator[None]:
    """Say which part of the configuration the kernel refused, and what it needs."""
    try:
        yield
    except NetlinkError as error:
        reason = f"not permitted; {needs}" if error.code == errno.EPERM else _reason(error)
        raise TunUnavailable(f"the tun device cannot have {what}: {reason}") from error


def _reason(error: NetlinkError) -> str:
    match error.code:
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
    for taken, _, device in _addresses(netlink):
        for address in addresses:
            if address.ip == taken.ip:
                raise TunUnavailable(
                    f"{address.ip} is already an address of {device}: is another gateway "
                    "running? If not, choose another pool"
                )
            if _holds(address.network, taken.network):
                raise TunUnavailable(
                    f"the pool {address.network} overlaps {taken.network}, to which {device} "
                    f"leads: choose another pool"
                )


def _addresses(netlink: IPRoute) -> Iterator[tuple[IPv4Interface | IPv6Interface, int, str]]:
    """Every address of the host, with the index and the name of its device."""
    names = {each["index"]: each.get("IFLA_IFNAME") for each in netlink.get_links()}
    for existing in netlink.get_addr():
        # On a point-to-point link IFA_ADDRESS is the peer's, IFA_LOCAL ours
        text = existing.get("IFA_LOCAL") or existing.get("IFA_ADDRESS")
        if not text:
            continue
        taken = ip_interface(f"{text}/{existing['prefixlen']}")
        if not taken.is_link_local:
            index = existing["index"]
            yield taken, index, names.get(index) or "another device"


def _holds(wide: Network, narrow: Network) -> bool:
    if isinstance(wide, IPv4Network):
        return isinstance(narrow, IPv4Network) and narrow.subnet_of(wide)
    return isinstance(narrow, IPv6Network) and narrow.subnet_of(wide)
