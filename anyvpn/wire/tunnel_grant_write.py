"""The headers of the answer to CONNECT, as a gateway writes them.

Source: protocol reference, section 8.3; order and spelling observed: ocserv 1.1.6. openconnect
compares the names with regard to case.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address
from typing import Final

from anyvpn.model.group_policy import Address, Network
from anyvpn.model.tunnel_settings import DTLSGrant, TunnelSettings
from anyvpn.wire.post_auth import write_post_auth
from anyvpn.wire.tunnel_headers import PROTOCOL_TEXT, header

Fields = list[tuple[str, object]]

# From the protocol
LOCAL_LAN: Final = "0.0.0.0/255.255.255.255"
OFF: Final = "none"
FIXED_FLAGS: Final = (
    ("X-CSTP-Smartcard-Removal-Disconnect", "true"),
    ("X-CSTP-Keep", "true"),
    ("X-CSTP-TCP-Keepalive", "true"),
    ("X-CSTP-License", "accept"),
    ("X-CSTP-Quarantine", "false"),
    ("X-CSTP-Disable-Always-On-VPN", "false"),
    ("X-CSTP-Routing-Filtering-Ignore", "false"),
)
"""What every gateway here says; what is not about them stays off."""


def write_settings(
    settings: TunnelSettings, *, anyconnect: bool = False
) -> list[tuple[bytes, bytes]]:
    """The headers that grant `settings`; to Cisco's own client some are repeated in its spelling.

    Without `full_ipv6` the client gets the address alone of IPv6, in the old form.

    Raises: MalformedMessage, MessageTooLarge: `post_auth_xml` is no document.
    """
    fields: Fields = [
        ("X-CSTP-Version", 1),
        ("X-CSTP-Server-Name", settings.server_name),
        ("X-CSTP-Protocol", PROTOCOL_TEXT),
        *_when_given("X-CSTP-Hostname", settings.hostname),
        *_when_given("X-CSTP-DPD", settings.dpd_s),
        *_when_given("X-CSTP-Default-Domain", settings.default_domain),
        *_addresses(settings),
        *_names(settings, anyconnect),
        *_routes("X-CSTP-Split-Include", _included(settings)),
        ("X-CSTP-Tunnel-All-DNS", _flag(settings.tunnel_all_dns)),
        ("X-CSTP-Client-Bypass-Protocol", _flag(settings.client_bypass_protocol)),
        *([("X-CSTP-Split-Exclude", LOCAL_LAN)] if settings.exclude_local_lan else []),
        *_routes("X-CSTP-Split-Exclude", _understood(settings, settings.split_exclude)),
        *_when_given("X-CSTP-Keepalive", settings.keepalive_s),
        ("X-CSTP-Idle-Timeout", settings.idle_timeout_s or OFF),
        *_rekey("X-CSTP-", settings.rekey_s, settings.rekey_method),
        ("X-CSTP-Session-Timeout", settings.session_timeout_s or OFF),
        ("X-CSTP-Session-Timeout-Remaining", settings.session_timeout_remaining_s or OFF),
        ("X-CSTP-Disconnected-Timeout", settings.disconnected_timeout_s or OFF),
        *FIXED_FLAGS,
        *([("X-CSTP-DynDNS", "true")] if settings.dynamic_dns else []),
        *((f"X-CSTP-{name}", value) for name, value in settings.proxy.items()),
        *(_dtls(settings.dtls) if settings.dtls is not None else []),
        *_when_given("X-CSTP-Base-MTU", settings.base_mtu_bytes),
        ("X-CSTP-MTU", settings.mtu_bytes),
        *_when_given("X-CSTP-Content-Encoding", settings.encoding),
        *_when_given("X-CSTP-Banner", settings.banner),
    ]
    include, exclude = settings.dynamic_split_include, settings.dynamic_split_exclude
    if settings.post_auth_xml or include or exclude:
        document = write_post_auth(settings.post_auth_xml, include, exclude)
        fields.append(("X-CSTP-Post-Auth-XML", document))
    return [header(name, value) for name, value in fields]


def _addresses(settings: TunnelSettings) -> Fields:
    lease = settings.lease
    fields: Fields = []
    if lease.ipv4 is not None:
        fields += [("X-CSTP-Address", lease.ipv4.ip), ("X-CSTP-Netmask", lease.ipv4.netmask)]
    if lease.ipv6 is not None and settings.full_ipv6:
        fields.append(("X-CSTP-Address-IP6", lease.ipv6))
    elif lease.ipv6 is not None:
        fields += [("X-CSTP-Address", lease.ipv6.ip), ("X-CSTP-Netmask", lease.ipv6.network)]
    return fields


def _names(settings: TunnelSettings, anyconnect: bool) -> Fields:
    resolvers: tuple[Address, ...] = settings.dns
    if not settings.full_ipv6:
        resolvers = tuple(each for each in resolvers if each.version == 4)
    fields: Fields = [("X-CSTP-DNS", each) for each in resolvers]
    if anyconnect:
        ipv6 = (each for each in resolvers if isinstance(each, IPv6Address))
        fields += [("X-CSTP-DNS-IP6", each) for each in ipv6]
    fields += [("X-CSTP-NBNS", each) for each in settings.nbns]
    fields += [("X-CSTP-Split-DNS", each) for each in settings.split_dns]
    return fields


def _understood(settings: TunnelSettings, networks: tuple[Network, ...]) -> tuple[Network, ...]:
    if settings.full_ipv6:
        return networks
    return tuple(each for each in networks if each.version == 4)


def _included(settings: TunnelSettings) -> tuple[Network, ...]:
    """The routes into the tunnel; no route at all would mean every route.

    Where a policy's routes are all of a family that the client cannot be told of, it gets one to
    its own address, which changes nothing.
    """
    networks = _understood(settings, settings.split_include)
    if settings.split_include and not networks and settings.lease.ipv4 is not None:
        return (IPv4Network(settings.lease.ipv4.ip),)
    return networks


def _routes(name: str, networks: Iterable[Network]) -> Fields:
    """IPv4 first, with dotted masks, as the oldest clients want them."""
    ipv4 = [each.with_netmask for each in networks if each.version == 4]
    ipv6 = [each.with_prefixlen for each in networks if each.version == 6]
    return [*((name, each) for each in ipv4), *((f"{name}-IP6", each) for each in ipv6)]


def _rekey(prefix: str, rekey_s: int, method: str) -> Fields:
    if not rekey_s or method == OFF:
        return [(f"{prefix}Rekey-Method", OFF)]
    return [(f"{prefix}Rekey-Time", rekey_s), (f"{prefix}Rekey-Method", method)]


def _dtls(grant: DTLSGrant) -> Fields:
    identifier: Fields = (
        [("X-DTLS-App-ID", grant.app_id.hex())]
        if grant.app_id
        else [("X-DTLS-Session-ID", grant.session_id.hex())]
    )
    return [
        *_when_given("X-DTLS-DPD", grant.dpd_s),
        ("X-DTLS-Port", grant.port),
        *(_rekey("X-DTLS-", grant.rekey_s, grant.rekey_method) if grant.rekey_method else []),
        *_when_given("X-DTLS-Keepalive", grant.keepalive_s),
        *identifier,
        (grant.header, grant.suite),
        *_when_given("X-DTLS-MTU", grant.mtu_bytes),
        *_when_given("X-DTLS-Content-Encoding", grant.encoding),
    ]


def _when_given(name: str, value: str | int) -> Fields:
    return [(name, value)] if value else []


def _flag(value: bool) -> str:
    return "true" if value else "false"
