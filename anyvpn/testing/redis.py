"""Debian's redis-server, as a real Redis for tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program


class Redis:
    """The server, which may be killed and started again; it writes each change down.

    `options` are what follows `redis-server`, such as ("--requirepass", "secret"). It answers at
    a socket, and at `port` if that is not 0; with `tls` the port is one of TLS.
    """

    def __init__(
        self,
        directory: Path,
        options: Sequence[str] = (),
        *,
        port: int = 0,
        address: str = "127.0.0.1",
        tls: bool = False,
        namespace: Namespace | None = None,
    ) -> None:
        directory.mkdir(parents=True)
        self.socket = directory / "redis.sock"
        self._namespace = namespace
        self._program: Program | None = None
        ports = ("--port", "0", "--tls-port", str(port)) if tls else ("--port", str(port))
        self._command = (
            *("redis-server", "--dir", str(directory), "--unixsocket", str(self.socket)),
            *("--bind", address, *ports, "--appendonly", "yes", "--appendfsync", "always"),
            *options,
        )

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._program = Program("redis-server", self._here(self._command))
        self._program.wait_for("Ready to accept connections|server is now ready to accept conn")

    def run(self, *command: str) -> str:
        """What `redis-cli` prints for a command; its own options may stand before it."""
        done = subprocess.run(
            self._here(["redis-cli", "-s", str(self.socket), *command]),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.strip()

    @property
    def program(self) -> Program:
        """The running server."""
        assert self._program is not None, "not started"
        return self._program

    def stop(self) -> None:
        """End it."""
        if self._program is not None:
            self._program.stop(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.program.kill()

    def _here(self, command: Sequence[str]) -> list[str]:
        return list(command) if self._namespace is None else self._namespace.command(command)
