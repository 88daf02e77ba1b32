"""A gateway with the network around it, and the clients that a test connects to it."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path

from anyvpn.testing import transfer
from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.openconnect import OpenConnect
from anyvpn.testing.programs import Program
from tests.interop.gateway import NAME, PASSWORD, PORT, Gateway
from tests.interop.network import GATEWAY_ADDRESS, Network

TRANSFER_PORT = 7000

INNER_NETWORK = "10.77.0.0/24"
INNER_NETWORK_IPV6 = "fd77::/64"

BASE: Mapping[str, object] = {
    "addresses": {
        "backend": "pool",
        "pools": [
            {"name": "ipv4", "network": INNER_NETWORK},
            {"name": "ipv6", "network": INNER_NETWORK_IPV6},
        ],
    },
}


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer has shown."""

    matches: bool
    received_bytes: int
    megabits_per_s: float


class Site:
    """What a test works with; `close_clients` after each test, `close` after the last."""

    def __init__(self, network: Network, gateway: Gateway, directory: Path) -> None:
        self.network = network
        self.gateway = gateway
        self._directory = directory
        self._programs: list[Program] = []
        self._server: Program | None = None

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
            self._directory,
            self.gateway.ca_file,
            user=user,
            stdin=stdin,
            networks=self.gateway.inner_networks,
            options=options,
            path=path,
            server=f"{NAME}:{PORT}",
            address=gateway_address,
        )
        self._programs.append(client)
        return client

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
    ) -> AnyvpnClient:
        """Start our own client and come back at once."""
        client = AnyvpnClient(
            self.network.host(host).namespace,
            self._directory,
            self.gateway.ca_file,
            user=user,
            stdin=stdin,
            options=("--non-inter", *options),
            server=server,
            address=GATEWAY_ADDRESS,
            command=command,
        )
        self._programs.append(client)
        return client

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

    def start_transfer(
        self, namespace: Namespace, wanted: str, address: str, *, megabytes: int = 100
    ) -> Program:
        """Begin a download or an upload between a client's host and the gateway's inner address."""
        if self._server is None:
            self._server = Program(
                "the transfer server",
                self.gateway.namespace.command(transfer.command("serve", str(TRANSFER_PORT))),
            )
            self._server.wait_for("serving")
        program = Program(
            f"the {wanted}",
            namespace.command(
                transfer.command(wanted, address, str(TRANSFER_PORT), str(megabytes))
            ),
        )
        self._programs.append(program)
        return program

    def transfer(
        self, namespace: Namespace, wanted: str, address: str, *, megabytes: int = 100
    ) -> Transfer:
        """The same, to the end."""
        program = self.start_transfer(namespace, wanted, address, megabytes=megabytes)
        return self.result(program)

    @staticmethod
    def result(program: Program, *, limit_s: float = 120.0) -> Transfer:
        """Wait for a transfer that was begun."""
        found = loads(program.wait_for(r"^\{.*\}$", limit_s=limit_s)[0])
        return Transfer(found["matches"], found["bytes"], found["megabits_per_s"])

    @staticmethod
    def datagrams(namespace: Namespace) -> int:
        """How many datagrams a client's host has sent and received; DTLS is all of its UDP."""
        lines = namespace.run("cat", "/proc/net/snmp").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Udp:"))
        counts = dict(zip(names[1:], map(int, values[1:]), strict=True))
        return counts["InDatagrams"] + counts["OutDatagrams"]

    def close_clients(self) -> None:
        """End what the test has left running, and let the network be as it was."""
        programs, self._programs = self._programs, []
        for program in programs:
            if program.is_running:
                program.send_signal(signal.SIGINT)
        for program in programs:
            program.stop()
        self.network.restore()

    def close(self) -> None:
        """End it all; the gateway's log is looked through."""
        self.close_clients()
        if self._server is not None:
            self._server.kill()
        self.gateway.stop()
