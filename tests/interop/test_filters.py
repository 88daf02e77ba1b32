"""What a policy's filters say is what openconnect can do, over IPv4 and IPv6, and no more."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest

from anyvpn.testing.freeradius import SECRET, FreeRadius
from anyvpn.testing.openconnect import OpenConnect
from tests.interop.gateway import PASSWORD
from tests.interop.inside import (
    ADDRESS,
    ADDRESS_IPV6,
    NETWORKS,
    OTHER_ADDRESS,
    Inside,
    UDPEnds,
    pings,
    tcp_opens,
)
from tests.interop.network import Network
from tests.interop.site import Site
from tests.interop.test_policies import explained

RADIUS_ADDRESS = "127.0.0.1"
WEB, NAMES, SHELL, OTHER = 7001, 7002, 7003, 7004
FILTERS = [
    f"deny any {OTHER_ADDRESS}",
    *(f"allow tcp {each} port {WEB}" for each in NETWORKS),
    *(f"allow udp {each} port {NAMES}" for each in NETWORKS),
    f"allow icmp {NETWORKS[0]} type 8",
    f"allow icmpv6 {NETWORKS[1]} type 128",
    *(f"allow to_client tcp {each} port {SHELL}" for each in NETWORKS),
]
ACCESS_LIST = (
    f'    Cisco-AVPair = "ip:inacl#20=permit tcp any {ADDRESS} 0.0.0.0 eq {WEB} {OTHER} log",',
    f'    Cisco-AVPair += "ip:inacl#10=deny tcp any host {ADDRESS} eq {OTHER}",',
    f'    Cisco-AVPair += "ip:outacl#1=permit tcp 10.20.0.0 255.255.0.0 any eq {SHELL}"',
)
USERS = (
    f'alice Cleartext-Password := "{PASSWORD}"',
    *ACCESS_LIST,
    f'carol Cleartext-Password := "{PASSWORD}"',
    '    Filter-Id = "names"',
    f'mallory Cleartext-Password := "{PASSWORD}"',
    '    Cisco-AVPair = "ip:inacl#1=permit ip any any time-range office"',
)


@pytest.fixture(scope="module")
def inside(network: Network) -> Iterator[Inside]:
    with Inside(network.gateway) as made:
        yield made


@pytest.fixture(scope="module")
def server(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreeRadius]:
    directory = tmp_path_factory.mktemp("radius")
    made = FreeRadius(
        directory / "server",
        USERS,
        address=RADIUS_ADDRESS,
        namespace=network.gateway,
        port=1812,
        accounting_port=1813,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gateway_changes(
    server: FreeRadius, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, object]:
    secret = tmp_path_factory.mktemp("secret") / "secret"
    secret.write_text(f"{SECRET}\n")
    return {
        "authenticators": {
            "radius": {
                "backend": "radius",
                "servers": [{"host": RADIUS_ADDRESS, "secret_file": str(secret)}],
            }
        },
        "authorizer": {
            "policies": {"closed": {"filters": FILTERS}},
            "by_profile": {"closed": "closed"},
            "filter_lists": {"names": [f"allow udp {ADDRESS} port {NAMES}"]},
        },
        "connection_profiles": [
            {"name": "open"},
            {"name": "closed"},
            {"name": "radius", "authenticator": "radius"},
        ],
    }


def connect(site: Site, profile: str, user: str = "alice") -> OpenConnect:
    client = site.connect(user, options=("--authgroup", profile))
    for each in NETWORKS:
        client.namespace.add_route(each, "dev", client.device)
    return client


def dropped(site: Site, client: OpenConnect) -> int:
    """What the gateway says it has filtered; the client is gone then."""
    since = site.gateway.program.position
    client.stop(signal.SIGINT)
    line = site.gateway.wait_for_event("session_ended", user="alice", since=since)
    found = re.search(r"dropped_filtered=(\d+)", line)
    assert found is not None, line
    return int(found[1])


class PolicyTests:
    def test_what_is_allowed_can_be_opened_and_nothing_else(
        self, site: Site, inside: Inside
    ) -> None:
        client = connect(site, "closed")
        client.wait_for_dtls()
        namespace = client.namespace
        for own, address in zip(client.inner_addresses, (ADDRESS, ADDRESS_IPV6), strict=True):
            assert tcp_opens(namespace, own, inside, address, WEB)
            assert not tcp_opens(namespace, own, inside, address, OTHER)
            assert tcp_opens(inside, address, namespace, own, SHELL)
            assert not tcp_opens(inside, address, namespace, own, WEB)
            with closing(UDPEnds(namespace, own, inside, address, NAMES)) as ends:
                assert not ends.back()
                assert ends.forth()
                assert ends.back()
            with closing(UDPEnds(namespace, own, inside, address, OTHER)) as ends:
                assert not ends.forth()
            assert client.ping(address)
            assert not pings(inside, own)
        assert not tcp_opens(namespace, client.inner_addresses[0], inside, OTHER_ADDRESS, WEB)
        assert dropped(site, client) >= 2 * 5 + 1

    def test_long_datagrams_pass_in_fragments(self, site: Site, inside: Inside) -> None:
        client = connect(site, "closed")
        client.wait_for_dtls()
        for own, address in zip(client.inner_addresses, (ADDRESS, ADDRESS_IPV6), strict=True):
            with closing(UDPEnds(client.namespace, own, inside, address, NAMES)) as ends:
                # Who learns how long packets may be loses the first one for it
                assert ends.forth(bytes(5000)) or ends.forth(bytes(5000))
                assert ends.back(bytes(5000)) or ends.back(bytes(5000))
            with closing(UDPEnds(client.namespace, own, inside, address, OTHER)) as ends:
                assert not ends.forth(bytes(5000))

    def test_what_was_explained_is_what_is_kept_to(self, site: Site, inside: Inside) -> None:
        assert explained(site, "alice", "--profile", "closed")["filters"] == FILTERS
        assert explained(site, "alice", "--profile", "open")["filters"] == []

    def test_without_rules_everything_passes(self, site: Site, inside: Inside) -> None:
        client = connect(site, "open")
        own = client.inner_addresses[0]
        assert tcp_opens(client.namespace, own, inside, OTHER_ADDRESS, OTHER)
        assert tcp_opens(inside, ADDRESS, client.namespace, own, OTHER)
        assert dropped(site, client) == 0

    def test_a_connection_outlives_its_tunnel(self, site: Site, inside: Inside) -> None:
        """TCP's answers are known by their flags, and the server may be the one that speaks."""
        client = connect(site, "closed")
        with (
            inside.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
            client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
        ):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((ADDRESS, WEB))
            listener.listen()
            connection.settimeout(30)
            connection.connect((ADDRESS, WEB))
            accepted, _ = listener.accept()
            with accepted:
                since = site.gateway.program.position
                client.send_signal(signal.SIGUSR2)
                site.gateway.wait_for_event("tunnel_resumed", user="alice", since=since)
                accepted.sendall(b"are you there?")
                assert connection.recv(100) == b"are you there?"


