"""A tun device's link and addresses, by netlink: what gateways and clients have in common."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

# From Linux
_NO_LINK_LOCAL_ADDRESS = 1
_NO_DUPLICATE_ADDRESS_DETECTION = 0x02

# Ours: a super-packet of this size, encrypted, still fits one UDP send
LONGEST_SUPER_PACKET_BYTES = 60_000


def bound_super_packets(netlink: IPRoute, index: int) -> None:
    """Let this host's own flows make no longer ones. Raises: NetlinkError: an older kernel.

    Not for a gateway: what comes from elsewhere is as long as it is, and would be cut to single
    packets rather than to shorter super-packets.
    """
    netlink.link("set", index=index, gso_max_size=LONGEST_SUPER_PACKET_BYTES)


def leave_out_link_local(netlink: IPRoute, index: int) -> None:
    """A link-local address would only make noise; a host without IPv6 has none anyway."""
    with suppress(NetlinkError):
        mode = ("IFLA_INET6_ADDR_GEN_MODE", _NO_LINK_LOCAL_ADDRESS)
        af_inet6 = ("AF_INET6", {"attrs": [mode]})
        netlink.link("set", index=index, IFLA_AF_SPEC={"attrs": [af_inet6]})


def keep_addresses_when_down(name: str) -> None:
    """Otherwise IPv6 ones would be gone when somebody sets the device down and up again.

    So they stay where nobody may set them any more; in containers it may not be allowed.
    """
    with suppress(OSError):
        Path(f"/proc/sys/net/ipv6/conf/{name}/keep_addr_on_down").write_text("1\n", "ascii")


def set_address(
    netlink: IPRoute, index: int, address: IPv4Interface | IPv6Interface, prefix_length: int
) -> None:
    """Give the device an address, usable at once. Raises: NetlinkError."""
    flags: dict[str, Any] = {}
    if address.version == 6:
        flags["IFA_FLAGS"] = _NO_DUPLICATE_ADDRESS_DETECTION
    netlink.addr("replace", index=index, address=str(address.ip), prefixlen=prefix_length, **flags)


def delete_bare_address(
    netlink: IPRoute, index: int, address: IPv4Interface | IPv6Interface
) -> None:
    """Take an address with the longest prefix away, if it is there."""
    with suppress(NetlinkError):
        netlink.addr("del", index=index, address=str(address.ip), prefixlen=address.max_prefixlen)
