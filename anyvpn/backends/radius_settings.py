"""RADIUS servers as they stand in the configuration, and who we are to them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import attrs

from anyvpn.backends.radius_client import Server
from anyvpn.backends.radius_packets import FRAMED_SERVICE, VIRTUAL_PORT, clipped
from anyvpn.errors import ConfigurationError


@attrs.frozen
class ServerSettings:
    """One server, and where its secret stands."""

    host: str = attrs.field(metadata={"help": "Its name or address.", "example": "10.0.0.5"})
    secret_file: Path = attrs.field(
        metadata={
            "help": "File whose first line is the secret that it shares with us.",
            "example": "radius-secret",
        }
    )
    port: int = attrs.field(default=0, metadata={"help": "Its UDP port; 0: the usual one."})

    def __attrs_post_init__(self) -> None:
        if not self.host or not self.host.isprintable():
            raise ValueError("host must be a name or an address")
        if not 0 <= self.port <= 65535:
            raise ValueError("port must lie between 0 and 65535")


@attrs.frozen
class ClientSettings:
    """What everything that asks RADIUS servers is told."""

    servers: tuple[ServerSettings, ...] = attrs.field(
        metadata={"help": "The servers, asked in this order until one of them answers."}
    )
    nas_identifier: str = attrs.field(
        default="anyvpn", metadata={"help": "Our name, as the servers see it (NAS-Identifier)."}
    )
    nas_address: IPv4Address | IPv6Address | None = attrs.field(
        default=None, metadata={"help": "Our address, if the servers want to see it."}
    )
    tries: int = attrs.field(default=3, metadata={"help": "How often a server is asked at a time."})
    time_s: float = attrs.field(
        default=3.0, metadata={"help": "How long to wait for an answer each time, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        if not self.servers:
            raise ValueError("servers must have one at least")
        if not self.nas_identifier:
            raise ValueError("nas_identifier must not be empty")
        if not 1 <= self.tries <= 10:
            raise ValueError("tries must lie between 1 and 10")
        if not 0 < self.time_s <= 60:
            raise ValueError("time_s must be more than 0 and at most 60")

    def about(self, peer_address: str) -> dict[str, object]:
        """Attributes of each request: who we are, what we offer, and where the client is."""
        peer = clipped(peer_address)
        attributes: dict[str, object] = {
            "NAS-Identifier": clipped(self.nas_identifier),
            "NAS-Port-Type": VIRTUAL_PORT,
            "Service-Type": FRAMED_SERVICE,
            "Calling-Station-Id": peer,
            "Tunnel-Client-Endpoint": peer,
        }
        if self.nas_address is not None:
            is_ipv4 = self.nas_address.version == 4
            name = "NAS-IP-Address" if is_ipv4 else "NAS-IPv6-Address"
            attributes[name] = str(self.nas_address)
        return attributes


def read_servers(servers: Iterable[ServerSettings], usual_port: int = 1812) -> tuple[Server, ...]:
    """The servers with their secrets. Raises: ConfigurationError."""
    found: list[Server] = []
    problems: list[str] = []
    for each in servers:
        try:
            line = each.secret_file.read_bytes().split(b"\n")[0].rstrip(b"\r")
        except OSError as error:
            problems.append(
                f"servers: secret_file {each.secret_file} cannot be read: {error.strerror}"
            )
            continue
        if not line:
            problems.append(
                f"servers: secret_file {each.secret_file} has no secret in its first line"
            )
        found.append(Server(each.host, each.port or usual_port, line))
    if problems:
        raise ConfigurationError(*problems)
    return tuple(found)
