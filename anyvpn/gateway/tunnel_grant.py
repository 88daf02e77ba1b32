"""What a CONNECT is granted: the offer, the policy and the lease come to one answer.

Source: protocol reference, sections 8.1, 8.3 and 12.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from anyvpn.dtls.suites import PSK_SUITES, Choice, Mode, choose_suite
from anyvpn.gateway.settings import DTLSSettings
from anyvpn.model.channels import Suite
from anyvpn.model.group_policy import LARGEST_MTU_BYTES, SMALLEST_MTU_BYTES, GroupPolicy
from anyvpn.model.tunnel_settings import DTLSGrant, Lease, TunnelOffer, TunnelSettings
from anyvpn.wire.compression import DTLS_ENCODINGS, ENCODINGS

# From the protocol
SMALLEST_IPV6_MTU_BYTES = 1280
_IP_HEADER_BYTES = MappingProxyType({4: 20, 6: 40})
_CISCO_AGENTS = ("anyconnect", "cisco anyconnect")

# Ours
USUAL_LINK_MTU_BYTES = 1500
TLS_OVERHEAD_BYTES = 80
"""What TCP, a TLS record and a CSTP header add, together with the outer IP header."""
_SMALLEST_LINK_BYTES = SMALLEST_MTU_BYTES + 120


@dataclass(frozen=True, slots=True)
class Plan:
    """What offer, policy and link come to before there is a lease.

    `choice` is the kind of the DTLS channel, None without one; `mtu_bytes` is the longest packet
    of the tunnel, on either channel, as clients take the larger of two; `families` are the IP
    versions within the tunnel.
    """

    offer: TunnelOffer
    policy: GroupPolicy
    choice: Choice | None
    link_mtu_bytes: int
    mtu_bytes: int
    families: frozenset[int]

    @property
    def dpd_s(self) -> float:
        """Seconds between probes: phones are let sleep for longer."""
        is_mobile = self.offer.client.is_mobile or self.offer.mobile_licence
        return self.policy.mobile_dpd_s if is_mobile else self.policy.dpd_s

    @property
    def is_cisco(self) -> bool:
        """Whether the client is Cisco's own, which wants some headers in its own spelling."""
        return self.offer.client.user_agent.lower().startswith(_CISCO_AGENTS)

    @property
    def dtls_encoding(self) -> str:
        """How packets are compressed on the DTLS channel."""
        return self._encoding(DTLS_ENCODINGS, self.offer.dtls_encodings)

    @property
    def encoding(self) -> str:
        """How packets are compressed on the CSTP channel."""
        return self._encoding(ENCODINGS, self.offer.encodings)

    def _encoding(self, known: tuple[str, ...], offered: tuple[str, ...]) -> str:
        wanted = self.policy.compression
        return next((each for each in wanted if each in known and each in offered), "")


def make_plan(
    offer: TunnelOffer,
    policy: GroupPolicy,
    dtls: DTLSSettings,
    *,
    ip_version: int,
    path_mtu_bytes: int,
) -> Plan:
    """`ip_version` and `path_mtu_bytes` (0: unknown) are of the way to the client."""
    choice = _choose_dtls(offer, policy, dtls)
    link_mtu_bytes = _link_mtu(offer, policy, path_mtu_bytes)
    mtu_bytes = _tunnel_mtu(offer, link_mtu_bytes, ip_version, choice)
    families = _families(offer, policy, mtu_bytes)
    return Plan(offer, policy, choice, link_mtu_bytes, mtu_bytes, families)


def told_lease(lease: Lease, families: frozenset[int]) -> Lease | None:
    """The part of a session's lease that this client is told of; None when there is nothing."""
    ipv4 = lease.ipv4 if 4 in families else None
    ipv6 = lease.ipv6 if 6 in families else None
    return None if ipv4 is None and ipv6 is None else Lease(ipv4, ipv6)


