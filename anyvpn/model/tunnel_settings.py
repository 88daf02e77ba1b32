"""What a client asks for in CONNECT and what the gateway grants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from types import MappingProxyType

from anyvpn.model.authentication import UNKNOWN_CLIENT, ClientDescription
from anyvpn.model.group_policy import SMALLEST_MTU_BYTES, Address, Network, check_proxy

# From the protocol (protocol reference, sections 8.1 and 8.3)
DTLS_SUITE_HEADER = "X-DTLS-CipherSuite"
DTLS12_SUITE_HEADER = "X-DTLS12-CipherSuite"
MASTER_SECRET_BYTES = 48
DTLS_SESSION_ID_BYTES = 32
LONGEST_APP_ID_BYTES = 32
REKEY_METHODS = ("new-tunnel", "ssl", "none")
LARGEST_TUNNEL_MTU_BYTES = 16384 - 8  # a CSTP frame must fit one TLS record


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

    def __post_init__(self) -> None:
        if len(self.dtls_master_secret) not in {0, MASTER_SECRET_BYTES}:
            raise ValueError("a DTLS master secret has 48 bytes")
        if min(self.base_mtu_bytes, self.mtu_bytes) < 0:
            raise ValueError("an MTU is not negative")
        if not self.address_families <= {4, 6}:
            raise ValueError("the address families are 4 and 6")

    @property
    def wants_dtls(self) -> bool:
        """Whether the client named any suite for a DTLS channel."""
        return bool(self.dtls_suites or self.dtls12_suites)


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

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 0xFFFF:
            raise ValueError("a DTLS channel needs a UDP port")
        if self.header not in {DTLS_SUITE_HEADER, DTLS12_SUITE_HEADER} or not self.suite:
            raise ValueError("a DTLS channel needs a suite and the header that carries it")
        if bool(self.session_id) == bool(self.app_id):
            raise ValueError("a DTLS channel has either a session id or an App-ID")
        if self.session_id and len(self.session_id) != DTLS_SESSION_ID_BYTES:
            raise ValueError("a DTLS session id has 32 bytes")
        if len(self.app_id) > LONGEST_APP_ID_BYTES:
            raise ValueError("an App-ID has at most 32 bytes")
        if not 0 <= self.mtu_bytes <= LARGEST_TUNNEL_MTU_BYTES:
            raise ValueError("no such DTLS MTU")
        if self.rekey_method and self.rekey_method not in REKEY_METHODS:
            raise ValueError("no such way to rekey")
        if min(self.dpd_s, self.keepalive_s, self.rekey_s) < 0:
            raise ValueError("a time is not negative")


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """What the gateway grants (protocol reference, section 8.3); times in seconds, 0 is off.

    No `split_include` at all sends everything through the tunnel. `dynamic_dns` tells the
    client to look the gateway's name up again before it reconnects. `post_auth_xml` is a
    document like the one that ends a login; the dynamic split lists are written into it.
    """

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
    dynamic_dns: bool = False
    proxy: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    dynamic_split_include: tuple[str, ...] = ()
    dynamic_split_exclude: tuple[str, ...] = ()
    post_auth_xml: str = field(default="", repr=False)
    dtls: DTLSGrant | None = None
    other_headers: tuple[tuple[str, str], ...] = ()
    """What a client received and does not know; reported, never applied."""

    def __post_init__(self) -> None:
        if not SMALLEST_MTU_BYTES <= self.mtu_bytes <= LARGEST_TUNNEL_MTU_BYTES:
            raise ValueError(
                f"a tunnel's MTU lies between {SMALLEST_MTU_BYTES} and {LARGEST_TUNNEL_MTU_BYTES}"
            )
        if self.base_mtu_bytes < 0:
            raise ValueError("an MTU is not negative")
        if self.rekey_method not in REKEY_METHODS:
            raise ValueError("no such way to rekey")
        times_s = (
            self.keepalive_s,
            self.dpd_s,
            self.idle_timeout_s,
            self.session_timeout_s,
            self.session_timeout_remaining_s,
            self.disconnected_timeout_s,
            self.rekey_s,
        )
        if min(times_s) < 0:
            raise ValueError("a time is not negative")
        check_proxy(self.proxy)
