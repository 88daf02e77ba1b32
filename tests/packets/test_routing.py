"""Inner addresses find their tunnels, and sources are who they may be."""

from __future__ import annotations

import unittest
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.packets.routing import Routes, Sources, source_in
from anyvpn.testing.inner_packets import ipv4_packet, ipv6_packet

ipv4_networks = st.builds(
    lambda number, prefix: IPv4Network((number, prefix), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
NEAR = st.integers(0x0A000000, 0x0A0000FF)


class RoutesTests(unittest.TestCase):
    def test_both_families_find_their_tunnel(self) -> None:
        routes: Routes[str] = Routes()
        addresses = [IPv4Address("10.0.0.1"), IPv6Address("fd00::1")]
        routes.add("one", addresses, [IPv4Network("10.5.0.0/16"), IPv6Network("fd05::/32")])
        for text in ("10.0.0.1", "fd00::1", "10.5.255.255", "fd05::9"):
            self.assertEqual(routes.find(ip_address(text).packed), "one")
        for text in ("10.0.0.2", "fd00::2", "10.6.0.0", "fd06::9"):
            self.assertIsNone(routes.find(ip_address(text).packed))

    def test_what_is_removed_is_found_no_more(self) -> None:
        routes: Routes[str] = Routes()
        route = ("one", [IPv4Address("10.0.0.1")], [IPv4Network("10.5.0.0/16")])
        routes.add(*route)
        routes.remove(*route)
        routes.remove(*route)
        self.assertIsNone(routes.find(bytes((10, 0, 0, 1))))
        self.assertIsNone(routes.find(bytes((10, 5, 0, 1))))

    def test_removing_takes_nothing_from_who_came_later(self) -> None:
        routes: Routes[str] = Routes()
        routes.add("old", [IPv4Address("10.0.0.1")], [IPv4Network("10.5.0.0/16")])
        routes.add("new", [IPv4Address("10.0.0.1")], [IPv4Network("10.5.0.0/16")])
        routes.remove("old", [IPv4Address("10.0.0.1")], [IPv4Network("10.5.0.0/16")])
        self.assertEqual(routes.find(bytes((10, 0, 0, 1))), "new")
        self.assertEqual(routes.find(bytes((10, 5, 0, 1))), "new")

    @given(st.lists(ipv4_networks, max_size=12, unique=True), st.integers(0, 2**32 - 1))
    @settings(max_examples=150)
    def test_the_longest_prefix_wins(self, networks: list[IPv4Network], number: int) -> None:
        routes: Routes[str] = Routes()
        for network in networks:
            routes.add(str(network), [], [network])
        for address in (IPv4Address(number), *(each.network_address for each in networks)):
            holding = [each for each in networks if address in each]
            longest = max(holding, key=lambda each: each.prefixlen, default=None)
            found = routes.find(address.packed)
            self.assertEqual(found, None if longest is None else str(longest))

    @given(st.lists(st.binary(max_size=60), max_size=20))
    @settings(max_examples=150)
    def test_any_bytes_are_grouped_and_none_is_lost(self, packets: list[bytes]) -> None:
        routes: Routes[str] = Routes()
        routes.add("all", [], [IPv4Network("0.0.0.0/1"), IPv6Network("8000::/1")])
        groups, elsewhere = routes.group_by_destination(packets)
        grouped = groups.get("all", [])
        self.assertEqual(sorted([*grouped, *elsewhere]), sorted(packets))

    def test_groups_keep_the_order(self) -> None:
        routes: Routes[str] = Routes()
        routes.add("one", [IPv4Address("10.0.0.1")], [])
        routes.add("two", [IPv4Address("10.0.0.2")], [])
        packets = [
            ipv4_packet(bytes(4), bytes((10, 0, 0, last)), b"%d" % number)
            for number, last in enumerate((1, 2, 2, 1, 3, 1))
        ]
        groups, elsewhere = routes.group_by_destination(packets)
        self.assertEqual(groups["one"], [packets[0], packets[3], packets[5]])
        self.assertEqual(groups["two"], packets[1:3])
        self.assertEqual(elsewhere, packets[4:5])


class SourcesTests(unittest.TestCase):
    def test_a_source_is_read_where_its_family_has_it(self) -> None:
        one, two = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
        self.assertEqual(source_in(ipv4_packet(one, two)), one)
        self.assertEqual(source_in(ipv6_packet(one * 4, two * 4)), one * 4)

    def test_what_is_cut_off_has_no_source(self) -> None:
        for packet, header_bytes in (
            (ipv4_packet(bytes(4), bytes(4)), 20),
            (ipv6_packet(bytes(16), bytes(16)), 40),
        ):
            for size in range(header_bytes):
                self.assertEqual(source_in(packet[:size]), b"")

    @given(st.lists(st.binary(max_size=44), max_size=5))
    @settings(max_examples=200)
    def test_the_quick_look_never_says_yes_to_what_the_full_one_refuses(
        self, packets: list[bytes]
    ) -> None:
        for addresses in ([IPv4Address(0)], [IPv6Address(0)], [IPv4Address(0), IPv6Address(0)]):
            sources = Sources(addresses, [])
            near = [b"\x45" + packet for packet in packets] + [b"\x60" + each for each in packets]
            for batch in (packets, near, [bytes(size) for size in range(45)]):
                for packet in batch:
                    if sources.hold_all([packet]):
                        self.assertTrue(sources.hold(source_in(packet)))

    def test_networks_are_allowed_beside_addresses(self) -> None:
        sources = Sources([IPv4Address("10.0.0.1")], [IPv6Network("fd05::/32")])
        self.assertTrue(sources.hold(bytes((10, 0, 0, 1))))
        self.assertTrue(sources.hold(IPv6Address("fd05::1").packed))
        self.assertFalse(sources.hold(IPv6Address("fd06::1").packed))
        self.assertFalse(sources.hold(bytes((10, 0, 0, 2))))
        self.assertFalse(sources.hold(b""))