def grant(
    plan: Plan,
    lease: Lease,
    *,
    dtls_port: int,
    dtls_identifier: bytes,
    remaining_s: float,
    post_auth_xml: str,
) -> TunnelSettings:
    """The whole answer.

    `dtls_identifier` is what the client's hello will name; `remaining_s` is what is left of the
    longest session, 0 without a limit.
    """
    offer, policy = plan.offer, plan.policy
    has_ipv6 = lease.ipv6 is not None
    return TunnelSettings(
        lease=lease,
        mtu_bytes=plan.mtu_bytes,
        base_mtu_bytes=plan.link_mtu_bytes,
        hostname=offer.hostname,
        full_ipv6=offer.full_ipv6,
        dns=tuple(each for each in policy.dns if has_ipv6 or each.version == 4),
        nbns=policy.nbns,
        default_domain=policy.default_domain,
        split_dns=policy.split_dns,
        split_include=policy.split_include,
        split_exclude=policy.split_exclude,
        exclude_local_lan=policy.exclude_local_lan,
        tunnel_all_dns=not policy.split_include,
        client_bypass_protocol=policy.client_bypass_protocol,
        keepalive_s=round(policy.keepalive_s),
        dpd_s=round(plan.dpd_s),
        idle_timeout_s=round(policy.idle_timeout_s),
        session_timeout_s=round(policy.session_timeout_s),
        session_timeout_remaining_s=round(remaining_s),
        disconnected_timeout_s=round(policy.disconnected_timeout_s),
        rekey_s=round(policy.rekey_s),
        banner=policy.banner,
        encoding=plan.encoding,
        proxy=policy.proxy,
        dynamic_split_include=policy.dynamic_split_include,
        dynamic_split_exclude=policy.dynamic_split_exclude,
        post_auth_xml=post_auth_xml,
        dtls=None if plan.choice is None else _dtls(plan, plan.choice, dtls_port, dtls_identifier),
    )


def _dtls(plan: Plan, choice: Choice, port: int, identifier: bytes) -> DTLSGrant:
    is_psk = choice.mode is Mode.PSK
    return DTLSGrant(
        port=port,
        header=choice.header,
        suite=choice.name,
        session_id=b"" if is_psk else identifier,
        app_id=identifier if is_psk else b"",
        mtu_bytes=0 if is_psk else plan.mtu_bytes,  # with PSK the suite is not known yet
        dpd_s=round(plan.dpd_s),
        keepalive_s=round(plan.policy.keepalive_s),
        encoding=plan.dtls_encoding,
    )


def _choose_dtls(offer: TunnelOffer, policy: GroupPolicy, dtls: DTLSSettings) -> Choice | None:
    """The kind of DTLS channel that both sides can do."""
    if not dtls.enabled or not policy.dtls:
        return None
    choice = choose_suite(
        offer.dtls12_suites,
        offer.dtls_suites,
        psk=dtls.psk,
        legacy=dtls.legacy,
    )
    if choice is not None and choice.mode is Mode.RESUMPTION and not offer.dtls_master_secret:
        return None
    return choice


def _link_mtu(offer: TunnelOffer, policy: GroupPolicy, path_mtu_bytes: int) -> int:
    """The narrowest that policy, client and TCP know of."""
    known = (policy.mtu_bytes, offer.base_mtu_bytes, path_mtu_bytes)
    default = LARGEST_MTU_BYTES if offer.base_mtu_bytes else USUAL_LINK_MTU_BYTES
    return max(min([default, *(each for each in known if each)]), _SMALLEST_LINK_BYTES)


def _tunnel_mtu(
    offer: TunnelOffer, link_mtu_bytes: int, ip_version: int, choice: Choice | None
) -> int:
    if choice is None:
        mtu_bytes = link_mtu_bytes - TLS_OVERHEAD_BYTES
    else:
        suite: Suite = choice.suite or PSK_SUITES[0]
        mtu_bytes = suite.data_mtu(link_mtu_bytes, _IP_HEADER_BYTES[ip_version])
    if offer.mtu_bytes and not offer.base_mtu_bytes:
        mtu_bytes = min(mtu_bytes, offer.mtu_bytes)
    return max(mtu_bytes, SMALLEST_MTU_BYTES)


def _families(offer: TunnelOffer, policy: GroupPolicy, mtu_bytes: int) -> frozenset[int]:
    """The IP versions that policy, client and MTU allow."""
    allowed = {4} if policy.ipv4 else set()
    if policy.ipv6 and mtu_bytes >= SMALLEST_IPV6_MTU_BYTES:
        allowed.add(6)
    return frozenset(allowed & (offer.address_families or {4, 6}))
