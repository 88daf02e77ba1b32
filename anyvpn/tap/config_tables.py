"""The tables of the configuration file that are not a backend's, with the help for each key."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_type_hints

import attrs

from anyvpn.gateway.settings import DEFAULT_CIPHERS, Limits

# From the protocol: what a UDP header has room for, and the least that IPv6 asks of a link
LARGEST_PORT = 65535
SMALLEST_TUN_MTU_BYTES = 1280
# From Linux (unix(7)): what a socket's address has room for
LONGEST_SOCKET_PATH_BYTES = 107

# Ours
LARGEST_TUN_MTU_BYTES = 9000
LARGEST_LIMIT = 1e9
MAY_BE_ZERO = frozenset(("failures_before_ban", "failures_per_user"))

_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _between(least: float, most: float) -> _Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if isinstance(value, (int, float)) and not least <= value <= most:
            raise ValueError(f"{attribute.name} must lie between {least:g} and {most:g}")

    return validate


def _above_zero(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, (int, float)) and not 0 < value <= LARGEST_LIMIT:
        raise ValueError(f"{attribute.name} must be more than 0")


def _not_empty(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not value:
        raise ValueError(f"{attribute.name} must not be empty")


@attrs.frozen
class GatewayTable:
    """Who the gateway is and where it listens."""

    name: str = attrs.field(
        validator=_not_empty,
        metadata={"help": "Name of the gateway, as clients know it.", "example": "vpn.example.com"},
    )
    listen: tuple[str, ...] = attrs.field(
        default=("tcp:443",),
        validator=_not_empty,
        metadata={"help": r"Twisted endpoint strings; IPv6: 'tcp:443:interface=\:\:'."},
    )
    default_profile: str = attrs.field(
        default="",
        metadata={
            "help": "Connection profile of clients that choose none; empty: the first.",
        },
    )
    report_interval_s: int = attrs.field(
        default=300,
        validator=_between(0, 86400),
        metadata={"help": "Seconds between reports of a session's traffic to listeners; 0: none."},
    )
    engine: Literal["auto", "compiled", "python"] = attrs.field(
        default="auto",
        metadata={"help": "Packet engine; auto: the compiled one where it is installed."},
    )
    shutdown: Literal["resume", "disconnect"] = attrs.field(
        default="resume",
        metadata={
            "help": "When it stops: resume (clients come back with their session), disconnect."
        },
    )


@attrs.frozen
class VirtualHostTable:
    """A certificate of its own for some host names."""

    names: tuple[str, ...] = attrs.field(
        validator=_not_empty,
        metadata={
            "help": "Host names that clients use for it (SNI).",
            "example": ("other.example.com",),
        },
    )
    certificate: Path = attrs.field(
        metadata={
            "help": "Certificate and intermediate ones (PEM), the gateway's own first.",
            "example": "other.pem",
        }
    )
    key: Path = attrs.field(
        metadata={
            "help": "Private key of this certificate (PEM, without passphrase).",
            "example": "other-key.pem",
        }
    )


@attrs.frozen
class TLSTable:
    """Certificates and ciphers of the VPN port."""

    certificate: Path = attrs.field(
        metadata={
            "help": "Certificate and intermediate ones (PEM), the gateway's own first.",
            "example": "server.pem",
        }
    )
    key: Path = attrs.field(
        metadata={
            "help": "Private key of this certificate (PEM, without passphrase).",
            "example": "server-key.pem",
        }
    )
    client_ca: Path | None = attrs.field(
        default=None,
        metadata={
            "help": "CAs (PEM) of client certificates; with it, clients are asked for one.",
            "example": "client-ca.pem",
        },
    )
    minimum_version: Literal["1.2", "1.3"] = attrs.field(
        default="1.2", metadata={"help": "Oldest version of TLS that is accepted: 1.2 or 1.3."}
    )
    ciphers: str = attrs.field(
        default=DEFAULT_CIPHERS,
        metadata={"help": "Cipher suites of TLS 1.2, as an OpenSSL cipher list."},
    )
    virtual_hosts: tuple[VirtualHostTable, ...] = attrs.field(
        default=(), metadata={"help": "Further certificates, chosen by host name."}
    )


@attrs.frozen
class DTLSTable:
    """The UDP side; without it all data goes over TLS."""

    enabled: bool = attrs.field(
        default=True, metadata={"help": "Whether clients may use UDP (DTLS)."}
    )
    port: int | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(_between(1, LARGEST_PORT)),
        metadata={
            "help": "UDP port; the first TCP port of gateway.listen by default.",
            "example": 443,
        },
    )
    interfaces: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"help": "Addresses to receive UDP at; empty: those of gateway.listen."},
    )
    psk: bool = attrs.field(
        default=True,
        metadata={"help": "Whether PSK-NEGOTIATE, the choice of openconnect, is accepted."},
    )
    legacy: bool = attrs.field(
        default=False,
        metadata={"help": "Whether old clients may use CBC suites and Cisco's first DTLS."},
    )
    verify_hellos: bool = attrs.field(
        default=False,
        metadata={"help": "Whether a client must first answer a cookie (HelloVerifyRequest)."},
    )


@attrs.frozen
class ConnectionProfileTable:
    """One entry of the group menu: who authenticates its users."""

    name: str = attrs.field(
        validator=_not_empty,
        metadata={"help": "Name of the connection profile (tunnel group)."},
    )
    alias: str = attrs.field(
        default="", metadata={"help": "Name in the clients' menu; empty: the name."}
    )
    group_urls: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"help": "URLs that choose it: '/staff' or 'vpn.example.com/staff'."},
    )
    listed: bool = attrs.field(
        default=True, metadata={"help": "Whether the menu shows it; if not, its URLs choose it."}
    )
    authenticator: str = attrs.field(
        metadata={"help": "Which of [authenticators] checks its users."}, kw_only=True
    )


@attrs.frozen
class TunTable:
    """What all kinds of tun devices have."""

    mtu_bytes: int = attrs.field(
        default=1500,
        validator=_between(SMALLEST_TUN_MTU_BYTES, LARGEST_TUN_MTU_BYTES),
        metadata={"help": "Largest inner packet of the device, in bytes."},
    )


@attrs.frozen
class ControlTable:
    """Where `anyvpn status` asks; only the user that the gateway runs as may, and root."""

    enabled: bool = attrs.field(
        default=True, metadata={"help": "Whether the running gateway can be asked what it does."}
    )
    socket: Path | None = attrs.field(
        default=None,
        metadata={
            "help": "Unix socket; by default beside this file: gateway.sock for gateway.toml.",
            "example": "/run/anyvpn/gateway.sock",
        },
    )

    def path(self, file: Path) -> Path:
        """Where the socket of this configuration file is."""
        return self.socket or file.absolute().with_suffix(".sock")

    def fits(self, file: Path) -> bool:
        """Whether the path is short enough for a socket's."""
        return len(os.fsencode(self.path(file))) <= LONGEST_SOCKET_PATH_BYTES


