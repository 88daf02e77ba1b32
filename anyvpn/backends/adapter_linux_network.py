"""Brings a host into the state of a plan, by netlink, and out of it again.

Only differences are applied. Routes through the device vanish with it; those past it are told
to `journal` before they are made, so that a crash leaves nothing that cannot be undone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import rt_type
from twisted.logger import Logger

from anyvpn.backends.adapter_linux_plan import Network, Plan, Route, Way
from anyvpn.errors import TunUnavailable
from anyvpn.tun.link import (
    bound_super_packets,
    delete_bare_address,
    leave_out_link_local,
    set_address,
)

log = Logger()

# From Linux
_MAIN_TABLE = 254
_GONE = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)

# Ours
_METRICS = range(42_000_000, 42_000_000 + (1 << 24))
"""Mark what clients have made: the device's index chooses one, so that each has its own route to
a gateway that several share. No other route of the host is likely to have such a metric."""
_TUNNEL_METRIC_IPV6 = 42
"""Below that of the networks on the host's own links."""


class HostNetwork:
    """The part of the host's network that belongs to one device. Blocking: run it in a thread."""

    def __init__(self, device: str, journal: Callable[[Sequence[Network], int], None]) -> None:
        self._device = device
        self._journal = journal
        self._plan: Plan | None = None
        self._outside: dict[Network, dict[str, Any]] = {}
        self._through: dict[Network, list[Network]] = {}
        self._metric = 0

    def apply(self, plan: Plan) -> None:
        """Be as the plan says. Raises: TunUnavailable."""
        before, self._plan = self._plan, plan
        with IPRoute() as netlink:
            index = self._index(netlink)
            self._metric = _METRICS[index % len(_METRICS)]
            if before is None:
                with suppress(NetlinkError):  # an older kernel has its own bound
                    bound_super_packets(netlink, index)
                leave_out_link_local(netlink, index)
            if before is None or before.mtu_bytes != plan.mtu_bytes:
                with _naming(f"an MTU of {plan.mtu_bytes} bytes"):
                    netlink.link("set", index=index, mtu=plan.mtu_bytes, state="up")
            had = () if before is None else before.addresses
            _set_addresses(netlink, index, [each for each in plan.addresses if each not in had])
            for address in had:
                if address not in plan.addresses:
                    delete_bare_address(netlink, index, address)
            had_routes = () if before is None else before.routes
            for route in had_routes:
                if route not in plan.routes:
                    self._delete(netlink, index, route)
            self._add_routes(
                netlink, index, [each for each in plan.routes if each not in had_routes]
            )

    def refresh_outside(self) -> None:
        """The host may have other ways out now: let the routes past the tunnel take them.

        Raises: TunUnavailable.
        """
        if self._plan is None:
            return
        with IPRoute() as netlink:
            index = self._index(netlink)
            for route in self._plan.routes:
                if route.way is Way.OUTSIDE:
                    # Even with the same way as before: the kernel drops routes with an address
                    way_out = self._way_out(netlink, route.network, index)
                    if way_out != self._outside.get(route.network):
                        self._delete(netlink, index, route)
                    self._add_routes(netlink, index, [route])

    def restore(self) -> None:
        """Have again what the kernel has forgotten of a device that was down.

        Raises: TunUnavailable.
        """
        if self._plan is None:
            return
        with IPRoute() as netlink:
            index = self._index(netlink)
            _set_addresses(netlink, index, self._plan.addresses)
            for route in self._plan.routes:
                if route.way is Way.TUNNEL:
                    # One that is there still would be taken for the host's own
                    self._delete(netlink, index, route)
                    self._add_routes(netlink, index, [route])

    def undo(self) -> None:
        """Take back what does not vanish with the device."""
        plan, self._plan = self._plan, None
        if plan is None:
            return
        with IPRoute() as netlink:
            for route in plan.routes:
                if route.way is not Way.TUNNEL:
                    self._delete(netlink, 0, route)

    # --- within -----------------------------------------------------------------------------

    def _index(self, netlink: IPRoute) -> int:
        found = netlink.link_lookup(ifname=self._device)
        if not found:
            raise TunUnavailable(f"the device {self._device} is gone")
        return int(found[0])

    def _add_routes(self, netlink: IPRoute, index: int, routes: Sequence[Route]) -> None:
        past = [each.network for each in routes if each.way is not Way.TUNNEL]
        if past:
            assert self._plan is not None
            self._journal(
                [each.network for each in self._plan.routes if each.way is not Way.TUNNEL],
                self._metric,
            )
        for route in routes:
            network = str(route.network)
            match route.way:
                case Way.TUNNEL:
                    with _naming(f"the route to {network}"):
                        made = list(_add_through(netlink, index, route.network))
                    self._through[route.network] = made
                case Way.NOWHERE:
                    with suppress(NetlinkError):  # a host without the family leaks nothing of it
                        netlink.route(
                            "replace",
                            dst=network,
                            type="unreachable",
                            family=_family(route.network),
                            priority=self._metric,
                        )
                case Way.OUTSIDE:
                    way_out = self._way_out(netlink, route.network, index)
                    if way_out is None:
                        log.debug("There is no way out to {network}", network=network)
                        continue
                    self._outside[route.network] = way_out
                    with _naming(f"the way out to {network}"):
                        netlink.route(
                            "replace",
                            dst=network,
                            family=_family(route.network),
                            priority=self._metric,
                            **way_out,
                        )

    def _delete(self, netlink: IPRoute, index: int, route: Route) -> None:
        self._outside.pop(route.network, None)
        if route.way is Way.TUNNEL:
            for network in self._through.pop(route.network, ()):
                delete_route(netlink, network, oif=index)
        else:
            delete_route(netlink, route.network, priority=self._metric)

    def _way_out(self, netlink: IPRoute, network: Network, ours: int) -> dict[str, Any] | None:
        """Where packets to that network went without the tunnel: the longest match, then metric."""
        best: tuple[int, int] | None = None
        way: dict[str, Any] | None = None
        for entry in netlink.get_routes(family=_family(network), table=_MAIN_TABLE):
            attributes = dict(entry["attrs"])
            metric = attributes.get("RTA_PRIORITY", 0)
            out = attributes.get("RTA_OIF")
            if out is None or out == ours or metric == self._metric:
                continue
            if entry["type"] != rt_type["unicast"]:
                continue
            length = entry["dst_len"]
            text = attributes.get("RTA_DST") or ("0.0.0.0" if network.version == 4 else "::")  # noqa: S104 - a destination
            covering = ip_network(f"{text}/{length}", strict=False)
            if (
                covering.version != network.version
                or ip_address(network.network_address) not in covering
            ):
                continue
            rank = (length, -metric)
            if best is None or rank > best:
                best = rank
                way = {"oif": out}
                gateway = attributes.get("RTA_GATEWAY")
                if gateway:
                    way["gateway"] = gateway
        return way


