"""Debian's ocserv with the network around it, and the clients of ours that a test connects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.ocserv import NAME, PASSWORD, PORT, Ocserv
from tests.interop.clients import Clients
from tests.interop.network import GATEWAY_ADDRESS, Network


class OcservSite(Clients):
    """What a test works with; `close_clients` after each test, `close` after the last."""

    def __init__(self, network: Network, gateway: Ocserv, directory: Path) -> None:
        super().__init__(network, gateway.namespace)
        self.gateway = gateway
        self._directory = directory

    def client(
        self,
        user: str = "alice",
        *,
        host: int = 1,
        stdin: Sequence[str] = (PASSWORD,),
        options: Sequence[str] = (),
        address: str = GATEWAY_ADDRESS,
        command: str = "connect",
    ) -> AnyvpnClient:
        """Start our client and come back at once."""
        client = AnyvpnClient(
            self.network.host(host).namespace,
            self._directory,
            self.gateway.ca_file,
            user=user,
            stdin=stdin,
            options=("--non-inter", *options),
            server=f"{NAME}:{PORT}",
            address=address,
            command=command,
        )
        return self.started(client)

    def connect(
        self,
        user: str = "alice",
        *,
        host: int = 1,
        options: Sequence[str] = (),
        address: str = GATEWAY_ADDRESS,
    ) -> AnyvpnClient:
        """The same, and wait until its tunnel is set up."""
        client = self.client(user, host=host, options=options, address=address)
        client.wait_until_connected()
        return client

    def close(self) -> None:
        """End it all."""
        self.close_clients()
        self.close_server()
        self.gateway.stop()
