"""A gateway with the network around it, and the clients that a test connects to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.openconnect import OpenConnect
from tests.interop.clients import Clients
from tests.interop.gateway import NAME, PASSWORD, PORT, Gateway
from tests.interop.network import GATEWAY_ADDRESS, Network

INNER_NETWORK = "10.77.0.0/24"
INNER_NETWORK_IPV6 = "fd77::/64"

MANY_FAILURES: Mapping[str, object] = {"failures_before_ban": 0, "failures_per_user": 0}
"""For `limits`, where a module lets more logins fail than a gateway would stand."""

BASE: Mapping[str, object] = {
    "addresses": {
        "backend": "pool",
        "pools": [
            {"name": "ipv4", "network": INNER_NETWORK},
            {"name": "ipv6", "network": INNER_NETWORK_IPV6},
        ],
    },
}


class Site(Clients):
    """What a test works with; `close_clients` after each test, `close` after the last."""

    def __init__(self, network: Network, gateway: Gateway, directory: Path) -> None:
        super().__init__(network, gateway.namespace)
        self.gateway = gateway
        self.directory = directory

    def client(
        self,
        user: str = "alice",
        *,
        host: int = 1,
        stdin: Sequence[str] = (PASSWORD,),
        options: Sequence[str] = (),
        path: str = "",
        gateway_address: str = GATEWAY_ADDRESS,
    ) -> OpenConnect:
        """Start openconnect and come back at once."""
        client = OpenConnect(
            self.network.host(host).namespace,
            self.directory,
            self.gateway.ca_file,
            user=user,
            stdin=stdin,
            networks=self.gateway.inner_networks,
            options=options,
            path=path,
            server=f"{NAME}:{PORT}",
            address=gateway_address,
        )
        return self.started(client)

    def connect(
        self,
        user: str = "alice",
        *,
        host: int = 1,
        stdin: Sequence[str] = (PASSWORD,),
        options: Sequence[str] = (),
        path: str = "",
        gateway_address: str = GATEWAY_ADDRESS,
    ) -> OpenConnect:
        """Start openconnect and wait until its tunnel is set up."""
        client = self.client(
            user,
            host=host,
            stdin=stdin,
            options=options,
            path=path,
            gateway_address=gateway_address,
        )
        client.wait_until_configured()
        return client

    def ours(
        self,
        user: str = "alice",
        *,
        host: int = 1,
        stdin: Sequence[str] = (PASSWORD,),
        options: Sequence[str] = (),
        command: str = "connect",
        server: str = f"{NAME}:{PORT}",
        address: str = GATEWAY_ADDRESS,
        at_terminal: bool = False,
    ) -> AnyvpnClient:
        """Start our own client and come back at once."""
        client = AnyvpnClient(
            self.network.host(host).namespace,
            self.directory,
            self.gateway.ca_file,
            user=user,
            stdin=stdin,
            options=("--non-inter", *options),
            server=server,
            address=address,
            command=command,
            at_terminal=at_terminal,
        )
        return self.started(client)

    def connect_ours(
        self,
        user: str = "alice",
        *,
        host: int = 1,
        stdin: Sequence[str] = (PASSWORD,),
        options: Sequence[str] = (),
    ) -> AnyvpnClient:
        """The same, and wait until its tunnel is set up."""
        client = self.ours(user, host=host, stdin=stdin, options=options)
        client.wait_until_connected()
        return client

    def refused(
        self,
        user: str = "alice",
        *,
        ours: bool,
        host: int = 1,
        stdin: Sequence[str] = (PASSWORD,),
        options: Sequence[str] = (),
    ) -> OpenConnect | AnyvpnClient:
        """Start either client, which must end without a tunnel."""
        start = self.ours if ours else self.client
        client = start(user, host=host, stdin=stdin, options=options)
        status = client.wait_for_end()
        assert status == 3 if ours else status != 0, client.output()
        assert not client.find("Configured as|^Connected: "), client.output()
        return client

    def log_in(self, user: str = "alice", *, host: int = 1, options: Sequence[str] = ()) -> str:
        """Authenticate only; gives the cookie."""
        client = self.client(user, host=host, options=("--authenticate", *options))
        cookie = client.wait_for(r"^COOKIE='(.*)'$")[1]
        client.wait_for_end()
        return cookie

    def connect_with(
        self, cookie: str, *, host: int = 1, options: Sequence[str] = ()
    ) -> OpenConnect:
        """Start openconnect with a cookie and come back at once."""
        return self.client("", host=host, stdin=(cookie,), options=("--cookie-on-stdin", *options))

    @staticmethod
    def datagrams(namespace: Namespace) -> int:
        """How many datagrams a client's host has sent and received; DTLS is all of its UDP."""
        lines = namespace.run("cat", "/proc/net/snmp").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Udp:"))
        counts = dict(zip(names[1:], map(int, values[1:]), strict=True))
        return counts["InDatagrams"] + counts["OutDatagrams"]

    def close(self) -> None:
        """End it all; the gateway's log is looked through."""
        self.close_clients()
        self.close_server()
        self.gateway.stop()
