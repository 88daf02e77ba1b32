"""A VPN client in a network namespace, whichever it is: what its device has and moves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from json import loads
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program


class TunnelClient(Program):
    """One run of a client with the tun device `device`."""

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        device: str,
        command: Sequence[str],
        *,
        stdin: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.namespace = namespace
        self.device = device
        super().__init__(
            name,
            namespace.command(command),
            stdin="".join(f"{line}\n" for line in stdin),
            directory=directory,
            environment=environment,
        )

    def moved_bytes(self) -> int:
        """What has gone through its device so far, in both directions."""
        shown = self.namespace.run("ip", "-json", "-stats", "link", "show", "dev", self.device)
        statistics = loads(shown)[0]["stats64"]
        return int(statistics["rx"]["bytes"]) + int(statistics["tx"]["bytes"])

    def ping(self, address: str, *, count: int = 2, size_bytes: int = 56, source: str = "") -> bool:
        """Whether every one of `count` pings through the tunnel is answered."""
        output = self.namespace.run(
            *("ping", "-n", "-c", str(count), "-i", "0.1", "-W", "3", "-s", str(size_bytes)),
            *("-I", source or self.device, address),
            may_fail=True,
        )
        return re.search(rf"\b{count} received", output) is not None
