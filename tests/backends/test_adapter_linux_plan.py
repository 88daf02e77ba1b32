"""Tests of anyvpn.backends.adapter_linux_plan: what a grant means for the host."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from anyvpn.backends.adapter_linux_plan import Way, make_plan
from anyvpn.errors import TunUnavailable
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

    def test_ipv6_is_left_out_of_a_tunnel_too_narrow_for_it_and_does_not_leak(self) -> None:
        plan = make_plan(AdapterSettings(TunnelSettings(BOTH, 1400), 1279))
        assert plan.addresses == (BOTH.ipv4,)
        assert {str(each.network): each.way for each in plan.routes}["::/1"] is Way.NOWHERE
        plan = make_plan(AdapterSettings(TunnelSettings(BOTH, 1400), 1280))
        assert plan.addresses == (BOTH.ipv4, BOTH.ipv6)

    def test_ipv6_alone_in_a_tunnel_too_narrow_for_it_is_refused(self) -> None:
        lease = Lease(None, IPv6Interface("fd00::3/128"))
        with pytest.raises(TunUnavailable, match="1280 bytes, and has one of 1200"):
            make_plan(AdapterSettings(TunnelSettings(lease, 1400), 1200))

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
