"""Keys that contradict each other."""

from __future__ import annotations

from tests.tap.set_up import ConfigurationCase

PROFILE = 'authenticator = "password"'


class ProfileTests(ConfigurationCase):
    def add_profile(self, *lines: str) -> int:
        text = "\n".join(["", "[[connection_profiles]]", *lines, PROFILE])
        return self.change(PROFILE, PROFILE + text)

    def test_names_and_aliases_are_unique_without_case(self) -> None:
        self.add_profile('name = "staff"', 'alias = "DEFAULT"')
        assert self.only_problem().endswith(
            'connection_profiles[1].alias: "DEFAULT" is a name or alias of "default" too; '
            "choose another"
        )

    def test_profile_may_have_its_name_as_alias(self) -> None:
        self.add_profile('name = "staff"', 'alias = "Staff"')
        assert self.problems() == []

    def test_group_urls_are_unique(self) -> None:
        self.change("#group_urls = []", 'group_urls = ["/staff/", "vpn.test/staff"]')
        self.add_profile('name = "staff"', 'group_urls = ["/Staff"]')
        assert self.only_problem().endswith(
            'connection_profiles[1].group_urls[0]: "/Staff" chooses "default" already; remove one'
        )

    def test_group_urls_are_paths_with_or_without_host(self) -> None:
        for url in ("staff", "https://vpn.test/staff", "/a b", "/a?b", "vpn.test"):
            with self.subTest(url):
                self.setUp()
                self.change("#group_urls = []", f'group_urls = ["{url}"]')
                assert 'must be a path such as "/staff"' in self.only_problem()
        self.setUp()
        self.change("#group_urls = []", 'group_urls = ["/", "[fd00::1]:4443/x", "vpn.test:1/y/z"]')
        assert self.problems() == []

    def test_default_profile_exists(self) -> None:
        line = self.change('#default_profile = ""', 'default_profile = "defaults"')
        assert self.only_problem() == (
            f"gateway.toml:{line}: gateway.default_profile: there is no connection profile "
            '"defaults"; did you mean "default"?'
        )

    def test_profile_that_nobody_can_choose_is_refused(self) -> None:
        self.add_profile('name = "hidden"', "listed = false")
        assert "connection_profiles[1].listed: nobody can choose" in self.only_problem()

    def test_hidden_profile_with_a_url_is_fine(self) -> None:
        self.add_profile('name = "hidden"', "listed = false", 'group_urls = ["/hidden"]')
        assert self.problems() == []

    def test_profiles_of_policies_exist(self) -> None:
        line = self.change("#[authorizer.by_profile]", "[authorizer.by_profile]\nstaff='default'")
        assert self.only_problem() == (
            f"gateway.toml:{line + 1}: authorizer.by_profile.staff: there is no connection profile "
            '"staff"; there are default'
        )


class NameTests(ConfigurationCase):
    def test_policies_of_client_profiles_exist(self) -> None:
        self.change("#[profiles.by_policy]", "[profiles.by_policy]\ndefalt = 'anyvpn.xml'")
        assert self.only_problem().endswith(
            'profiles.by_policy.defalt: there is no policy "defalt"; did you mean "default"?'
        )

    def test_pools_of_policies_exist_and_are_reported_where_they_are_named(self) -> None:
        line = self.change("#address_pools = []", "address_pools = ['ipv44']")
        self.change(
            "#[authorizer.by_profile]",
            "[authorizer.policies.other]\nbased_on = 'default'\n",
        )
        assert self.only_problem() == (
            f"gateway.toml:{line}: authorizer.policies.default.address_pools: there is no pool "
            '"ipv44"; did you mean "ipv4"?'
        )

    def test_a_filter_rule_that_is_wrong_is_named(self) -> None:
        line = self.change("#filters = []", 'filters = ["allow tpc any"]')
        assert self.only_problem() == (
            f"gateway.toml:{line}: authorizer.policies.default.filters: "
            '"allow tpc any": "tpc" is no protocol: there are any, tcp, udp, icmp, icmpv6 and '
            "numbers"
        )

    def test_a_pool_behind_a_client_is_refused(self) -> None:
        line = self.change("#client_networks = []", 'client_networks = ["10.9.0.0/16"]')
        assert self.only_problem() == (
            f"gateway.toml:{line}: authorizer.policies.default.client_networks: 10.9.0.0/16 "
            "overlaps 10.9.8.0/24, which is lent to clients"
        )

    def test_networks_that_lie_behind_nobody_are_refused(self) -> None:
        for network in ("0.0.0.0/0", "224.0.0.0/8", "127.0.0.0/8", "fe80::/64"):
            line = self.change("#client_networks = []", f'client_networks = ["{network}"]')
            assert self.only_problem() == (
                f"gateway.toml:{line}: authorizer.policies.default.client_networks: {network} "
                "cannot lie behind a client"
            )
            self.change(f'client_networks = ["{network}"]', "#client_networks = []")

    def test_overlapping_pools_are_refused(self) -> None:
        self.change('network = "fd09:8::/64"', 'network = "10.9.8.128/25"')
        assert "addresses: pool" in self.only_problem()
        assert "overlaps" in self.only_problem()


class ListenTests(ConfigurationCase):
    LISTEN = 'listen = ["tcp:0:interface=127.0.0.1"]'

    def test_endpoints_are_looked_at(self) -> None:
        line = self.change(self.LISTEN, 'listen = ["tcp:1",\n "tls:443", "tcp:1"]')
        found = self.problems()
        assert len(found) == 2
        assert found[0].startswith(f"gateway.toml:{line + 1}: gateway.listen[1]: ")
        assert "is there twice" in found[1]

    def test_udp_port_is_needed_when_no_tcp_port_is_known(self) -> None:
        self.change("port = 4433", "")
        assert "dtls.port: is missing" in self.only_problem()
        self.change(self.LISTEN, 'listen = ["tcp:4443"]')
        assert self.set_up.load().settings.dtls.port == 4443

    def test_interfaces_are_addresses(self) -> None:
        self.change("#interfaces = []", 'interfaces = ["::", "eth0"]')
        assert 'dtls.interfaces[1]: must be an IP address, not "eth0"' in self.only_problem()

    def test_udp_has_no_more_addresses_than_an_engine_reads(self) -> None:
        line = self.change(self.LISTEN, self.listen_at(65))
        found = self.only_problem()
        assert found.startswith(f"gateway.toml:{line}: gateway.listen: UDP would be received at 65")
        self.change(self.listen_at(65), self.listen_at(64))
        assert self.problems() == []

    @staticmethod
    def listen_at(count: int) -> str:
        endpoints = [f'"tcp:4443:interface=127.0.1.{number}"' for number in range(count)]
        return f"listen = [{', '.join(endpoints)}]"


class ControlTests(ConfigurationCase):
    def test_socket_has_to_fit_into_an_address(self) -> None:
        line = self.change("#[control]", f'[control]\nsocket = "/{"x" * 107}"') + 1
        assert self.only_problem() == (
            f"gateway.toml:{line}: control.socket: must be a path of at most 107 bytes, "
            "this one has 108; name a shorter one"
        )

    def test_socket_that_is_off_may_be_anything(self) -> None:
        self.change("#[control]", f'[control]\nenabled = false\nsocket = "/{"x" * 107}"')
        assert self.problems() == []
