"""Debian's ocserv: what all others are compared with."""

from __future__ import annotations

from pathlib import Path

from anyvpn.packets.engines import EngineChoice
from anyvpn.testing.ocserv import NAME, PORT, Ocserv
from bench.peers.certificates import Certificates
from bench.processes import Processes
from bench.topology import GATEWAY_ADDRESS, Topology

QUIET = ("--debug", "0")


class OcservGateway:
    """One configuration, one set of processes at a time."""

    server = f"{NAME}:{PORT}"
    engine: EngineChoice = "auto"

    def __init__(self, topology: Topology, directory: Path, certificates: Certificates) -> None:
        self.certificates = certificates
        self._ocserv = Ocserv(
            topology.gateway,
            directory / "ocserv",
            addresses=(GATEWAY_ADDRESS,),
            users=(),
            changes={
                "auth": "certificate",
                "server-cert": str(certificates.server),
                "server-key": str(certificates.server_key),
                "ca-cert": str(certificates.ca),
                "cert-group-oid": None,
                "route": "10.99.0.0/255.255.255.0",
                "ipv4-network": "192.168.64.0",
                "ipv4-netmask": "255.255.192.0",
                "ipv6-network": None,
                # As ours: what probes and keys cost is the same for both
                "dpd": "30",
                "rekey-time": "86400",
            },
        )

    @property
    def processes(self) -> Processes:
        """The main process, the security module, and a worker for each client."""
        return Processes(self._ocserv.program.pid)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._ocserv.start()

    def stop(self) -> None:
        """End it; stopping twice does no harm."""
        self._ocserv.stop()
