"""What a client is told before it starts; frozen, and checked by whoever reads it from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from anyvpn import __version__
from anyvpn.client.credentials import ClientCredential
from anyvpn.client.trust import TrustSettings
from anyvpn.dtls.suites import DTLS12_HEADER, DTLS_HEADER, OFFERS, PSK_NAME
from anyvpn.model.authentication import ClientDescription
from anyvpn.packets.engines import EngineChoice

# Ours
USER_AGENT = f"AnyConnect-compatible anyvpn v{__version__}"
"""Some gateways insist on "AnyConnect" in it (protocol reference, section 2.6)."""


def default_description() -> ClientDescription:
    """What this client says of itself when nobody says otherwise."""
    return ClientDescription(user_agent=USER_AGENT, version=f"v{__version__}", platform="linux-64")


# From RFC 1928 and RFC 1929
_LONGEST_PROXY_TEXT_BYTES = 255


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """A proxy on the way to the gateway: HTTP CONNECT, or SOCKS5 with names looked up there."""

    kind: str
    """"http" or "socks5"."""
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        longest = max(len(each.encode()) for each in (self.host, self.username, self.password))
        if longest > _LONGEST_PROXY_TEXT_BYTES:
            raise ValueError("a proxy's host, user name and password have at most 255 bytes each")


@dataclass(frozen=True, slots=True)
class DTLSOptions:
    """The DTLS channel: whether to have one, and of which kinds.

    `suites` and `suites12` are what X-DTLS-CipherSuite and X-DTLS12-CipherSuite offer, best
    first, instead of what the other switches say. Raises: ValueError: a name is none of these.
    """

    enabled: bool = True
    psk: bool = True
    resumption: bool = True
    legacy: bool = False
    """Also the old CBC suites and Cisco's version from before the RFC."""
    suites: tuple[str, ...] = ()
    suites12: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for header, names in ((DTLS_HEADER, self.suites), (DTLS12_HEADER, self.suites12)):
            known = (PSK_NAME, *OFFERS[header])
            unknown = [name for name in names if name not in known]
            if unknown:
                raise ValueError(f"there is no {unknown[0]!r}; there are {':'.join(known)}")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to connect; the defaults are those of an ordinary user.

    Times in seconds. `group` is a group alias; `protocol_version` 0 means 2 and, where the
    gateway does not speak it, 1. `compression` lists encodings to offer, best first.
    """

    group: str = ""
    description: ClientDescription = field(default_factory=default_description)
    hostname: str = ""
    protocol_version: int = 0
    trust: TrustSettings = field(default_factory=TrustSettings)
    credentials: tuple[ClientCredential, ...] = ()
    """Certificates to log in with; the CA names that the gateway sends choose among several."""
    machine_credential: ClientCredential | None = None
    """For gateways that ask for multiple certificates: `credentials` are the user's then."""
    minimum_tls_version: str = "1.2"
    tls_ciphers: str = ""
    proxy: ProxySettings | None = None
    dtls: DTLSOptions = field(default_factory=DTLSOptions)
    compression: tuple[str, ...] = ()
    ipv6: bool = True
    resolve: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Host names to addresses to take instead of what a resolver says."""
    base_mtu_bytes: int = 0
    mtu_bytes: int = 0
    dpd_s: float = 0.0
    """Overrides what the gateway says; 0 leaves it to the gateway."""
    profile_directory: Path | None = None
    """Where client profiles are kept; None keeps none on disk, but fetches them all the same."""
    profiles_required: bool = True
    logout: bool = True
    """Also post a logout at the end, besides saying goodbye on the channel."""
    connect_time_s: float = 30.0
    answer_time_s: float = 120.0
    """How long one answer may take: gateways wait for somebody to look at a telephone."""
    reconnect_time_s: float = 300.0
    """How long a lost tunnel is tried to be got back."""
    engine: EngineChoice = "auto"
    """The packet engine; "auto" is the compiled one where it is installed."""
    follow_traffic: bool = False
    """Tell `Traffic` events, for verbose output."""
