"""The clients that a test connects, the traffic that it lets through, and the end of both."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from json import loads
from typing import TypeVar

from anyvpn.testing import transfer
from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program
from tests.interop.network import Network

TRANSFER_PORT = 7000

_Program = TypeVar("_Program", bound=Program)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer has shown."""

    matches: bool
    received_bytes: int
    megabits_per_s: float


class Clients:
    """What runs in a network beside its gateway, which lives in `gateway_host`."""

    def __init__(self, network: Network, gateway_host: Namespace) -> None:
        self.network = network
        self._gateway_host = gateway_host
        self._programs: list[Program] = []
        self._server: Program | None = None

    def started(self, program: _Program) -> _Program:
        """Have a program ended after the test."""
        self._programs.append(program)
        return program

    def start_transfer(
        self, namespace: Namespace, wanted: str, address: str, *, megabytes: int = 100
    ) -> Program:
        """Begin a download or an upload between a client's host and the gateway's inner address."""
        if self._server is None:
            self._server = Program(
                "the transfer server",
                self._gateway_host.command(transfer.command("serve", str(TRANSFER_PORT))),
            )
            self._server.wait_for("serving")
        command = transfer.command(wanted, address, str(TRANSFER_PORT), str(megabytes))
        return self.started(Program(f"the {wanted}", namespace.command(command)))

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

    def close_clients(self) -> None:
        """End what the test has left running, and let the network be as it was."""
        programs, self._programs = self._programs, []
        for program in programs:
            if program.is_running:
                program.send_signal(signal.SIGINT)
        for program in programs:
            program.stop()
        self.network.restore()
        for program in programs:
            if isinstance(program, AnyvpnClient):
                assert "Traceback" not in program.output(), program.output()[-3000:]

    def close_server(self) -> None:
        """End the other end of transfers."""
        if self._server is not None:
            self._server.kill()
