"""What the network does to a working tunnel: firewalls, NATs, other addresses."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from anyvpn.testing.programs import wait_until
from tests.interop.site import Site

DPD_S = 3
DTLS_TRIED_AGAIN_AFTER_S = 60.0  # openconnect's own, not to be changed from outside
RECONNECTED_IN_S = 60.0
LOCAL_PORT = 40_000
SEEN_PORT = 40_777
WELL_ON_ITS_WAY_DATAGRAMS = 10_000


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        # A user's address would be the same again without anybody remembering it
        "addresses": {"predictable": False},
        "authorizer": {"policies": {"default": {"dpd_s": DPD_S, "mobile_dpd_s": DPD_S}}},
    }


class FirewallTests:
    def test_data_goes_over_tls_while_udp_is_blocked_and_over_dtls_while_not(
        self, site: Site
    ) -> None:
        host = site.network.host(1)
        inner, _ = site.gateway.inner_addresses
        site.network.block_udp(host)
        client = site.connect()
        assert client.ping(inner)
        assert not client.find("Established DTLS")

        site.network.restore()
        client.wait_for_dtls(limit_s=DTLS_TRIED_AGAIN_AFTER_S + 30)
        before = site.datagrams(host.namespace)
        assert client.ping(inner, count=10)
        assert site.datagrams(host.namespace) - before >= 20

        download = site.start_transfer(host.namespace, "download", inner)
        before = site.datagrams(host.namespace)
        wait_until(
            lambda: site.datagrams(host.namespace) - before > WELL_ON_ITS_WAY_DATAGRAMS,
            "the download is on its way over DTLS",
        )
        assert download.is_running
        site.network.block_udp(host)
        assert not download.find("matches")
        assert site.result(download).matches
        assert client.ping(inner)

    def test_upload_completes_when_udp_is_blocked_on_the_way(self, site: Site) -> None:
        host = site.network.host(1)
        inner, _ = site.gateway.inner_addresses
        client = site.connect()
        client.wait_for_dtls()
        before = site.datagrams(host.namespace)
        upload = site.start_transfer(host.namespace, "upload", inner)
        wait_until(
            lambda: site.datagrams(host.namespace) - before > WELL_ON_ITS_WAY_DATAGRAMS,
            "the upload is on its way over DTLS",
        )
        site.network.block_udp(host)
        assert not upload.find("matches")
        assert site.result(upload).matches

    def test_gateway_follows_the_client_to_tls_at_once_and_gives_dtls_up_later(
        self, site: Site
    ) -> None:
        host = site.network.host(1)
        client = site.connect()
        client.wait_for_dtls()
        since, position = site.gateway.program.position, client.position
        site.network.block_udp(host)
        client.wait_for("DTLS Dead Peer Detection detected dead peer", since=position)
        assert "dtls_down" not in site.gateway.program.output(since)
        assert client.ping(site.gateway.inner_addresses[0])
        site.gateway.wait_for_event("dtls_down", user="alice", detail="no sign", since=since)
        assert client.ping(site.gateway.inner_addresses[0])
        assert "tunnel_closed" not in site.gateway.program.output(since)


class AddressTests:
    def test_session_follows_its_client_through_a_nat_that_forgot_it(self, site: Site) -> None:
        host = site.network.host(1)
        inner, inner_ipv6 = site.gateway.inner_addresses
        client = site.connect(options=("--dtls-local-port", str(LOCAL_PORT)))
        client.wait_for_dtls()
        assert client.ping(inner)
        since, position = site.gateway.program.position, client.position
        site.network.rebind(host, LOCAL_PORT, host.other_address, SEEN_PORT)
        assert client.ping(inner)
        assert client.ping(inner_ipv6)
        line = site.gateway.wait_for_event("peer_moved", user="alice", since=since)
        assert host.other_address in line
        assert not client.find("Established DTLS|DTLS Dead Peer|reconnect", position)

    def test_client_with_another_address_keeps_its_session(self, site: Site) -> None:
        host = site.network.host(2)
        inner, _ = site.gateway.inner_addresses
        client = site.connect(host=2)
        client.wait_for_dtls()
        addresses = client.inner_addresses
        since = site.gateway.program.position
        host.change_address()
        again = client.environment("reconnect", limit_s=RECONNECTED_IN_S)
        assert (again["INTERNAL_IP4_ADDRESS"], again["INTERNAL_IP6_ADDRESS"]) == addresses
        assert client.ping(inner)
        line = site.gateway.wait_for_event("tunnel_resumed", user="alice", since=since)
        assert host.address in line
        assert "login_succeeded" not in site.gateway.program.output(since)
