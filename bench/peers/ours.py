"""Our gateway, with one of its packet engines."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from anyvpn.errors import EngineUnavailable
from anyvpn.packets.engines import EngineChoice, engine_class
from anyvpn.testing.programs import Program
from bench.peers.certificates import NAME, Certificates
from bench.processes import Processes
from bench.topology import INSIDE_NETWORK, Topology

REPOSITORY = Path(__file__).parents[2]
PORT = 4444
SESSIONS = 16_000
START_TIME_S = 30.0

# What is not said here is as `anyvpn init` leaves it; no limit is below what one host may try
CONFIGURATION = f"""
[gateway]
name = "{NAME}"
listen = ["tcp:{PORT}"]
engine = "{{engine}}"

[tls]
certificate = "{{certificates.server}}"
key = "{{certificates.server_key}}"
client_ca = "{{certificates.ca}}"

[[connection_profiles]]
name = "staff"
authenticator = "certificate"

[authenticators.certificate]
backend = "certificate"
user = "subject.UID"

[authorizer.policies.default]
split_include = ["{INSIDE_NETWORK}"]

[addresses]
pools = [{{{{ name = "ipv4", network = "10.77.0.0/18" }}}}]

[limits]
connections = {SESSIONS}
connections_per_address = {SESSIONS}
hellos_per_address_per_s = {SESSIONS}
"""


def engines() -> tuple[EngineChoice, ...]:
    """The packet engines that there are on this machine, the quickest first."""
    every: tuple[EngineChoice, ...] = ("compiled", "python")
    return tuple(each for each in every if is_installed(each))


def is_installed(engine: EngineChoice) -> bool:
    """Whether our gateway can be run with it here."""
    try:
        engine_class(engine)
    except EngineUnavailable:
        return False
    return True


class OurGateway:
    """One configuration, one process at a time; `server` is what clients are told."""

    server = f"{NAME}:{PORT}"

    def __init__(
        self,
        topology: Topology,
        directory: Path,
        certificates: Certificates,
        engine: EngineChoice,
    ) -> None:
        self.certificates = certificates
        self.engine = engine
        self._topology = topology
        self._directory = directory / f"anyvpn-{engine}"
        self._directory.mkdir(parents=True)
        self._configuration = self._directory / "gateway.toml"
        self._configuration.write_text(
            CONFIGURATION.format(certificates=certificates, engine=engine)
        )
        self._program: Program | None = None

    @property
    def processes(self) -> Processes:
        """What it runs as."""
        assert self._program is not None, "not started"
        return Processes(self._program.pid)

    def start(self) -> None:
        """Start it and wait until it serves."""
        twistd = str(Path(sys.executable).with_name("twistd"))
        command = [
            *(twistd, "--nodaemon", "--pidfile=", "anyvpn-gateway"),
            *("--config", str(self._configuration)),
        ]
        self._program = Program(
            "the gateway",
            self._topology.gateway.command(command),
            environment={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
            directory=self._directory,
        )
        self._program.wait_for(r"Gateway \S+ listens on ", limit_s=START_TIME_S)

    def stop(self) -> None:
        """End it; stopping twice does no harm."""
        program, self._program = self._program, None
        if program is not None:
            program.stop(signal.SIGINT)
