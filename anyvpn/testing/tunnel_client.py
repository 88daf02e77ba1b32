"""A VPN client in a network namespace, whichever it is: what its device has and moves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from json import loads
from math import ceil
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program

# Ours
PING_INTERVAL_S = 0.1
LAST_ANSWER_TIME_S = 3.0


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

    def ping(
        self,
        address: str,
        *,
        count: int = 2,
        size_bytes: int = 56,
        source: str = "",
        interval_s: float = PING_INTERVAL_S,
    ) -> bool:
        """Whether every one of `count` pings through the tunnel is answered.

        By itself `ping` waits for the last answer no longer than two of the longest round trips,
        or one interval. With a limit it asks on until it has so many answers: late ones come first.
        """
        limit_s = ceil(count * interval_s + LAST_ANSWER_TIME_S)
        output = self.namespace.run(
            *("ping", "-n", "-c", str(count), "-i", str(interval_s), "-w", str(limit_s)),
            *("-s", str(size_bytes), "-I", source or self.device, address),
            may_fail=True,
        )
        return answered(output) >= set(range(1, count + 1))


def answered(output: str) -> set[int]:
    """The numbers of those pings of which the program has told that they were answered."""
    return {int(each) for each in re.findall(r"icmp_seq=(\d+) ttl=", output)}
