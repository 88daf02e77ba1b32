"""Several clients at one gateway: with each other, against each other, many at once."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Mapping

import pytest

from anyvpn.testing.programs import Program, wait_until
from anyvpn.testing.tunnel_client import answered
from tests.interop.site import Site

CLIENTS = 50
PINGS, PING_TIME_S = 10, 20
FOREIGN_ADDRESS = "10.66.6.6"
FOREIGN_ADDRESS_IPV6 = "fd66::6"
PORT = 7777


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {}


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "bob")


class NeighbourTests:
    def test_two_clients_talk_to_each_other(self, site: Site) -> None:
        alice = site.connect("alice")
        bob = site.connect("bob", host=2)
        for address in bob.inner_addresses:
            assert alice.ping(address)
        for address in alice.inner_addresses:
            assert bob.ping(address, size_bytes=1200)

    def test_inner_source_that_was_not_lent_is_dropped_and_counted(self, site: Site) -> None:
        client = site.connect()
        namespace = client.namespace
        own = client.inner_addresses
        namespace.add_addresses(
            client.device, f"{FOREIGN_ADDRESS}/32", f"{FOREIGN_ADDRESS_IPV6}/128"
        )
        with site.gateway.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("::", PORT))
            receiver.settimeout(5)
            sources = ((FOREIGN_ADDRESS, own[0]), (FOREIGN_ADDRESS_IPV6, own[1]))
            for inner, (foreign, honest) in zip(site.gateway.inner_addresses, sources, strict=True):
                family = socket.AF_INET6 if ":" in inner else socket.AF_INET
                for source in (foreign, honest):
                    with namespace.socket(family, socket.SOCK_DGRAM) as sender:
                        sender.bind((source, 0))
                        sender.sendto(source.encode(), (inner, PORT))
                assert receiver.recv(100).decode() == honest
        since = site.gateway.program.position
        client.stop(signal.SIGINT)
        line = site.gateway.wait_for_event("session_ended", user="alice", since=since)
        spoofed = re.search(r"spoofed[=:]\s*(\d+)", line)
        assert spoofed is not None, line
        assert int(spoofed[1]) >= 2


class CrowdTests:
    def test_fifty_clients_at_once_all_have_traffic(self, site: Site) -> None:
        inner, inner_ipv6 = site.gateway.inner_addresses
        clients = [site.client(host=3) for _ in range(CLIENTS)]
        for client in clients:
            client.wait_until_configured(limit_s=90)
        for client in clients:
            client.wait_for_dtls(limit_s=30)
        for family in range(2):
            assert len({client.inner_addresses[family] for client in clients}) == CLIENTS
        namespace = clients[0].namespace
        pings = [
            Program(
                f"ping of {client.name}",
                namespace.command(
                    [
                        *("ping", "-n", "-c", str(PINGS), "-w", str(PING_TIME_S), "-i", "0.2"),
                        *("-I", client.device, address),
                    ]
                ),
            )
            for client in clients
            for address in (inner, inner_ipv6)
        ]
        for ping in pings:
            ping.wait_for_end(60)
            assert answered(ping.output()) >= set(range(1, PINGS + 1)), ping.output()
        since = site.gateway.program.position
        site.close_clients()
        wait_until(
            lambda: (
                len(re.findall(r"\bsession_ended\b", site.gateway.program.output(since))) == CLIENTS
            ),
            "every session has ended",
            limit_s=20,
        )
