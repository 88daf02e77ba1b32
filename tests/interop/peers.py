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


class Client(Protocol):
    """Start our client and come back at once."""

    def __call__(
        self,
        user: str = ...,
        *,
        host: int = ...,
        stdin: Sequence[str] = ...,
        options: Sequence[str] = ...,
        command: str = ...,
    ) -> AnyvpnClient: ...


class Peer(NamedTuple):
    """A gateway with its network: `address` is its own inside the tunnel."""

    clients: Clients
    connect: Connect
    address: str
    client: Client

    def log_in(self) -> str:
        """The session token of a login."""
        program = self.client(command="authenticate")
        return program.wait_for(r"^COOKIE='(.*)'$")[1]

    def connect_with(self, cookie: str, *, host: int = 1) -> AnyvpnClient:
        """Start our client with a token and wait until its tunnel is set up."""
        client = self.client("", host=host, stdin=(cookie,), options=("--cookie-on-stdin",))
        client.wait_until_connected()
        return client


def ocserv_as_peer(ocserv: OcservSite) -> Peer:
    """Debian's ocserv."""
    return Peer(ocserv, ocserv.connect, ocserv.gateway.gateway_address, ocserv.client)


def gateway_as_peer(site: Site, user: str = "alice") -> Peer:
    """Our own gateway."""
    connect = partial(site.connect_ours, user)
    return Peer(site, connect, site.gateway.inner_addresses[0], site.ours)