_LIMIT_HELP = {
    "handshake_time_s": "Seconds that a TLS handshake may take.",
    "request_time_s": "Seconds that a client may take to send one request.",
    "keep_alive_s": "Seconds that a connection may wait for its next request.",
    "requests_per_connection": "Requests on one connection before a tunnel.",
    "connections": "TCP connections at a time.",
    "connections_per_address": "TCP connections at a time from one address.",
    "login_time_s": "Seconds that a login may take from its first form on.",
    "login_tries": "Wrong passwords in one login until it is refused.",
    "pending_logins": "Logins under way at a time.",
    "pending_logins_per_address": "Logins under way at a time from one address.",
    "token_time_s": "Seconds from the login until the tunnel must be there.",
    "failures_before_ban": "Failed logins of one address until it is shut out; 0: never.",
    "failures_per_user": "Failed logins of one user until only known addresses help it; 0: never.",
    "ban_time_s": "Seconds that it is shut out, and within which its failures count.",
    "hellos_per_address_per_s": "DTLS handshakes that one address may begin in a second.",
}


def _limit(field: dataclasses.Field[Any]) -> Any:
    validator = _between(0, LARGEST_LIMIT) if field.name in MAY_BE_ZERO else _above_zero
    return attrs.field(
        default=field.default,
        validator=validator,
        type=get_type_hints(Limits)[field.name],
        metadata={"help": _LIMIT_HELP.get(field.name, "")},
    )


LimitsTable = attrs.make_class(
    "LimitsTable",
    {each.name: _limit(each) for each in dataclasses.fields(Limits)},
    frozen=True,
)
LimitsTable.__doc__ = "What peers may cost; times in seconds."


class Shape(Enum):
    """How a section stands in the file."""

    TABLE = "[{}]"
    ARRAY = "[[{}]]"
    NAMED = "[{}.NAME]"


@dataclass(frozen=True, slots=True)
class Section:
    """One top-level table of the file.

    `table` holds the keys that are ours; a `kind` says that a backend of this kind is chosen by
    the key `backend` (`default_backend` when it is not given), whose settings stand beside it.
    `default` is what a file without this section means.
    """

    key: str
    summary: str
    shape: Shape = Shape.TABLE
    table: type | None = None
    kind: str = ""
    default_backend: str = ""
    default: object = None


SECTIONS: tuple[Section, ...] = (
    Section("gateway", "The gateway itself.", table=GatewayTable),
    Section("tls", "Certificates and ciphers of the VPN port.", table=TLSTable),
    Section("dtls", "The UDP side; clients prefer it.", table=DTLSTable, default={}),
    Section(
        "connection_profiles",
        "Connection profiles (tunnel groups): what clients choose in their menu.",
        Shape.ARRAY,
        ConnectionProfileTable,
    ),
    Section(
        "authenticators",
        "Authenticators, by the name that connection profiles use: who are you?",
        Shape.NAMED,
        kind="authenticator",
    ),
    Section(
        "authorizer",
        "The authorizer: what may you have?",
        kind="authorizer",
        default_backend="static",
        default={},
    ),
    Section(
        "addresses",
        "Inner addresses, lent to clients.",
        kind="addresses",
        default_backend="pool",
    ),
    Section(
        "profiles",
        "Client profiles: the AnyConnect XML files that clients download.",
        kind="profiles",
        default_backend="directory",
        default={},
    ),
    Section(
        "tun",
        "The tun device: the gateway's way to the inner network.",
        table=TunTable,
        kind="tun",
        default_backend="linux",
        default={},
    ),
    Section(
        "sessions",
        "Where sessions are kept.",
        kind="sessions",
        default_backend="sqlite",
        default={"file": "sessions.sqlite"},
    ),
    Section(
        "listeners",
        "Who hears of logins, tunnels and everything else that happens.",
        Shape.ARRAY,
        kind="listener",
        default=[{"backend": "log"}],
    ),
    Section(
        "limits",
        "What peers may cost; times in seconds.",
        table=LimitsTable,
        default={},
    ),
    Section(
        "control",
        "The control socket: where `anyvpn status` asks.",
        table=ControlTable,
        default={},
    ),
)
