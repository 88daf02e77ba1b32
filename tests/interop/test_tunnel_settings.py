"""What the policy grants, as vpnc-script is told of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.site import Site


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "authorizer": {
            "policies": {
                "engineering": {
                    "dns": ["10.77.0.53", "fd77::53"],
                    "nbns": ["10.77.0.54"],
                    "default_domain": "corp.example",
                    "split_dns": ["corp.example", "lab.example"],
                    "split_include": ["10.20.0.0/16", "172.16.5.0/24", "fd00:20::/48"],
                    "split_exclude": ["10.20.30.0/24", "fd00:20:0:30::/64"],
                    "banner": "Authorised use only",
                },
                "ipv4": {"ipv6": False},
                "ipv6": {"ipv4": False},
            },
            "by_user": {"eva": "engineering", "four": "ipv4", "six": "ipv6"},
        }
    }


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "eva", "four", "six")


class EnvironmentTests:
    def test_split_routes_and_names_reach_the_script(self, site: Site) -> None:
        environment = site.connect("eva").environment()
        expected = {
            "CISCO_SPLIT_INC": "2",
            "CISCO_SPLIT_EXC": "1",
            "CISCO_SPLIT_EXC_0_ADDR": "10.20.30.0",
            "CISCO_SPLIT_EXC_0_MASK": "255.255.255.0",
            "CISCO_SPLIT_EXC_0_MASKLEN": "24",
            "CISCO_IPV6_SPLIT_INC": "1",
            "CISCO_IPV6_SPLIT_INC_0_ADDR": "fd00:20::",
            "CISCO_IPV6_SPLIT_INC_0_MASKLEN": "48",
            "CISCO_IPV6_SPLIT_EXC": "1",
            "CISCO_IPV6_SPLIT_EXC_0_ADDR": "fd00:20:0:30::",
            "CISCO_IPV6_SPLIT_EXC_0_MASKLEN": "64",
            "INTERNAL_IP4_DNS": "10.77.0.53 fd77::53",
            "INTERNAL_IP4_NBNS": "10.77.0.54",
            "CISCO_DEF_DOMAIN": "corp.example",
            "CISCO_BANNER": "Authorised use only",
            "VPNGATEWAY": "192.0.2.1",
        }
        assert {key: environment.get(key) for key in expected} == expected
        included = {
            (environment[f"CISCO_SPLIT_INC_{n}_ADDR"], environment[f"CISCO_SPLIT_INC_{n}_MASKLEN"])
            for n in range(2)
        }
        assert included == {("10.20.0.0", "16"), ("172.16.5.0", "24")}
        assert set(environment["CISCO_SPLIT_DNS"].split(",")) == {"corp.example", "lab.example"}

    def test_everything_goes_through_the_tunnel_without_split_routes(self, site: Site) -> None:
        environment = site.connect("alice").environment()
        assert not [name for name in environment if "SPLIT" in name]
        assert environment["INTERNAL_IP4_ADDRESS"].startswith("10.77.0.")
        assert environment["INTERNAL_IP4_NETMASKLEN"] == "24"
        assert environment["INTERNAL_IP6_ADDRESS"].startswith("fd77::")

    @pytest.mark.parametrize(("user", "given"), [("four", (True, False)), ("six", (False, True))])
    def test_one_family_alone_carries_traffic(
        self, site: Site, user: str, given: tuple[bool, bool]
    ) -> None:
        client = site.connect(user)
        assert tuple(map(bool, client.inner_addresses)) == given
        address = site.gateway.inner_addresses[given.index(True)]
        assert client.ping(address)
