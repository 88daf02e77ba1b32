"""CONNECT (phase 5): what we offer, and what may be made of the gateway's answer.

Source: protocol reference, sections 8.1 to 8.4 and 12.6.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from twisted.logger import Logger

from anyvpn.client.http_connection import Answer, HTTPConnection, Request
from anyvpn.client.http_session import HTTPSession
from anyvpn.client.login import Login
from anyvpn.client.masking import masked_headers
from anyvpn.client.settings import ClientSettings, DTLSOptions
from anyvpn.dtls.suites import DTLS12_HEADER, DTLS_HEADER, OFFERS, PSK_NAME, PSK_SUITES
from anyvpn.errors import GatewayUnreachable, PeerError, TokenRejected, TunnelRefused
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.client_events import ClientEvent, Traffic
from anyvpn.model.group_policy import SMALLEST_MTU_BYTES, Address
from anyvpn.model.printable import printable
from anyvpn.model.tunnel_settings import (
    MASTER_SECRET_BYTES,
    DTLSGrant,
    TunnelOffer,
    TunnelSettings,
)
from anyvpn.packets.stream import TLSStream
from anyvpn.wire.compression import DTLS_ENCODINGS
from anyvpn.wire.tunnel_headers import read_hostname
from anyvpn.wire.tunnel_settings import read_settings, write_offer

log = Logger()

# From the protocol
TUNNEL_PATH = "/CSCOSSLC/tunnel"
SMALLEST_BASE_MTU_BYTES = 1280
USUAL_BASE_MTU_BYTES = 1500
_WORST_DTLS_OVERHEAD_BYTES = 1 + 13 + 20 + 32 + 16
_UDP_HEADER_BYTES = 8
_BINDING_LABEL, _BINDING_BYTES = b"EXPORTER-Channel-Binding", 32
_IP_HEADER_BYTES = {4: 20, 6: 40}


@dataclass(frozen=True, slots=True)
class OpenedTunnel:
    """What a granted CONNECT leaves: the paused stream, the grant, and what DTLS needs.

    `peer_address` is where the outer connection leads: the gateway, or the proxy before it.
    """

    stream: TLSStream
    granted: TunnelSettings
    master_secret: bytes = field(repr=False)
    peer_address: str

    @property
    def tls(self) -> str:
        """Version and cipher suite of the CSTP channel."""
        return f"{self.stream.protocol_version()} {self.stream.cipher_name()}"


def make_offer(
    token: str,
    settings: ClientSettings,
    *,
    peer_address: str,
    path_mtu_bytes: int,
    wishes: tuple[Address, ...],
    master_secret: bytes,
) -> TunnelOffer:
    """What to send with CONNECT; `wishes` are the addresses of the tunnel before this one."""
    ip_header_bytes = ip_header_to(peer_address)
    base_mtu_bytes = settings.base_mtu_bytes or path_mtu_bytes or USUAL_BASE_MTU_BYTES
    base_mtu_bytes = max(base_mtu_bytes, SMALLEST_BASE_MTU_BYTES)
    mtu_bytes = settings.mtu_bytes or (
        base_mtu_bytes - _WORST_DTLS_OVERHEAD_BYTES - _UDP_HEADER_BYTES - ip_header_bytes
    )
    # Datagrams do not go through a proxy
    options = settings.dtls if settings.proxy is None else DTLSOptions(enabled=False)
    dtls_names, dtls12_names = _suite_names(options)
    wants_dtls = bool(dtls_names or dtls12_names)
    return TunnelOffer(
        token=token,
        hostname=settings.hostname or read_hostname(socket.gethostname()),
        client=settings.description,
        encodings=settings.compression,
        dtls_encodings=tuple(
            each for each in settings.compression if wants_dtls and each in DTLS_ENCODINGS
        ),
        base_mtu_bytes=base_mtu_bytes,
        mtu_bytes=mtu_bytes,
        address_families=frozenset({4, 6} if settings.ipv6 else {4}),
        full_ipv6=settings.ipv6,
        wished_addresses=wishes,
        dtls_master_secret=master_secret if wants_dtls else b"",
        dtls_suites=dtls_names,
        dtls12_suites=dtls12_names,
    )


async def open_tunnel(
    session: HTTPSession,
    login: Login,
    settings: ClientSettings,
    *,
    wishes: tuple[Address, ...],
    random: Callable[[int], bytes],
    tell: Callable[[ClientEvent], None],
) -> OpenedTunnel:
    """CONNECT on the session's connection, or on a new one.

    Raises: TokenRejected, TunnelRefused, GatewayUnreachable, GatewayUntrusted.
    Raises: PeerError: the answer grants what cannot be, or what was not asked for.
    """
    master_secret = random(MASTER_SECRET_BYTES)
    for _ in range(2):
        connection = await session.connection()
        session.take_connection()
        is_used = connection.exchanges > 0
        stream = connection.stream
        offer = make_offer(
            login.token,
            settings,
            peer_address=stream.peer_address(),
            path_mtu_bytes=stream.path_mtu(),
            wishes=wishes,
            master_secret=master_secret,
        )
        try:
            headers = write_offer(offer, session.url.authority)
            if login.strap is not None:
                headers = [*headers, *login.strap.tunnel_headers(_channel_binding(stream))]
            granted = await _request_tunnel(connection, headers, offer, settings, tell)
        except BaseException:
            stream.abort("closed here")
            raise
        if granted is not None:
            return OpenedTunnel(stream, granted, master_secret, stream.peer_address())
        if not is_used:
            break
    raise GatewayUnreachable("the gateway closed the connection instead of granting a tunnel")


async def _request_tunnel(
    connection: HTTPConnection,
    headers: Sequence[tuple[bytes, bytes]],
    offer: TunnelOffer,
    settings: ClientSettings,
    tell: Callable[[ClientEvent], None],
) -> TunnelSettings | None:
    """Send CONNECT and read the answer; None: the connection was closed already."""
    request = Request("CONNECT", TUNNEL_PATH, tuple(headers))
    if settings.follow_traffic:
        text = f"CONNECT {TUNNEL_PATH}\n{masked_headers(request.headers)}"
        tell(Traffic("sent", text))
    answer = await connection.exchange(request, settings.connect_time_s)
    if answer is None:
        return None
    if settings.follow_traffic:
        tell(Traffic("received", f"{answer.status}\n{masked_headers(answer.headers)}"))
    if answer.status != 200:
        raise _refusal(answer)
    granted = _without_unasked_dtls(read_settings(answer.headers), offer)
    _check_granted(granted, offer)
    for name, value in granted.other_headers:
        log.debug("{name}: {value} is of no use here", name=name, value=value)
    return granted


def _channel_binding(stream: TLSStream) -> bytes:
    """What no other channel has: tls-exporter (RFC 9266) or tls-unique (RFC 5929)."""
    if stream.protocol_version() == "TLSv1.3":
        return stream.export_keying_material(_BINDING_LABEL, _BINDING_BYTES)
    return stream.tls.get_finished() or b""


def _refusal(answer: Answer) -> TokenRejected | TunnelRefused:
    reason = printable(answer.first("X-Reason")) or printable(answer.reason)
    if answer.status == 401:
        return TokenRejected("the gateway does not know the session any more: log in again")
    return TunnelRefused(
        f"the gateway grants no tunnel now: {reason or answer.status}",
        answer.status,
    )


def _without_unasked_dtls(granted: TunnelSettings, offer: TunnelOffer) -> TunnelSettings:
    """Some gateways name a suite whether one was offered or not (protocol reference, 12.0)."""
    dtls = granted.dtls
    if dtls is None:
        return granted
    offered = offer.dtls_suites if dtls.header == DTLS_HEADER else offer.dtls12_suites
    if dtls.suite in offered:
        return granted
    if offer.wants_dtls:
        log.warn("The gateway chooses a DTLS suite that was not offered; there is no DTLS")
    return replace(granted, dtls=None)


def _check_granted(granted: TunnelSettings, offer: TunnelOffer) -> None:
    """Raises PeerError: what was not asked for."""
    families = {each.version for each in granted.lease.addresses}
    if not families <= offer.address_families:
        raise PeerError("the gateway gives an IPv6 address, which was not asked for")
    if granted.encoding and granted.encoding not in offer.encodings:
        raise PeerError("the gateway compresses in a way that was not offered")
    dtls = granted.dtls
    if dtls is None:
        return
    if dtls.encoding and dtls.encoding not in offer.dtls_encodings:
        raise PeerError("the gateway compresses DTLS in a way that was not offered")


def dtls_mtu(granted: TunnelSettings, dtls: DTLSGrant, peer_address: str) -> int:
    """The adapter's MTU while there is DTLS, or hope for it."""
    if dtls.mtu_bytes:
        return dtls.mtu_bytes
    base_mtu_bytes = granted.base_mtu_bytes or USUAL_BASE_MTU_BYTES
    is_psk = dtls.suite == PSK_NAME
    suite = PSK_SUITES[0] if is_psk else OFFERS[dtls.header][dtls.suite][1]
    computed = suite.data_mtu(base_mtu_bytes, ip_header_to(peer_address))
    return max(min(granted.mtu_bytes, computed), SMALLEST_MTU_BYTES)


