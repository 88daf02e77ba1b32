"""The rows of the report, and what ours must reach in each, against whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Who takes part: a gateway and a client
OCSERV = "ocserv"
PYTHON, COMPILED = "python", "compiled"
PYTHON_OWN, COMPILED_OWN = "python-own", "compiled-own"
WIREGUARD, OPENVPN = "wireguard-go", "openvpn"

TITLES = {
    OCSERV: "ocserv × openconnect",
    PYTHON: "anyvpn, Python engine × openconnect",
    COMPILED: "anyvpn, compiled engine × openconnect",
    PYTHON_OWN: "anyvpn, Python engine × our client",
    COMPILED_OWN: "anyvpn, compiled engine × our client",
    WIREGUARD: "wireguard-go, both ends",
    OPENVPN: "OpenVPN, both ends",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What `subject` must reach: `limit` times what `against` shows, or `limit` itself."""

    subject: str
    limit: float
    against: str = OCSERV


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report; targets are limits from below where `more_is_better`."""

    key: str
    title: str
    unit: str
    targets: tuple[Target, ...] = ()
    more_is_better: bool = False

    @property
    def measured(self) -> str:
        """What, and in which unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


def _traffic_rows() -> Iterator[Row]:
    for channel, name in (("dtls", "DTLS"), ("cstp", "CSTP over TLS")):
        for direction in ("down", "up"):
            for streams in (1, 8):
                key = f"{channel}.{direction}.{streams}"
                flows = "1 TCP stream" if streams == 1 else f"{streams} TCP streams"
                title = f"{name}, {flows} {direction}"
                yield Row(f"{key}.cpu", title, "CPU-s/GB", _cpu_targets(channel, direction))
                fast = channel == "dtls" and streams == 1
                rate_targets = (Target(COMPILED_OWN, 3.0), Target(COMPILED_OWN, 1.5, WIREGUARD))
                yield Row(f"{key}.rate", title, "Gbit/s", rate_targets if fast else (), True)


def _cpu_targets(channel: str, direction: str) -> tuple[Target, ...]:
    if channel == "cstp":
        return (Target(PYTHON, 1.0), Target(COMPILED, 0.5))
    python, compiled = (0.75, 0.35) if direction == "down" else (1.0, 0.5)
    return (
        Target(PYTHON, python),
        Target(COMPILED, compiled),
        Target(COMPILED_OWN, 0.25),
        Target(COMPILED_OWN, 0.5, WIREGUARD),
    )


def _small_packet_rows() -> Iterator[Row]:
    targets = (Target(PYTHON, 1.5), Target(COMPILED, 0.6))
    for size_bytes in (100, 512):
        for direction in ("down", "up"):
            title = f"DTLS, UDP of {size_bytes} bytes {direction}"
            wanted = targets if size_bytes == 100 else ()
            yield Row(f"dtls.{direction}.udp{size_bytes}.cpu", title, "CPU-µs/packet", wanted)


def _ping_rows() -> Iterator[Row]:
    targets = (Target(PYTHON, 1.0), Target(COMPILED, 1.0))
    for state, title in (("idle", "ping"), ("loaded", "ping beside a download")):
        yield Row(f"dtls.ping.{state}.p50", f"{title}, median", "ms")
        yield Row(f"dtls.ping.{state}.p99", f"{title}, 99th percentile", "ms", targets)


def _both(limit: float, against: str = OCSERV) -> tuple[Target, ...]:
    return (Target(PYTHON, limit, against), Target(COMPILED, limit, against))


ROWS: tuple[Row, ...] = (
    *_traffic_rows(),
    *_small_packet_rows(),
    *_ping_rows(),
    Row("login.cpu", "login and CONNECT", "CPU-ms", _both(1.0)),
    Row("login.wall", "login and CONNECT, one after the other", "ms"),
    Row("session.memory", "memory of an idle session", "KiB", _both(64.0, "")),
    Row("idle.held", "idle sessions held, of those opened", "sessions", _both(10_000, ""), True),
    Row("idle.rss", "memory of the process that holds them", "MB", _both(1000.0, "")),
    Row("idle.core", "what they take of a core", "%", _both(20.0, "")),
    Row("crowd.share", "clients at once: smallest share over largest", "", (), True),
    Row("crowd.stalled", "throughput of the rest when one stalls", "", _both(0.9, ""), True),
)
