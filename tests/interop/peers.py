"""What our client meets: ocserv or our own gateway, in one way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from anyvpn.testing.anyvpn_client import AnyvpnClient
from tests.interop.clients import Clients
from tests.interop.ocserv_site import OcservSite
from tests.interop.site import Site


class Connect(Protocol):
    """Start our client and wait until its tunnel is set up."""

    def __call__(self, *, host: int = 1, options: Sequence[str] = ()) -> AnyvpnClient: ...


class Peer(NamedTuple):
    """A gateway with its network: `address` is its own inside the tunnel."""

    clients: Clients
    connect: Connect
    address: str


def ocserv_as_peer(ocserv: OcservSite) -> Peer:
    """Debian's ocserv."""
    return Peer(ocserv, ocserv.connect, ocserv.gateway.gateway_address)


def gateway_as_peer(site: Site, user: str = "alice") -> Peer:
    """Our own gateway."""
    return Peer(site, partial(site.connect_ours, user), site.gateway.inner_addresses[0])
