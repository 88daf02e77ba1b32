"""More clients than addresses: who comes too late is told so, and who leaves makes room."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import pytest

from tests.interop.site import INNER_NETWORK, Site

LENDABLE = ("10.77.0.10", "10.77.0.11")


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    first, last = LENDABLE
    return {
        "addresses": {
            "pools": [{"name": "two", "network": INNER_NETWORK, "first": first, "last": last}]
        },
        "authorizer": {"policies": {"default": {"ipv6": False}}},
    }


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "bob", "carol")


class ShortageTests:
    def test_third_of_two_addresses_is_refused_and_gets_the_one_that_is_given_back(
        self, site: Site
    ) -> None:
        clients = [site.connect("alice"), site.connect("bob", host=2)]
        assert {client.inner_addresses[0] for client in clients} == set(LENDABLE)
        cookie = site.log_in("carol", host=3)
        since = site.gateway.program.position
        refused = site.connect_with(cookie, host=3)
        assert refused.wait_for_end() != 0
        assert refused.find("VPN service unavailable; reason: no address is free")
        site.gateway.wait_for_event("tunnel_refused", user="carol", detail="503", since=since)
        assert all(client.ping("10.77.0.1") for client in clients)

        given_back, _ = clients[0].inner_addresses
        clients[0].stop(signal.SIGINT)
        site.gateway.wait_for_event("session_ended", user="alice", since=since)
        admitted = site.connect_with(cookie, host=3)
        admitted.wait_until_configured()
        assert admitted.inner_addresses == (given_back, "")
        assert admitted.ping("10.77.0.1")
        assert clients[1].ping("10.77.0.1")

    def test_client_that_is_only_away_keeps_its_address(self, site: Site) -> None:
        cookie = site.log_in("alice")
        away = site.connect_with(cookie)
        away.wait_until_configured()
        address, _ = away.inner_addresses
        site.connect("bob", host=2)
        away.kill()
        refused = site.client("carol", host=3)
        assert refused.wait_for_end() != 0
        assert refused.find("no address is free")
        back = site.connect_with(cookie)
        back.wait_until_configured()
        assert back.inner_addresses == (address, "")