class RadiusTests:
    def test_a_server_s_access_list_is_what_the_client_gets(
        self, site: Site, inside: Inside
    ) -> None:
        client = connect(site, "radius")
        namespace, own = client.namespace, client.inner_addresses[0]
        assert tcp_opens(namespace, own, inside, ADDRESS, WEB)
        assert not tcp_opens(namespace, own, inside, ADDRESS, OTHER)
        assert not tcp_opens(namespace, own, inside, OTHER_ADDRESS, WEB)
        assert tcp_opens(inside, OTHER_ADDRESS, namespace, own, SHELL)
        assert not tcp_opens(inside, OTHER_ADDRESS, namespace, own, WEB)
        assert not pings(namespace, ADDRESS)
        assert dropped(site, client) >= 4
        attributes = [
            f"--attribute=Cisco-AVPair={found[1]}"
            for line in ACCESS_LIST
            if (found := re.search(r'"(.*)"', line))
        ]
        assert explained(site, "alice", *attributes)["filters"] == [
            f"deny from_client tcp {ADDRESS} port {OTHER}",
            f"allow tcp {ADDRESS} port {WEB},{OTHER}",
            f"allow to_client tcp 10.20.0.0/16 port {SHELL}",
            "deny any",
        ]

    def test_filter_id_names_a_list_of_the_configuration(self, site: Site, inside: Inside) -> None:
        client = connect(site, "radius", "carol")
        own = client.inner_addresses[0]
        with closing(UDPEnds(client.namespace, own, inside, ADDRESS, NAMES)) as ends:
            assert ends.forth()
            assert ends.back()
        assert not tcp_opens(client.namespace, own, inside, ADDRESS, WEB)

    def test_a_list_that_is_not_understood_lets_nobody_in(self, site: Site) -> None:
        client = site.ours("mallory", options=("--authgroup", "radius"))
        assert client.wait_for_end() == 3
        line = site.gateway.wait_for_event("login_failed", user="mallory")
        assert "permit ip any any time-range office" in line
        assert "is not understood" in line
