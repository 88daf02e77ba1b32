"""What offer, policy and link come to."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, ip_address
from types import MappingProxyType
from unittest import TestCase

from anyvpn.gateway.settings import DTLSSettings
from anyvpn.gateway.tunnel_grant import Plan, grant, make_plan, told_lease
from anyvpn.model.authentication import ClientDescription
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.tunnel_settings import Lease, TunnelOffer, TunnelSettings

SECRET = bytes(48)
IDENTIFIER = bytes(range(32))
LEASE = Lease(IPv4Interface("10.99.0.2/24"), IPv6Interface("fd00::2/64"))
GCM = ("ECDHE-RSA-AES256-GCM-SHA384", "AES128-GCM-SHA256")
OPENCONNECT = TunnelOffer(
    token="token",
    base_mtu_bytes=1500,
    mtu_bytes=1390,
    address_families=frozenset({4, 6}),
    full_ipv6=True,
    dtls_master_secret=SECRET,
    dtls_suites=("PSK-NEGOTIATE", "OC-DTLS1_2-AES256-GCM", "AES256-SHA"),
    dtls12_suites=GCM,
)
RESUMING = replace(OPENCONNECT, dtls_suites=(), dtls12_suites=("AES128-GCM-SHA256",))
CBC12 = replace(OPENCONNECT, dtls_suites=(), dtls12_suites=("AES256-SHA",))
WITHOUT_DTLS = replace(OPENCONNECT, dtls_suites=(), dtls12_suites=(), dtls_master_secret=b"")
LEGACY = DTLSSettings(legacy=True)


def plan(
    offer: TunnelOffer = OPENCONNECT,
    policy: GroupPolicy | None = None,
    dtls: DTLSSettings | None = None,
    *,
    ip_version: int = 4,
    path: int = 0,
) -> Plan:
    """A plan for openconnect, unless said otherwise."""
    return make_plan(
        offer,
        policy or GroupPolicy(),
        dtls or DTLSSettings(),
        ip_version=ip_version,
        path_mtu_bytes=path,
    )


def granted(made: Plan, lease: Lease = LEASE, remaining_s: float = 0.0) -> TunnelSettings:
    """The answer that a plan leads to."""
    return grant(
        made,
        lease,
        dtls_port=443,
        dtls_identifier=IDENTIFIER,
        remaining_s=remaining_s,
        post_auth_xml="",
    )


class TunnelMTUTests(TestCase):
    def test_it_is_exact_to_the_byte_for_each_cipher_and_outer_family(self) -> None:
        for offer, ipv4, ipv6 in (
            (OPENCONNECT, 1434, 1414),
            (RESUMING, 1434, 1414),
            (CBC12, 1418, 1386),
            (replace(CBC12, dtls12_suites=(), dtls_suites=("AES128-SHA",)), 1418, 1386),
            (WITHOUT_DTLS, 1420, 1420),
        ):
            with self.subTest(offer=offer):
                self.assertEqual(plan(offer, dtls=LEGACY).mtu_bytes, ipv4)
                self.assertEqual(plan(offer, dtls=LEGACY, ip_version=6).mtu_bytes, ipv6)

    def test_the_longest_packet_fits_the_link_and_one_byte_more_does_not(self) -> None:
        def gcm(packet: int) -> int:
            return 28 + 13 + 8 + packet + 1 + 16

        def cbc(packet: int) -> int:
            blocks = -(-(packet + 1 + 20 + 1) // 16)  # with kind, MAC and the pad's length
            return 28 + 13 + 16 + 16 * blocks

        for offer, size in ((OPENCONNECT, gcm), (RESUMING, gcm), (CBC12, cbc)):
            for link_mtu in (*range(1280, 1312), 1492, 1500, 8999, 9000):
                made = plan(replace(offer, base_mtu_bytes=link_mtu), dtls=LEGACY)
                self.assertLessEqual(size(made.mtu_bytes), link_mtu)
                self.assertGreater(size(made.mtu_bytes + 1), link_mtu)

    def test_the_narrowest_part_of_the_way_counts(self) -> None:
        narrow = GroupPolicy(mtu_bytes=1400)
        self.assertEqual(plan(policy=narrow).link_mtu_bytes, 1400)
        self.assertEqual(plan(policy=narrow).mtu_bytes, 1334)
        self.assertEqual(plan(path=1300).link_mtu_bytes, 1300)
        self.assertEqual(plan(policy=narrow, path=1300).mtu_bytes, 1234)
        self.assertEqual(plan(replace(OPENCONNECT, base_mtu_bytes=1290)).link_mtu_bytes, 1290)

    def test_a_wide_way_does_not_widen_a_clients_link(self) -> None:
        self.assertEqual(plan(policy=GroupPolicy(mtu_bytes=9000), path=65535).link_mtu_bytes, 1500)

    def test_jumbo_frames_are_used_when_both_ends_have_them(self) -> None:
        jumbo = replace(OPENCONNECT, base_mtu_bytes=65535)
        self.assertEqual(plan(jumbo).link_mtu_bytes, 9000)
        self.assertEqual(plan(jumbo).mtu_bytes, 9000 - 66)
        self.assertEqual(granted(plan(jumbo)).mtu_bytes, 9000 - 66)

    def test_a_client_that_names_no_link_has_the_usual_one(self) -> None:
        silent = replace(OPENCONNECT, base_mtu_bytes=0, mtu_bytes=0)
        self.assertEqual(plan(silent).link_mtu_bytes, 1500)
        self.assertEqual(plan(silent, path=65535).link_mtu_bytes, 1500)

    def test_the_tunnels_mtu_of_an_old_client_is_its_limit(self) -> None:
        for wanted, got in ((1399, 1399), (1200, 1200), (1600, 1434), (600, 600)):
            old = replace(OPENCONNECT, base_mtu_bytes=0, mtu_bytes=wanted)
            self.assertEqual(plan(old).mtu_bytes, got)

    def test_the_tunnels_mtu_of_a_client_that_names_its_link_is_not(self) -> None:
        self.assertEqual(plan(replace(OPENCONNECT, mtu_bytes=1000)).mtu_bytes, 1434)

    def test_nothing_is_too_small_to_be_answered(self) -> None:
        for offer in (OPENCONNECT, RESUMING, CBC12, WITHOUT_DTLS):
            for version in (4, 6):
                tiny = replace(offer, base_mtu_bytes=576)
                made = plan(tiny, dtls=LEGACY, ip_version=version, path=68)
                self.assertGreaterEqual(made.mtu_bytes, 576)
                self.assertLess(made.mtu_bytes, made.link_mtu_bytes)
                self.assertEqual(granted(made, Lease(LEASE.ipv4)).mtu_bytes, made.mtu_bytes)


class FamilyTests(TestCase):
    def test_both_are_given_to_whom_wants_both(self) -> None:
        self.assertEqual(plan().families, {4, 6})

    def test_a_client_without_the_header_gets_both(self) -> None:
        self.assertEqual(plan(replace(OPENCONNECT, address_families=frozenset())).families, {4, 6})

    def test_header_and_policy_must_agree(self) -> None:
        only4 = replace(OPENCONNECT, address_families=frozenset({4}))
        only6 = replace(OPENCONNECT, address_families=frozenset({6}))
        self.assertEqual(plan(only4).families, {4})
        self.assertEqual(plan(only6).families, {6})
        self.assertEqual(plan(policy=GroupPolicy(ipv6=False)).families, {4})
        self.assertEqual(plan(policy=GroupPolicy(ipv4=False)).families, {6})
        self.assertEqual(plan(only6, GroupPolicy(ipv6=False)).families, frozenset())

    def test_ipv6_needs_its_smallest_mtu(self) -> None:
        for link_mtu, families in ((1346, {4, 6}), (1345, {4})):
            made = plan(replace(OPENCONNECT, base_mtu_bytes=link_mtu))
            self.assertEqual(made.families, families, link_mtu)

    def test_a_client_is_told_the_families_of_its_plan_alone(self) -> None:
        self.assertEqual(told_lease(LEASE, frozenset({4, 6})), LEASE)
        self.assertEqual(told_lease(LEASE, frozenset({4})), Lease(LEASE.ipv4))
        self.assertEqual(told_lease(LEASE, frozenset({6})), Lease(None, LEASE.ipv6))
        self.assertIsNone(told_lease(Lease(LEASE.ipv4), frozenset({6})))


class DTLSChoiceTests(TestCase):
    def name(self, offer: TunnelOffer, dtls: DTLSSettings | None = None) -> tuple[str, str]:
        """The header and the name of what is chosen."""
        choice = plan(offer, dtls=dtls).choice
        return ("", "") if choice is None else (choice.header, choice.name)

    def test_psk_comes_first(self) -> None:
        self.assertEqual(self.name(OPENCONNECT), ("X-DTLS-CipherSuite", "PSK-NEGOTIATE"))

    def test_psk_can_be_switched_off(self) -> None:
        chosen = self.name(OPENCONNECT, DTLSSettings(psk=False))
        self.assertEqual(chosen, ("X-DTLS12-CipherSuite", "ECDHE-RSA-AES256-GCM-SHA384"))

    def test_the_newer_header_comes_before_the_older_one(self) -> None:
        older = replace(OPENCONNECT, dtls12_suites=())
        off = DTLSSettings(psk=False)
        self.assertEqual(self.name(older, off), ("X-DTLS-CipherSuite", "OC-DTLS1_2-AES256-GCM"))

    def test_cbc_suites_need_the_switch(self) -> None:
        cisco = replace(CBC12, dtls12_suites=(), dtls_suites=("AES256-SHA",))
        for offer in (CBC12, cisco):
            self.assertEqual(self.name(offer), ("", ""))
        self.assertEqual(self.name(CBC12, LEGACY), ("X-DTLS12-CipherSuite", "AES256-SHA"))
        self.assertEqual(self.name(cisco, LEGACY), ("X-DTLS-CipherSuite", "AES256-SHA"))

    def test_the_switch_does_not_change_who_can_do_better(self) -> None:
        off = DTLSSettings(psk=False, legacy=True)
        self.assertEqual(self.name(OPENCONNECT, off)[1], "ECDHE-RSA-AES256-GCM-SHA384")

    def test_a_resumption_needs_a_master_secret(self) -> None:
        self.assertEqual(self.name(replace(RESUMING, dtls_master_secret=b"")), ("", ""))
        without = replace(OPENCONNECT, dtls_master_secret=b"")
        self.assertEqual(self.name(without)[1], "PSK-NEGOTIATE")

    def test_gateway_and_policy_can_switch_dtls_off(self) -> None:
        self.assertIsNone(plan(dtls=DTLSSettings(enabled=False)).choice)
        self.assertIsNone(plan(policy=GroupPolicy(dtls=False)).choice)

    def test_a_client_that_wants_none_gets_none(self) -> None:
        self.assertIsNone(granted(plan(WITHOUT_DTLS)).dtls)


class GrantTests(TestCase):
    POLICY = GroupPolicy(
        dns=(ip_address("10.0.0.53"), ip_address("fd00::53")),
        nbns=(ip_address("10.0.0.54"),),  # type: ignore[arg-type]
        default_domain="example.com",
        split_dns=("corp.example.com",),
        split_include=(IPv4Network("10.0.0.0/8"),),
        split_exclude=(IPv4Network("10.1.0.0/16"),),
        exclude_local_lan=True,
        client_bypass_protocol=True,
        banner="Welcome",
        keepalive_s=21.4,
        rekey_s=3600.0,
        idle_timeout_s=600.0,
        session_timeout_s=36000.0,
        disconnected_timeout_s=900.0,
        proxy=MappingProxyType({"MSIE-Proxy-Method": "auto"}),
        dynamic_split_include=("a.example.com",),
        dynamic_split_exclude=("b.example.com",),
    )

    def test_a_policy_is_told_whole(self) -> None:
        policy = self.POLICY
        made = granted(plan(replace(OPENCONNECT, hostname="laptop"), policy), remaining_s=35999.7)
        self.assertEqual(made.lease, LEASE)
        self.assertEqual((made.mtu_bytes, made.base_mtu_bytes), (1434, 1500))
        self.assertEqual((made.hostname, made.banner), ("laptop", "Welcome"))
        for name in (
            "dns",
            "nbns",
            "default_domain",
            "split_dns",
            "split_include",
            "split_exclude",
            "exclude_local_lan",
            "client_bypass_protocol",
            "proxy",
            "dynamic_split_include",
            "dynamic_split_exclude",
        ):
            self.assertEqual(getattr(made, name), getattr(policy, name), name)
        self.assertEqual((made.keepalive_s, made.rekey_s, made.idle_timeout_s), (21, 3600, 600))
        self.assertEqual((made.session_timeout_s, made.disconnected_timeout_s), (36000, 900))
        self.assertEqual(made.session_timeout_remaining_s, 36000)
        self.assertEqual(made.rekey_method, "new-tunnel")

    def test_all_dns_goes_through_the_tunnel_unless_it_is_split(self) -> None:
        self.assertTrue(granted(plan()).tunnel_all_dns)
        self.assertFalse(granted(plan(policy=self.POLICY)).tunnel_all_dns)

    def test_resolvers_that_cannot_be_reached_are_not_told(self) -> None:
        made = granted(plan(policy=self.POLICY), Lease(LEASE.ipv4))
        self.assertEqual(made.dns, (ip_address("10.0.0.53"),))

    def test_phones_are_probed_less_often(self) -> None:
        policy = GroupPolicy(dpd_s=30, mobile_dpd_s=90)
        phone = ClientDescription(platform="apple-ios")
        for offer, dpd_s in (
            (OPENCONNECT, 30),
            (replace(OPENCONNECT, client=phone), 90),
            (replace(OPENCONNECT, client=ClientDescription(platform="Android")), 90),
            (replace(OPENCONNECT, mobile_licence=True), 90),
        ):
            made = plan(offer, policy)
            self.assertEqual((made.dpd_s, granted(made).dpd_s), (dpd_s, dpd_s))
            dtls = granted(made).dtls
            assert dtls is not None
            self.assertEqual(dtls.dpd_s, dpd_s)

    def test_psk_is_told_by_an_app_id_and_without_an_mtu(self) -> None:
        dtls = granted(plan()).dtls
        assert dtls is not None
        self.assertEqual((dtls.app_id, dtls.session_id), (IDENTIFIER, b""))
        self.assertEqual((dtls.suite, dtls.mtu_bytes, dtls.port), ("PSK-NEGOTIATE", 0, 443))

    def test_a_resumption_is_told_by_a_session_id_and_with_its_mtu(self) -> None:
        made = granted(plan(RESUMING))
        dtls = made.dtls
        assert dtls is not None
        self.assertEqual((dtls.app_id, dtls.session_id), (b"", IDENTIFIER))
        self.assertEqual((dtls.header, dtls.suite), ("X-DTLS12-CipherSuite", "AES128-GCM-SHA256"))
        self.assertEqual((dtls.mtu_bytes, made.mtu_bytes), (1434, 1434))

    def test_ciscos_client_is_known_by_its_name(self) -> None:
        for agent, is_cisco in (
            ("AnyConnect Windows 4.10.07061", True),
            ("Cisco AnyConnect VPN Agent for Apple iPhone 4.0", True),
            ("Open AnyConnect VPN Agent v9.01-3", False),
            ("", False),
        ):
            offer = replace(OPENCONNECT, client=ClientDescription(agent))
            self.assertEqual(plan(offer).is_cisco, is_cisco, agent)


class CompressionTests(TestCase):
    OFFER = replace(OPENCONNECT, encodings=("oc-lz4", "lzs", "deflate"), dtls_encodings=("lzs",))

    def test_there_is_none_unless_the_policy_wants_it(self) -> None:
        made = granted(plan(self.OFFER))
        assert made.dtls is not None
        self.assertEqual((made.encoding, made.dtls.encoding), ("", ""))

    def test_the_policys_order_counts_and_each_channel_is_asked(self) -> None:
        for wanted, tls, dtls in (
            (("oc-lz4", "lzs"), "oc-lz4", "lzs"),
            (("deflate", "lzs"), "deflate", "lzs"),
            (("deflate",), "deflate", ""),
        ):
            made = granted(plan(self.OFFER, GroupPolicy(compression=wanted)))
            assert made.dtls is not None
            self.assertEqual((made.encoding, made.dtls.encoding), (tls, dtls), wanted)

    def test_what_a_client_does_not_offer_is_not_used(self) -> None:
        made = granted(plan(OPENCONNECT, GroupPolicy(compression=("lzs",))))
        self.assertEqual(made.encoding, "")
        odd = replace(OPENCONNECT, dtls_encodings=("deflate",))
        self.assertEqual(plan(odd, GroupPolicy(compression=("deflate",))).dtls_encoding, "")
