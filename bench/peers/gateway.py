"""What a gateway of the AnyConnect protocol is to the benchmarks."""

from __future__ import annotations

from typing import Protocol

from anyvpn.packets.engines import EngineChoice
from bench.peers.certificates import Certificates
from bench.processes import Processes


class Gateway(Protocol):
    """Ours or ocserv; `server` is what clients are told ("name:port")."""

    server: str
    engine: EngineChoice
    """What our client runs with at this gateway."""
    certificates: Certificates

    @property
    def processes(self) -> Processes:
        """What it runs as."""

    def start(self) -> None:
        """Start it and wait until it serves."""

    def stop(self) -> None:
        """End it; stopping twice does no harm."""
