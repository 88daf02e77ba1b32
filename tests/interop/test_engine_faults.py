"""Faults below the packet engine, at a real tun device: each costs those whom it concerns."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Mapping
from json import loads
from pathlib import Path

import pytest

from anyvpn.testing.openconnect import OpenConnect
from anyvpn.testing.programs import Program, wait_until
from anyvpn.testing.tunnel_client import TunnelClient
from tests.interop.gateway import ENGINES
from tests.interop.site import Site

CHANNELS: Mapping[str, tuple[str, ...]] = {"DTLS": (), "CSTP": ("--no-dtls",)}
ROUTE = "10.90.0.0/16"
MEGABYTES, FEW_MEGABYTES = 60, 10
FLOWING_BYTES = 10**6
PINGS, PING_INTERVAL_S, QUICK_PINGS = 20, 0.03, 150
BURST_BYTES = 2000
IDLE_S, MOST_IDLE_SHARE = 0.5, 0.2
STOP_TIME_S = 8.0
DISCARD_PORT = 9
FLOOD_DATAGRAMS, FLOOD_DATAGRAM_BYTES, FLOOD_BURST, FLOOD_PAUSE_S = 20_000, 1300, 32, 0.001
CLOCK_TICKS = 100


@pytest.fixture(scope="module", params=ENGINES)
def gateway_changes(request: pytest.FixtureRequest) -> Mapping[str, object]:
    return {"gateway": {"engine": request.param}, "tun": {"routes": [ROUTE]}}


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "bob")


def connect(site: Site, user: str, host: int, channel: str) -> OpenConnect:
    since = site.gateway.program.position
    client = site.connect(user, host=host, options=CHANNELS[channel])
    if channel == "DTLS":
        client.wait_for_dtls()
        site.gateway.wait_for_event("dtls_up", user=user, since=since)
    return client


def start_flow(site: Site, client: TunnelClient, wanted: str) -> Program:
    """Begin a transfer; it flows when this comes back."""
    inner, _ = site.gateway.inner_addresses
    before = client.moved_bytes()
    flow = site.start_transfer(client.namespace, wanted, inner, megabytes=MEGABYTES)
    wait_until(lambda: client.moved_bytes() > before + FLOWING_BYTES, "bytes flow")
    return flow


def assert_undisturbed(site: Site, client: OpenConnect) -> None:
    """Every ping is answered, and then a transfer comes to its end, which would push pings out."""
    inner, _ = site.gateway.inner_addresses
    assert client.ping(inner, count=PINGS, interval_s=PING_INTERVAL_S)
    assert_carries(site, client)


def assert_carries(site: Site, client: TunnelClient) -> None:
    """What was begun before a fault goes on when its TCP tries again; what begins now, at once."""
    inner, _ = site.gateway.inner_addresses
    wait_until(lambda: client.ping(inner), "a ping is answered")
    assert site.transfer(client.namespace, "download", inner, megabytes=FEW_MEGABYTES).matches


def assert_idle(site: Site) -> None:
    """The gateway waits, where one that spins would take a whole core."""
    stat = Path(f"/proc/{site.gateway.program.pid}/stat")

    def used_s() -> float:
        user, system = stat.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / CLOCK_TICKS

    before_s = used_s()
    time.sleep(IDLE_S)
    assert used_s() - before_s < MOST_IDLE_SHARE * IDLE_S


def assert_sends_bursts(site: Site, client: TunnelClient) -> None:
    """What the kernel counts as one on the way out are many datagrams."""

    def sent() -> tuple[int, int]:
        shown = site.gateway.namespace.run("ip", "-json", "-stats", "link", "show", "dev", "wan")
        statistics = loads(shown)[0]["stats64"]["tx"]
        return statistics["bytes"], statistics["packets"]

    before = sent()
    assert_carries(site, client)
    now = sent()
    assert (now[0] - before[0]) / (now[1] - before[1]) > BURST_BYTES


def fill_all_buffers(site: Site, client: OpenConnect) -> None:
    """Send more to a client than lies anywhere on the way, no faster than the gateway reads it."""
    address, _ = client.inner_addresses
    with site.gateway.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(FLOOD_DATAGRAMS):
            sender.sendto(bytes(FLOOD_DATAGRAM_BYTES), (address, DISCARD_PORT))
            if number % FLOOD_BURST == 0:
                time.sleep(FLOOD_PAUSE_S)


class StoppedClientTests:
    @pytest.mark.parametrize("channel", CHANNELS)
    def test_it_costs_nobody_else_anything_and_goes_on(self, site: Site, channel: str) -> None:
        stopped, other = connect(site, "alice", 1, channel), connect(site, "bob", 2, channel)
        download = start_flow(site, stopped, "download")
        stopped.send_signal(signal.SIGSTOP)
        try:
            fill_all_buffers(site, stopped)
            assert_undisturbed(site, other)
            assert_idle(site)
            assert download.is_running
        finally:
            stopped.send_signal(signal.SIGCONT)
        assert_carries(site, stopped)
        since = site.gateway.program.position
        stopped.stop(signal.SIGINT)
        line = site.gateway.wait_for_event("session_ended", user="alice", since=since)
        dropped = re.search(r"\bdropped_queue_full=(\d+)", line)
        assert dropped is not None, line
        # What a client does not read over UDP is dropped by its own kernel
        assert int(dropped[1]) > 0 or channel == "DTLS"


class StoppedGatewayTests:
    @pytest.mark.parametrize("channel", CHANNELS)
    def test_nothing_that_was_in_flight_is_lost(self, site: Site, channel: str) -> None:
        client = connect(site, "alice", 1, channel)
        inner, _ = site.gateway.inner_addresses
        program = site.gateway.program
        ping = ["ping", "-n", "-i", "0.002", "-c", str(QUICK_PINGS), "-W", "3", inner]
        burst = Program("the burst", client.namespace.command(ping))
        burst.wait_for("icmp_seq=10 ")
        program.send_signal(signal.SIGSTOP)
        time.sleep(IDLE_S)
        program.send_signal(signal.SIGCONT)
        burst.wait_for(rf"\b{QUICK_PINGS} received")


class PathTests:
    """What the kernel says when one client cannot be reached."""

    def test_a_port_that_is_not_there_any_more(self, site: Site) -> None:
        client, other = connect(site, "alice", 1, "DTLS"), connect(site, "bob", 2, "DTLS")
        since = site.gateway.program.position
        start_flow(site, client, "download")
        host = site.network.host(1)
        site.network.router.filter(
            "table ip refused {\nchain forward {\ntype filter hook forward priority 0;\n"
            f"ip daddr {host.address} meta l4proto udp reject with icmp type port-unreachable\n"
            "}\n}"
        )
        assert_undisturbed(site, other)
        assert_idle(site)
        site.network.restore()
        assert_carries(site, client)
        assert site.gateway.program.output(since) == ""

    @pytest.mark.parametrize(
        ("channel", "kind"),
        [("DTLS", "unreachable"), ("DTLS", "blackhole"), ("CSTP", "unreachable")],
    )
    def test_a_route_that_is_not_there_any_more(self, site: Site, channel: str, kind: str) -> None:
        client, other = connect(site, "alice", 1, channel), connect(site, "bob", 2, channel)
        since = site.gateway.program.position
        start_flow(site, client, "download")
        route = (kind, site.network.host(1).address)
        site.gateway.namespace.run("ip", "route", "add", *route)
        try:
            assert_undisturbed(site, other)
            assert_idle(site)
        finally:
            site.gateway.namespace.run("ip", "route", "del", *route)
        assert_carries(site, client)
        assert site.gateway.program.output(since) == ""

    @pytest.mark.offloads
    def test_an_mtu_that_shrinks_under_bursts(self, site: Site) -> None:
        client, other = connect(site, "alice", 1, "DTLS"), connect(site, "bob", 2, "DTLS")
        since = site.gateway.program.position
        download = start_flow(site, client, "download")
        route = (site.network.host(1).address, "via", "192.0.2.254", "mtu", "900")
        site.gateway.namespace.run("ip", "route", "add", *route)
        try:
            assert_undisturbed(site, other)
            assert site.result(download).matches
            assert_undisturbed(site, client)
        finally:
            site.gateway.namespace.run("ip", "route", "del", *route)
        assert_carries(site, client)
        assert_sends_bursts(site, client)
        assert site.gateway.program.output(since) == ""


class StopTests:
    """Several clients with traffic in both directions at once."""

    def test_a_hang_up_changes_nothing_and_says_so(self, site: Site) -> None:
        client = connect(site, "alice", 1, "DTLS")
        flow = start_flow(site, client, "download")
        since = site.gateway.program.position
        site.gateway.program.send_signal(signal.SIGHUP)
        site.gateway.program.wait_for("SIGHUP changes nothing", since=since)
        assert site.result(flow).matches

    def test_it_ends_in_time_and_clients_come_back(self, site: Site) -> None:
        clients = [
            connect(site, "alice", host, channel) for host, channel in enumerate(CHANNELS, 1)
        ]
        ours = site.connect_ours("bob", host=3)
        for client in (*clients, ours):
            for wanted in ("download", "upload"):
                start_flow(site, client, wanted)
        positions = [client.position for client in clients]
        began_at_s = time.monotonic()
        site.gateway.stop(signal.SIGTERM)
        assert time.monotonic() - began_at_s < STOP_TIME_S
        for client, position in zip(clients, positions, strict=True):
            client.wait_for("sleep 10s", since=position)
        site.gateway.start()
        assert_carries(site, ours)


class DeviceTests:
    def test_one_that_is_down_for_a_while(self, site: Site) -> None:
        client, other = connect(site, "alice", 1, "DTLS"), connect(site, "bob", 2, "CSTP")
        since = site.gateway.program.position
        start_flow(site, client, "download")
        start_flow(site, other, "upload")
        link = ("ip", "link", "set", "dev", "anyvpn0")
        site.gateway.namespace.run(*link, "down")
        assert_idle(site)
        site.gateway.namespace.run(*link, "up")
        for each in (client, other):
            assert_carries(site, each)
            assert each.ping(site.gateway.inner_addresses[1])
        assert ROUTE in site.gateway.namespace.run("ip", "route", "show", "dev", "anyvpn0")
        down, up = site.gateway.program.output(since).splitlines()
        assert "anyvpn0 is down" in down
        assert "anyvpn0 is up again" in up

    def test_one_that_somebody_removes_ends_the_gateway_and_clients_come_back(
        self, site: Site
    ) -> None:
        client, ours = connect(site, "alice", 1, "CSTP"), site.connect_ours("bob", host=2)
        addresses = ours.inner_addresses
        start_flow(site, client, "download")
        start_flow(site, ours, "upload")
        site.gateway.expected_trouble.append("The gateway ends: the tun device anyvpn0 is gone ")
        program = site.gateway.program
        site.gateway.namespace.run("ip", "link", "delete", "anyvpn0")
        assert program.wait_for_end(STOP_TIME_S) == 1
        site.gateway.kill()
        assert program.output().count("anyvpn0 is gone") == 1
        site.gateway.start()
        assert_carries(site, ours)
        assert ours.inner_addresses == addresses
