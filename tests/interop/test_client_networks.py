"""A subnet behind a client's host: reached from the host inside and back, as long as it may be."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Mapping

import pytest

from anyvpn.testing.freeradius import SECRET, FreeRadius
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import wait_until
from anyvpn.testing.tunnel_client import TunnelClient
from tests.interop.gateway import PASSWORD
from tests.interop.inside import ADDRESS, ADDRESS_IPV6, NETWORKS, Inside, pings, tcp_opens
from tests.interop.network import Network
from tests.interop.site import Site
from tests.interop.test_policies import explained

RADIUS_ADDRESS = "127.0.0.1"
BRANCH = ("10.5.0.0/16", "fd05::/48")
BRANCH_ADDRESSES = ("10.5.0.2", "fd05::2")
HOST, OTHER_HOST = 5, 6
PORT = 7001
REASON = "a network behind this client cannot be led to it"
ATTRIBUTES = (
    "Framed-IP-Address = 10.77.0.50",
    'Framed-Route = "10.5.0.0/16 10.77.0.50 1"',
    "Delegated-IPv6-Prefix = fd05::/48",
)
USERS = (f'alice Cleartext-Password := "{PASSWORD}"', "    " + ",\n    ".join(ATTRIBUTES))


@pytest.fixture(scope="module")
def inside(network: Network) -> Iterator[Inside]:
    with Inside(network.gateway) as made:
        yield made


@pytest.fixture(scope="module")
def branch(network: Network) -> Iterator[Namespace]:
    """A host in the subnet, whose way to everywhere is the client's host."""
    host = network.host(HOST).namespace
    with Namespace("branch") as made:
        made.join(host, "lan", "branch")
        host.add_addresses("branch", "10.5.0.1/16", "fd05::1/48")
        host.forward()
        made.add_addresses(
            "lan", *(f"{each}/{48 if ':' in each else 16}" for each in BRANCH_ADDRESSES)
        )
        made.add_route("default", "via", "10.5.0.1")
        made.add_route("default", "via", "fd05::1")
        for each in BRANCH_ADDRESSES:
            wait_until(lambda each=each: pings(host, each), f"{each} answers on its own link")  # type: ignore[misc]
        yield made
        host.run("ip", "link", "delete", "branch")


@pytest.fixture(scope="module")
def server(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreeRadius]:
    made = FreeRadius(
        tmp_path_factory.mktemp("radius") / "server",
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
def gateway_users() -> tuple[str, ...]:
    return ("alice", "bob")


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
            "policies": {
                "branch": {"client_networks": list(BRANCH)},
                "wrong": {"client_networks": ["10.20.5.0/24"]},
            },
            "by_profile": {"branch": "branch", "wrong": "wrong"},
        },
        "connection_profiles": [
            {"name": "branch"},
            {"name": "wrong"},
            {"name": "radius", "authenticator": "radius"},
        ],
    }


def routes(site: Site) -> set[str]:
    """Those of the gateway's host that lead to the branch."""
    found = set()
    for each in BRANCH:
        family = "-6" if ":" in each else "-4"
        shown = site.gateway.namespace.run("ip", family, "route", "show", "exact", each)
        if "dev anyvpn0" in shown:
            found.add(each)
    return found


def route_inside(client: TunnelClient) -> None:
    for each in NETWORKS:
        client.namespace.add_route(each, "dev", client.device)


def assert_joined(inside: Inside, branch: Namespace) -> None:
    """Each side can open connections to the other."""
    for near, far in zip(BRANCH_ADDRESSES, (ADDRESS, ADDRESS_IPV6), strict=True):
        assert tcp_opens(inside, far, branch, near, PORT)
        assert tcp_opens(branch, near, inside, far, PORT)


class BranchTests:
    def test_it_is_reached_and_reaches_over_reconnects_until_the_session_ends(
        self, site: Site, inside: Inside, branch: Namespace
    ) -> None:
        client = site.connect(host=HOST, options=("--authgroup", "radius"))
        client.wait_for_dtls()
        route_inside(client)
        assert routes(site) == set(BRANCH)
        assert_joined(inside, branch)
        since = site.gateway.program.position
        client.send_signal(signal.SIGUSR2)
        site.gateway.wait_for_event("tunnel_resumed", user="alice", since=since)
        assert_joined(inside, branch)
        client.stop(signal.SIGINT)
        site.gateway.wait_for_event("session_ended", user="alice", since=since)
        wait_until(lambda: not routes(site), "the routes are gone")
        line = site.gateway.wait_for_event("tunnel_closed", user="alice", since=since)
        assert "dropped_spoofed=0" in line

    def test_it_comes_back_after_a_restart_of_the_gateway(
        self, site: Site, inside: Inside, branch: Namespace
    ) -> None:
        client = site.connect_ours(host=HOST, options=("--authgroup", "branch"))
        with (
            inside.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
            branch.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
        ):
            route_inside(client)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((ADDRESS, PORT + 1))
            listener.listen()
            connection.settimeout(20)
            connection.connect((ADDRESS, PORT + 1))
            accepted, _ = listener.accept()
            with accepted:
                site.gateway.stop()
                site.gateway.start()
                assert routes(site) == set()
                site.gateway.wait_for_event("tunnel_resumed", user="alice", limit_s=30)
                assert routes(site) == set(BRANCH)
                accepted.sendall(b"are you there?")
                assert connection.recv(100) == b"are you there?"

    def test_what_was_explained_is_what_lies_behind(self, site: Site) -> None:
        words = [
            f"--attribute={each.replace(' = ', '=', 1).replace(chr(34), '')}" for each in ATTRIBUTES
        ]
        for told in (words, ["--profile", "branch"]):
            assert set(explained(site, "alice", *told)["client_networks"]) == set(BRANCH)


class RefusalTests:
    def test_a_network_lies_behind_one_user_at_a_time(
        self, site: Site, inside: Inside, branch: Namespace
    ) -> None:
        alice = site.connect("alice", host=HOST, options=("--authgroup", "branch"))
        route_inside(alice)
        since = site.gateway.program.position
        bob = site.client("bob", host=OTHER_HOST, options=("--authgroup", "branch"))
        bob.wait_for(f"reason: {REASON}")
        line = site.gateway.wait_for_event("tunnel_refused", user="bob", since=since)
        assert "10.5.0.0/16 lies behind alice already" in line
        assert_joined(inside, branch)

    def test_a_network_of_the_gateway_s_own_lies_behind_nobody(
        self, site: Site, inside: Inside
    ) -> None:
        since = site.gateway.program.position
        client = site.client("bob", host=OTHER_HOST, options=("--authgroup", "wrong"))
        client.wait_for(f"reason: {REASON}")
        line = site.gateway.wait_for_event("tunnel_refused", user="bob", since=since)
        assert "10.20.5.0/24 behind a client overlaps 10.20.0.0/16, to which lan leads" in line