def first_mtu(opened: OpenedTunnel) -> int:
    """The adapter's MTU to begin with: the DTLS handshake is expected to succeed."""
    granted = opened.granted
    if granted.dtls is None or not opened.peer_address:
        return granted.mtu_bytes
    return dtls_mtu(granted, granted.dtls, opened.peer_address)


def adapter_settings(opened: OpenedTunnel, mtu_bytes: int, gateway_name: str) -> AdapterSettings:
    """What the adapter is told; what changes with every link is nothing to it."""
    address: Address | None = None
    with suppress(ValueError):  # there is none in memory
        address = ip_address(opened.peer_address.partition("%")[0])
    granted = replace(
        opened.granted,
        dtls=None,
        rekey_s=0,
        session_timeout_remaining_s=0,
        post_auth_xml="",
        other_headers=(),
    )
    return AdapterSettings(granted, mtu_bytes, address, gateway_name)


def ip_header_to(peer_address: str) -> int:
    """How long the outer IP header is."""
    try:
        return _IP_HEADER_BYTES[ip_address(peer_address.partition("%")[0]).version]
    except ValueError:
        return _IP_HEADER_BYTES[4]


def _suite_names(options: DTLSOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What goes into the two headers, best first."""
    if not options.enabled:
        return (), ()
    if options.suites or options.suites12:
        return options.suites, options.suites12
    names: dict[str, list[str]] = {DTLS_HEADER: [PSK_NAME] if options.psk else []}
    for header, meanings in OFFERS.items():
        names.setdefault(header, [])
        if options.resumption:
            for name, (_, suite) in meanings.items():
                if options.legacy or not suite.mac_key_bytes:
                    names[header].append(name)
    return tuple(names[DTLS_HEADER]), tuple(names[DTLS12_HEADER])
