"""Tests of anyvpn.backends.adapter_linux_plan: what a grant means for the host."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

from anyvpn.backends.adapter_linux_plan import Way, make_plan
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings

IPV4 = Lease(IPv4Interface("10.1.2.3/24"))
BOTH = Lease(IPv4Interface("10.1.2.3/24"), IPv6Interface("fd00::3/128"))
GATEWAY = ip_address("192.0.2.1")


def ways(lease: Lease, **granted: object) -> dict[str, Way]:
    settings = TunnelSettings(lease, 1400, **granted)  # type: ignore[arg-type]
    plan = make_plan(AdapterSettings(settings, 1400, GATEWAY))
    return {str(each.network): each.way for each in plan.routes}


class PlanTests:
    def test_everything_goes_through_the_tunnel_but_the_way_to_the_gateway(self) -> None:
        found = ways(BOTH)
        for network in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"):
            assert found[network] is Way.TUNNEL
        assert found["192.0.2.1/32"] is Way.OUTSIDE

    def test_a_family_that_the_tunnel_does_not_carry_does_not_leak(self) -> None:
        assert ways(IPV4)["::/1"] is Way.NOWHERE
        assert "::/1" not in ways(IPV4, client_bypass_protocol=True)

    def test_split_networks_and_resolvers_alone(self) -> None:
        found = ways(
            IPV4,
            split_include=(ip_network("10.20.0.0/16"), ip_network("fd00:20::/48")),
            dns=(ip_address("10.30.0.1"),),
        )
        assert found == {
            "10.1.2.0/24": Way.TUNNEL,
            "10.20.0.0/16": Way.TUNNEL,
            "10.30.0.1/32": Way.TUNNEL,
            "192.0.2.1/32": Way.OUTSIDE,
        }

    def test_what_is_excluded_goes_past_the_tunnel(self) -> None:
        assert ways(IPV4, split_exclude=(ip_network("10.9.0.0/16"),))["10.9.0.0/16"] is Way.OUTSIDE
