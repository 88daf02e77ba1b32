"""Debian's ocserv with the network around it, and the clients of ours that a test connects."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from anyvpn.testing import transfer
from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.ocserv import NAME, PASSWORD, PORT, Ocserv
from anyvpn.testing.programs import Program
from tests.interop.network import GATEWAY_ADDRESS, Network
from tests.interop.site import TRANSFER_PORT, Site, Transfer


class OcservSite:
    """What a test works with; `close_clients` after each test, `close` after the last."""

    def __init__(self, network: Network, gateway: Ocserv, directory: Path) -> None:
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
        self._programs.append(client)
        return client

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

    def start_transfer(
        self, client: AnyvpnClient, wanted: str, address: str, *, megabytes: int
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
            client.namespace.command(
                transfer.command(wanted, address, str(TRANSFER_PORT), str(megabytes))
            ),
        )
        self._programs.append(program)
        return program

    def transfer(
        self, client: AnyvpnClient, wanted: str, address: str, *, megabytes: int = 100
    ) -> Transfer:
        """The same, to the end."""
        return Site.result(self.start_transfer(client, wanted, address, megabytes=megabytes))

    def close_clients(self) -> None:
        """End what the test has left running, and let the network be as it was."""
        programs, self._programs = self._programs, []
        for program in programs:
            if program.is_running:
                program.send_signal(signal.SIGINT)
        for program in programs:
            program.stop()
            if isinstance(program, AnyvpnClient):
                assert "Traceback" not in program.output(), program.output()[-3000:]
        self.network.restore()

    def close(self) -> None:
        """End it all."""
        self.close_clients()
        if self._server is not None:
            self._server.kill()
        self.gateway.stop()