def _set_addresses(
    netlink: IPRoute, index: int, addresses: Iterable[IPv4Interface | IPv6Interface]
) -> None:
    for address in addresses:
        with _naming(f"the address {address.ip}"):
            set_address(netlink, index, address, address.max_prefixlen)


def _add_through(netlink: IPRoute, index: int, network: Network) -> Iterator[Network]:
    """Send a network's packets through the device; gives the networks that took routes.

    The host's own route to the same network is left as it is: its halves win over it.
    """
    metric = {} if network.version == 4 else {"priority": _TUNNEL_METRIC_IPV6}
    try:
        netlink.route("add", dst=str(network), oif=index, **metric)
        yield network
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        if network.prefixlen == network.max_prefixlen:
            netlink.route("replace", dst=str(network), oif=index, **metric)
            yield network
            return
        for half in network.subnets():
            yield from _add_through(netlink, index, half)


def delete_route(netlink: IPRoute, network: Network, **which: object) -> None:
    """Delete a route if it is there."""
    try:
        netlink.route("del", dst=str(network), family=_family(network), **which)
    except NetlinkError as error:
        if error.code not in _GONE:
            log.warn("The route to {network} stays: {why}", network=str(network), why=error)


def delete_leftovers(networks: Sequence[Network], metric: int) -> None:
    """Delete the routes past a tunnel that is no more."""
    if metric not in _METRICS:
        return
    with IPRoute() as netlink:
        for network in networks:
            delete_route(netlink, network, priority=metric)


def _family(network: Network) -> int:
    return 2 if network.version == 4 else 10


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say which part of the plan the kernel refused."""
    try:
        yield
    except NetlinkError as error:
        why = os.strerror(error.code)
        if error.code == errno.EPERM:
            why = "not permitted; become root, or use `anyvpn run` or --socks, which need no root"
        elif error.code in (errno.EACCES, errno.EOPNOTSUPP):
            why = "this host has IPv6 switched off; --disable-ipv6 does without it"
        raise TunUnavailable(f"the tun device cannot have {what}: {why}") from error
