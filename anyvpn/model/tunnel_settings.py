"""What a client asks for in CONNECT and what the gateway grants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from types import MappingProxyType

from anyvpn.model.authentication import UNKNOWN_CLIENT, ClientDescription
from anyvpn.model.group_policy import Address, Network


@dataclass(frozen=True, slots=True)
class Lease:
    """The inner addresses lent to a session; the prefix is the network the client is told."""

    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None

    def __post_init__(self) -> None:
        if self.ipv4 is None and self.ipv6 is None:
            raise ValueError("a lease needs an address")

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The bare addresses, IPv4 first."""
        return tuple(each.ip for each in (self.ipv4, self.ipv6) if each is not None)


@dataclass(frozen=True, slots=True)
class TunnelOffer:
    """What the client sends with CONNECT (protocol reference, section 8.1).

    Absent numbers are 0. `address_families` is empty when the header was absent;
    `dtls_master_secret` is 48 bytes or empty; a client without any X-DTLS-* header wants no
    DTLS and has both suite lists empty.
    """

    token: str = field(default="", repr=False)
    hostname: str = ""
    client: ClientDescription = UNKNOWN_CLIENT
    encodings: tuple[str, ...] = ()
    dtls_encodings: tuple[str, ...] = ()
    base_mtu_bytes: int = 0
    mtu_bytes: int = 0
    address_families: frozenset[int] = frozenset()
    full_ipv6: bool = False
    wished_addresses: tuple[Address, ...] = ()
    dtls_master_secret: bytes = field(default=b"", repr=False)
    dtls_suites: tuple[str, ...] = ()
    dtls12_suites: tuple[str, ...] = ()
    mobile_licence: bool = False


@dataclass(frozen=True, slots=True)
class DTLSGrant:
    """The X-DTLS-* part of the answer; `session_id` and `app_id` are raw bytes, one of them empty.

    `header` is the header that carries `suite`: X-DTLS-CipherSuite or X-DTLS12-CipherSuite.
    """

    port: int
    header: str
    suite: str
    session_id: bytes = field(default=b"", repr=False)
    app_id: bytes = field(default=b"", repr=False)
    mtu_bytes: int = 0
    dpd_s: int = 0
    keepalive_s: int = 0
    rekey_s: int = 0
    rekey_method: str = ""
    encoding: str = ""


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """What the gateway grants (protocol reference, section 8.3); times in seconds, 0 is off."""

    lease: Lease
    mtu_bytes: int
    base_mtu_bytes: int = 0
    hostname: str = ""
    server_name: str = "anyvpn"
    full_ipv6: bool = True
    dns: tuple[Address, ...] = ()
    nbns: tuple[IPv4Address, ...] = ()
    default_domain: str = ""
    split_dns: tuple[str, ...] = ()
    split_include: tuple[Network, ...] = ()
    split_exclude: tuple[Network, ...] = ()
    exclude_local_lan: bool = False
    tunnel_all_dns: bool = True
    client_bypass_protocol: bool = False
    keepalive_s: int = 0
    dpd_s: int = 0
    idle_timeout_s: int = 0
    session_timeout_s: int = 0
    session_timeout_remaining_s: int = 0
    disconnected_timeout_s: int = 0
    rekey_s: int = 0
    rekey_method: str = "new-tunnel"
    banner: str = ""
    encoding: str = ""
    proxy: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    dynamic_split_include: tuple[str, ...] = ()
    dynamic_split_exclude: tuple[str, ...] = ()
    post_auth_xml: str = field(default="", repr=False)
    dtls: DTLSGrant | None = None
    other_headers: tuple[tuple[str, str], ...] = ()
    """What a client received and does not know; reported, never applied."""
