"""The network inside: device, addresses, routes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import rt_type

from anyvpn.errors import TunUnavailable
from anyvpn.tun.link import (
    bound_super_packets,
    delete_bare_address,
    leave_out_link_local,
    set_address,
)

# From Linux
_SMALLEST_IPV6_MTU_BYTES = 1280

# Ours
DEVICE = "vpn0"


def configure(settings: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """Set device, addresses and routes; `before` is what was set last. Raises: TunUnavailable."""
    try:
        with IPRoute() as netlink:
            [index] = netlink.link_lookup(ifname=DEVICE)
            if before is None:
                _prepare(netlink, index)
            netlink.link("set", index=index, mtu=settings["mtu_bytes"], state="up")
            if before is not None:
                _remove_what_is_no_more(netlink, index, settings, before)
            usable = _usable_addresses(settings)
            for address in usable:
                set_address(netlink, index, address, address.max_prefixlen)
            families = {each.version for each in usable}
            for network in settings["routes"]:
                if ip_network(network).version in families:
                    netlink.route("replace", dst=network, oif=index)
            for network in settings["unreachable"]:
                if ip_network(network).version in families:
                    netlink.route("replace", dst=network, type=rt_type["unreachable"])
    except NetlinkError as error:
        raise TunUnavailable(f"the device inside cannot be set up: {error}") from error


def _prepare(netlink: IPRoute, index: int) -> None:
    [loopback] = netlink.link_lookup(ifname="lo")
    netlink.link("set", index=loopback, state="up")
    with suppress(NetlinkError):  # an older kernel has its own bound
        bound_super_packets(netlink, index)
    leave_out_link_local(netlink, index)
    with suppress(OSError):
        # So that `ping` works for a user who may open no raw sockets
        group = os.getegid()
        Path("/proc/sys/net/ipv4/ping_group_range").write_text(f"{group} {group}")


def _usable_addresses(settings: Mapping[str, Any]) -> list[IPv4Interface | IPv6Interface]:
    addresses = [ip_interface(each) for each in settings["addresses"]]
    has_ipv6 = (
        settings["mtu_bytes"] >= _SMALLEST_IPV6_MTU_BYTES
        and Path(f"/proc/sys/net/ipv6/conf/{DEVICE}").is_dir()
    )
    usable = [each for each in addresses if each.version == 4 or has_ipv6]
    if not usable:
        raise TunUnavailable(
            f"the gateway grants IPv6 alone, which this host cannot use at an MTU of "
            f"{settings['mtu_bytes']} bytes"
        )
    return usable


def _remove_what_is_no_more(
    netlink: IPRoute, index: int, settings: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    for network in set(before["routes"]) - set(settings["routes"]):
        with suppress(NetlinkError):  # it went with its address, or was never made
            netlink.route("del", dst=network, oif=index)
    for network in set(before["unreachable"]) - set(settings["unreachable"]):
        with suppress(NetlinkError):
            netlink.route("del", dst=network, type=rt_type["unreachable"])
    for each in set(before["addresses"]) - set(settings["addresses"]):
        delete_bare_address(netlink, index, ip_interface(each))
