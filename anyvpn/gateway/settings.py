"""What a gateway is made of: the settings that the composition root hands over, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from anyvpn.interfaces import (
    IAddressAllocator,
    IAuthenticator,
    IAuthorizer,
    IEventListener,
    IProfileProvider,
    ISessionStore,
)
from anyvpn.model.connection_profile import ConnectionProfile
from anyvpn.model.downloads import Download

# Ours: forward secrecy and AEAD only; AES first, it is what gateways have in hardware
DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class TLSIdentity:
    """A certificate chain (PEM, leaf first) with its key, and the host names that select it."""

    certificate_file: Path
    key_file: Path
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """The TLS side of the VPN port; the first identity serves every name that no other has.

    With a `client_ca_file` every client is asked for a certificate, with the names of these
    CAs; none is required: a connection profile's authenticator decides.
    """

    identities: tuple[TLSIdentity, ...]
    client_ca_file: Path | None = None
    minimum_version: str = "1.2"
    ciphers: str = DEFAULT_CIPHERS


@dataclass(frozen=True, slots=True)
class DTLSSettings:
    """The UDP side: the port that clients are told, and which kinds are accepted.

    `psk` allows PSK-NEGOTIATE; `legacy` allows the CBC suites and Cisco's version 0x0100.
    `verify_hellos` makes each client show first that it receives what is sent to its address.
    """

    enabled: bool = True
    port: int = 443
    psk: bool = True
    legacy: bool = False
    verify_hellos: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what peers may cost; times in seconds.

    `failures_before_ban` failed logins from one address within `ban_time_s` shut it out for
    `ban_time_s`; 0 switches bans off. `failures_per_user` counts those of one user name from
    everywhere: then it gets in from addresses alone that it has got in from before.
    """

    handshake_time_s: float = 10.0
    request_time_s: float = 15.0
    keep_alive_s: float = 120.0
    requests_per_connection: int = 64
    connections: int = 20_000
    connections_per_address: int = 256
    login_time_s: float = 240.0
    login_tries: int = 3
    pending_logins: int = 4096
    pending_logins_per_address: int = 64
    token_time_s: float = 300.0
    failures_before_ban: int = 20
    failures_per_user: int = 100
    ban_time_s: float = 300.0
    hellos_per_address_per_s: float = 20.0


class ShutdownBehaviour(Enum):
    """What clients are told when the gateway stops."""

    RESUME = "resume"
    """Connections close, sessions stay in the store: clients come back with their token."""

    DISCONNECT = "disconnect"
    """Clients are disconnected for good and every session ends."""


@dataclass(frozen=True, slots=True)
class ProfileBinding:
    """A connection profile and who authenticates its users."""

    profile: ConnectionProfile
    authenticator: IAuthenticator


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Everything a gateway needs but its sockets, its tun device and its packet engine."""

    name: str
    profiles: tuple[ProfileBinding, ...]
    default_profile: str
    authorizer: IAuthorizer
    addresses: IAddressAllocator
    profile_provider: IProfileProvider
    sessions: ISessionStore
    listeners: tuple[IEventListener, ...]
    documents: Mapping[str, Download] = field(default_factory=dict)
    """What authenticators publish, by its path."""
    dtls: DTLSSettings = field(default_factory=DTLSSettings)
    limits: Limits = field(default_factory=Limits)
    shutdown: ShutdownBehaviour = ShutdownBehaviour.RESUME
    report_interval_s: int = 300
    """Seconds between two reports of a session's traffic to the listeners; 0: none."""
