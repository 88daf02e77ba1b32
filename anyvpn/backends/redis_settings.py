"""A Redis server as it stands in the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs

# From the protocol: the schemes that IANA lists for Redis, with their usual port
_USUAL_PORTS = {"redis": 6379, "rediss": 6379}

# Ours
LONGEST_TIME_S = 30.0
_LIKE = (
    'url must be like "redis://redis.example.com:6379/0", "rediss://redis.example.com" or '
    '"unix:///run/redis/redis.sock"'
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a server is; with a `path` it is a socket of this machine."""

    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False
    user: str = ""
    database: int = 0
    url: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.url


def _help(text: str, example: object = None) -> dict[str, object]:
    return {"help": text} if example is None else {"help": text, "example": example}


@attrs.frozen
class RedisSettings:
    """The server, how it knows us, and how long it may take."""

    url: str = attrs.field(
        metadata=_help(
            "redis://[USER@]HOST[:PORT][/DATABASE], rediss:// for TLS, or unix:///PATH.",
            "rediss://redis.example.com:6380",
        )
    )
    password_file: Path | None = attrs.field(
        default=None, metadata=_help("File whose first line is the password.")
    )
    ca_file: Path | None = attrs.field(
        default=None,
        metadata=_help("Authorities of the server (PEM) with rediss://; none: the system's."),
    )
    certificate_file: Path | None = attrs.field(
        default=None, metadata=_help("Our certificate (PEM) for servers that ask for one.")
    )
    private_key_file: Path | None = attrs.field(
        default=None, metadata=_help("Its private key (PEM).")
    )
    prefix: str = attrs.field(
        default="anyvpn:", metadata=_help("What the names of our keys begin with.")
    )
    time_s: float = attrs.field(
        default=3.0, metadata=_help("How long an answer may take, connection and all, in seconds.")
    )

    def __attrs_post_init__(self) -> None:
        address = read_address(self.url)
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ValueError("certificate_file and private_key_file go together")
        if not address.tls and (self.ca_file or self.certificate_file):
            raise ValueError("url must begin with rediss:// where certificates are used")
        if address.user and self.password_file is None:
            raise ValueError(f'url names the user "{address.user}", who needs a password_file')
        if not self.prefix.isprintable():
            raise ValueError("prefix must be printable text")
        if not 0 < self.time_s <= LONGEST_TIME_S:
            raise ValueError(f"time_s must be more than 0 and at most {LONGEST_TIME_S:g}")
        if find_spec("txredisapi") is None:
            raise ValueError("url: the library txredisapi is missing: pip install 'anyvpn[redis]'")


def read_address(url: str) -> RedisAddress:
    """A server's URL. Raises: ValueError: it leads nowhere."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{_LIKE}, not {url!r}") from None
    if parts.password is not None:
        raise ValueError("url must not hold the password; put it into a password_file")
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc + parts.query:
        return RedisAddress(path=unquote(parts.path), url=url)
    database = parts.path.removeprefix("/")
    if (
        parts.scheme not in _USUAL_PORTS
        or not parts.hostname
        or port == 0
        or (database and not (database.isascii() and database.isdigit() and len(database) < 6))
        or parts.query
        or parts.fragment
        or not url.isprintable()
    ):
        raise ValueError(f"{_LIKE}, not {url!r}")
    return RedisAddress(
        host=parts.hostname,
        port=port or _USUAL_PORTS[parts.scheme],
        tls=parts.scheme == "rediss",
        user=unquote(parts.username or ""),
        database=int(database or 0),
        url=url,
    )
