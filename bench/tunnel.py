"""A tunnel that is up, as measures see it, whosever it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from signal import Signals

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import UnmetExpectation
from bench.processes import Processes
from bench.topology import CABLE, GATEWAY_ADDRESS, moved_bytes

# Ours
OTHER_CHANNEL_SHARE = 0.05


class Channel(Enum):
    """What carries the packets."""

    DATAGRAMS = "dtls"
    STREAM = "cstp"


@dataclass(frozen=True, slots=True)
class Counters:
    """Bytes so far, both directions together: within the tunnel, on the cable, of that by TCP."""

    inner: int
    outer: int
    outer_tcp: int


@dataclass(frozen=True, slots=True)
class OpenTunnel:
    """`host` and `device` are the client's; `cipher` is what both sides have agreed on."""

    host: Namespace
    device: str
    channel: Channel
    cipher: str
    mtu_bytes: int
    gateway: Processes
    send_signal: Callable[[Signals], object]
    """To the client's process."""
    close: Callable[[], object]

    def counters(self) -> Counters:
        """What has gone where so far."""
        connections = self.host.run("ss", "-tinH", "dst", GATEWAY_ADDRESS)
        by_tcp = re.findall(r"\bbytes_(?:sent|received):(\d+)", connections)
        return Counters(
            moved_bytes(self.host, self.device),
            moved_bytes(self.host, CABLE),
            sum(map(int, by_tcp)),
        )

    def check(self, before: Counters, after: Counters, received_bytes: float) -> None:
        """Raises: UnmetExpectation: it went around the tunnel, or over another channel."""
        by_tcp = after.outer_tcp - before.outer_tcp
        if after.inner - before.inner < received_bytes:
            raise UnmetExpectation(f"the data did not go through {self.device}: {before} {after}")
        if after.outer - before.outer < received_bytes:
            raise UnmetExpectation(f"the data did not go over {CABLE}: {before} {after}")
        if self.channel is Channel.STREAM and by_tcp < received_bytes:
            raise UnmetExpectation(f"the data did not go over TLS: {before} {after}")
        if self.channel is Channel.DATAGRAMS and by_tcp > received_bytes * OTHER_CHANNEL_SHARE:
            raise UnmetExpectation(f"the data did not go over UDP: {before} {after}")
