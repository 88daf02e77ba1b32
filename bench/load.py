"""Our load generator at a gateway: `anyvpn bench`, on the client's host."""

from __future__ import annotations

import os
import signal
import sys
from json import loads
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anyvpn.testing.programs import Program, UnmetExpectation
from bench.peers.gateway import Gateway
from bench.topology import GATEWAY_ADDRESS, Topology

REPOSITORY = Path(__file__).parents[1]
ANY_RATE = "100000"

# Ours
SECONDS_PER_LOGIN = 0.2
"""On a machine that does much else; nobody waits as long on another."""
LONGEST_SILENCE_S = 6
"""A little more than `anyvpn bench` has between two lines about how it goes."""


class Load:
    """Sessions, from when they are all there until the end of the block."""

    def __init__(
        self,
        topology: Topology,
        gateway: Gateway,
        sessions: int,
        *,
        dtls: bool,
        logins_at_once: int = 16,
    ) -> None:
        self._sessions = sessions
        self._dtls = dtls
        certificates = gateway.certificates
        name = gateway.server.rpartition(":")[0]
        self._program = Program(
            "anyvpn bench",
            topology.client.command(
                [
                    *(sys.executable, "-m", "anyvpn.cli.main", "bench"),
                    *(f"https://{gateway.server}", "--resolve", f"{name}:{GATEWAY_ADDRESS}"),
                    *("--cafile", str(certificates.ca), "--non-inter", "--json"),
                    *("--certificate", str(certificates.user)),
                    *("--sslkey", str(certificates.user_key)),
                    *("--sessions", str(sessions), "--rate", ANY_RATE),
                    *("--at-once", str(logins_at_once)),
                    *(() if dtls else ("--no-dtls",)),
                ]
            ),
            environment={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._program.stop(signal.SIGINT, limit_s=60 + self._sessions * SECONDS_PER_LOGIN)

    def wait_until_open(self, *, may_fail: bool = False) -> None:
        """All logins were tried. Raises: UnmetExpectation: some failed, unless they may."""
        limit_s = 60 + self._sessions * SECONDS_PER_LOGIN
        opened = self._program.wait_for(r"Opened: (\d+) of (\d+) connected.*", limit_s=limit_s)
        if opened[1] != opened[2] and not may_fail:
            raise UnmetExpectation(f"not all sessions came: {opened[0]}")

    def wait_until_settled(self) -> None:
        """And all of them have the channel that they should have."""
        over_dtls = self._sessions if self._dtls else 0
        line = f"{self._sessions} of {self._sessions} connected, {over_dtls} over UDP"
        self._program.wait_for(line, limit_s=60)

    def wait_until_begun(self) -> None:
        """Some sessions are there, as it tells first. Raises: UnmetExpectation: none comes."""
        self._program.wait_for(r"\b[1-9]\d* of \d+ connected", limit_s=60)

    def connected(self) -> int:
        """How many sessions there are, as it tells next. Raises: UnmetExpectation: it has ended."""
        line = rf"\b(\d+) of {self._sessions} connected"
        return int(self._program.wait_for(line, since=self._program.position)[1])

    def finish(self) -> dict[str, Any]:
        """Say goodbye; gives the report. Raises: UnmetExpectation: sessions were lost."""
        self._program.stop(signal.SIGINT, limit_s=60 + self._sessions * SECONDS_PER_LOGIN)
        lines = self._program.output().splitlines()
        if "{" not in lines:
            raise UnmetExpectation(f"no report\n{self._program.output()[-2000:]}")
        found: dict[str, Any] = loads("\n".join(lines[lines.index("{") : lines.index("}") + 1]))
        return found
