"""RADIUS servers as they stand in the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from anyvpn.backends.radius_client import Server
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
