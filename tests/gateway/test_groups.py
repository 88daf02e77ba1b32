"""Which connection profile a client gets."""

from __future__ import annotations

from unittest import TestCase

from anyvpn.gateway.groups import Groups
from tests.gateway.backends_in_memory import profile

HOST = "vpn.example.com"


class GroupsTests(TestCase):
    def setUp(self) -> None:
        self.bindings = [
            profile("Staff", "/staff", alias="All staff"),
            profile("Engineering", "/engineering", "vpn.example.com/eng/"),
            profile("Hidden", "/Secret/Door", listed=False),
            profile("Partners", "partners.example.com/", "partners.example.com/in"),
            profile("Six", "[2001:db8::1]/six", "gate.example.com:4443/port"),
        ]
        self.groups = Groups(self.bindings, "Staff")

    def by_url(self, access: str, path: str = "/", host: str = HOST) -> str:
        found = self.groups.by_url(host, access, path)
        return "" if found is None else found.profile.name

    # --- by name ----------------------------------------------------------------------------

    def test_a_profile_answers_to_its_name_and_its_alias_in_any_case(self) -> None:
        for name in ("Staff", "all STAFF", "staff"):
            found = self.groups.by_name(name)
            self.assertIs(found, self.bindings[0], name)

    def test_a_hidden_profile_has_no_name(self) -> None:
        self.assertIsNone(self.groups.by_name("Hidden"))

    def test_nobody_answers_to_an_unknown_name(self) -> None:
        self.assertIsNone(self.groups.by_name("Staf"))

    # --- by URL -----------------------------------------------------------------------------

    def test_a_path_selects_on_every_host(self) -> None:
        self.assertEqual(self.by_url("https://vpn.example.com/engineering"), "Engineering")
        self.assertEqual(self.by_url("https://192.0.2.9/engineering"), "Engineering")

    def test_host_and_path_select_on_that_host_alone(self) -> None:
        self.assertEqual(self.by_url("https://vpn.example.com/eng"), "Engineering")
        self.assertEqual(self.by_url("https://other.example.com/eng", host="other"), "")

    def test_case_and_a_slash_at_the_end_make_no_difference(self) -> None:
        for access in (
            "https://VPN.example.com/ENG",
            "https://vpn.example.com/eng/",
            "https://vpn.example.com/ENGineering/",
        ):
            self.assertEqual(self.by_url(access), "Engineering", access)
        self.assertEqual(self.by_url("https://vpn.example.com/secret/door"), "Hidden")

    def test_ports_make_no_difference(self) -> None:
        self.assertEqual(self.by_url("https://vpn.example.com:4443/eng"), "Engineering")
        self.assertEqual(self.by_url("https://gate.example.com/port"), "Six")
        self.assertEqual(self.by_url("https://gate.example.com:4443/port"), "Six")

    def test_ipv6_hosts_are_understood(self) -> None:
        self.assertEqual(self.by_url("https://[2001:db8::1]:4443/six"), "Six")
        self.assertEqual(self.by_url("https://[2001:db8::1]/staff/"), "Staff")
        self.assertEqual(self.by_url("", "/six", host="2001:db8::1"), "Six")
        self.assertEqual(self.by_url("https://[2001:db8::2]/six"), "")

    def test_a_host_of_its_own_selects_without_a_path(self) -> None:
        self.assertEqual(self.by_url("https://partners.example.com/"), "Partners")
        self.assertEqual(self.by_url("https://partners.example.com"), "Partners")
        self.assertEqual(self.by_url("", "/", host="Partners.Example.com"), "Partners")
        self.assertEqual(self.by_url("https://partners.example.com/in/"), "Partners")

    def test_paths_of_the_protocol_select_nothing(self) -> None:
        for path in ("/", "/auth", "/+webvpn+/index.html", "/+CSCOE+/logon.html"):
            self.assertEqual(self.by_url(f"https://vpn.example.com{path}", path), "", path)

    def test_the_path_of_the_request_counts_without_group_access(self) -> None:
        self.assertEqual(self.by_url("", "/engineering/"), "Engineering")
        self.assertEqual(self.by_url("https://vpn.example.com/", "/engineering"), "Engineering")

    def test_group_access_comes_before_the_path_of_the_request(self) -> None:
        self.assertEqual(self.by_url("https://vpn.example.com/staff", "/engineering"), "Staff")

    def test_a_group_access_that_makes_no_sense_is_passed_over(self) -> None:
        for access in (
            "https://[broken/engineering",
            "https://vpn.example.com/../staff",
            "https://vpn.example.com/%zz",
            "engineering",
            "\x00",
            "https://vpn.example.com:port/nothing",
        ):
            self.assertEqual(self.by_url(access), "", access)

    def test_percent_and_double_slashes_are_read(self) -> None:
        self.assertEqual(self.by_url("https://vpn.example.com//secret%2Fdoor"), "Hidden")

    def test_a_url_of_nothing_selects_nothing(self) -> None:
        groups = Groups([profile("Staff"), profile("Root", "/")], "Staff")
        for host in (HOST, ""):
            self.assertIsNone(groups.by_url(host, "", "/"))

    # --- the rest ---------------------------------------------------------------------------

    def test_browsers_begin_at_login_paths(self) -> None:
        for path in ("/", "/auth", "/engineering", "/ENG/"):
            self.assertTrue(self.groups.is_login_path(HOST, path), path)
        self.assertFalse(self.groups.is_login_path(HOST, "/robots.txt"))
        self.assertFalse(self.groups.is_login_path("other.example.com", "/eng"))

    def test_the_selected_group_comes_first(self) -> None:
        listing = self.groups.listing(self.bindings[1])
        assert listing is not None
        self.assertEqual(
            [(each.value, each.selected) for each in listing.options],
            [("Engineering", True), ("All staff", False), ("Partners", False), ("Six", False)],
        )

    def test_a_hidden_profile_and_a_lone_one_offer_no_choice(self) -> None:
        self.assertIsNone(self.groups.listing(self.bindings[2]))
        lone = [profile("Staff"), profile("Hidden", "/hidden", listed=False)]
        self.assertIsNone(Groups(lone, "Staff").listing(lone[0]))

    def test_the_hash_is_decimal_and_changes_with_the_profiles(self) -> None:
        self.assertTrue(self.groups.config_hash.isdecimal())
        self.assertEqual(Groups(self.bindings, "Staff").config_hash, self.groups.config_hash)
        others = [*self.bindings, profile("New")]
        self.assertNotEqual(Groups(others, "Staff").config_hash, self.groups.config_hash)
