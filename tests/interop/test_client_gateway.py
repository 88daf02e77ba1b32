"""Our client against our own gateway: logging in, every kind of channel, sessions that go on."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.programs import Program, wait_until
from tests.interop.gateway import NAME, PORT, environment
from tests.interop.network import GATEWAY_ADDRESS, GATEWAY_ADDRESS_IPV6
from tests.interop.site import Site


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "bob")


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "dtls": {"legacy": True},
        "connection_profiles": [
            {"name": "staff", "alias": "Staff"},
            {"name": "guests", "alias": "Guests"},
        ],
    }


LOGOUT = """
import sys
from twisted.internet.task import react
from twisted.internet.defer import ensureDeferred
from anyvpn.backends.responder_given import Settings, build
from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import TrustSettings
from anyvpn.client.vpn_client import VPNClient
from pathlib import Path

async def main(reactor):
    settings = ClientSettings(
        trust=TrustSettings(ca_file=Path(sys.argv[1])), resolve={"vpn.test": sys.argv[2]}
    )
    responder = build(Settings(username="bob", password="test-pass"), reactor)
    client = VPNClient(reactor, "https://vpn.test:4443", responder, settings=settings)
    await client.log_out(await client.authenticate())

react(lambda reactor: ensureDeferred(main(reactor)))
"""


def set_down_and_up(client: AnyvpnClient) -> None:
    """As an operator does it; wait until the host has the routes that it had."""

    def routes() -> str:
        return client.namespace.run("ip", "route") + client.namespace.run("ip", "-6", "route")

    before, since = routes(), client.position
    client.namespace.run("ip", "link", "set", client.device, "down")
    assert client.device not in routes()
    client.namespace.run("ip", "link", "set", client.device, "up")
    client.wait_for(f"Tun device {client.device} is up again", since=since)
    wait_until(lambda: routes() == before, "its routes are there again")


class LoginTests:
    def test_phases_1_to_6(self, site: Site) -> None:
        client = site.connect_ours()
        assert client.wait_for_dtls() == "TLS_PSK_WITH_AES_256_GCM_SHA384"
        for address in site.gateway.inner_addresses:
            assert client.ping(address)
        stored = list((client.directory / "data" / "anyvpn" / "profiles" / NAME).glob("*.xml"))
        [profile] = stored
        assert (
            profile.read_bytes()
            == (site.gateway.directory / "profiles" / profile.name).read_bytes()
        )

    def test_a_group_that_is_not_there_is_named_with_those_that_are(self, site: Site) -> None:
        client = site.ours(options=("--authgroup", "nobody"))
        assert client.wait_for_end() == 3
        assert client.find("has no group 'nobody'; it has: Staff, Guests")

    def test_another_group_than_the_first(self, site: Site) -> None:
        client = site.connect_ours(options=("--authgroup", "guests"))
        site.gateway.wait_for_event("login_succeeded", user="alice", detail="profile=guests")
        assert client.find("authentication: Guests")

    def test_a_wrong_password_is_given_once(self, site: Site) -> None:
        client = site.ours(stdin=("wrong",))
        assert client.wait_for_end() == 3
        assert client.find("anyvpn: Login failed")

    def test_version_1(self, site: Site) -> None:
        client = site.connect_ours(options=("--no-xmlpost",))
        assert client.ping(site.gateway.inner_addresses[0])

    def test_secrets_are_masked_in_dumps(self, site: Site) -> None:
        client = site.connect_ours(options=("-vv",))
        client.wait_for_dtls()
        shown = client.output()
        assert "<password>***</password>" in shown
        assert "<username>alice</username>" in shown
        assert "Cookie: webvpn=***" in shown
        assert "test-pass" not in shown


class ChannelTests:
    @pytest.mark.parametrize(
        ("options", "suite"),
        [
            ((), "TLS_PSK_WITH_AES_256_GCM_SHA384"),
            (("--no-dtls-psk",), "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            (("--dtls-ciphers", "OC-DTLS1_2-AES128-GCM"), "TLS_RSA_WITH_AES_128_GCM_SHA256"),
            (("--dtls12-ciphers", "AES256-SHA"), "TLS_RSA_WITH_AES_256_CBC_SHA"),
            (("--dtls-ciphers", "DHE-RSA-AES256-SHA"), "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"),
        ],
    )
    def test_traffic_over_dtls(self, site: Site, options: tuple[str, ...], suite: str) -> None:
        client = site.connect_ours(options=options)
        assert client.wait_for_dtls() == suite
        self.move(site, client)

    def test_traffic_over_tls(self, site: Site) -> None:
        self.move(site, site.connect_ours(options=("--no-dtls",)))

    def test_outer_ipv6(self, site: Site) -> None:
        client = site.ours(address=f"[{GATEWAY_ADDRESS_IPV6}]")
        client.wait_until_connected()
        client.wait_for_dtls()
        for address in site.gateway.inner_addresses:
            assert client.ping(address)

    def test_ipv4_alone(self, site: Site) -> None:
        client = site.connect_ours(options=("--disable-ipv6",))
        assert [each.version for each in client.inner_addresses] == [4]
        assert client.ping(site.gateway.inner_addresses[0])

    def move(self, site: Site, client: AnyvpnClient) -> None:
        before = client.moved_bytes()
        for wanted in ("download", "upload"):
            address = site.gateway.inner_addresses[0]
            assert site.transfer(client.namespace, wanted, address, megabytes=30).matches
        assert client.moved_bytes() - before > 60_000_000


class TerminalTests:
    def test_a_status_line_follows_the_tunnel(self, site: Site) -> None:
        options = ("--pid-file", "pid", "--disable-ipv6")
        client = site.ours(options=options, at_terminal=True)
        client.wait_until_connected()
        [own] = client.inner_addresses
        assert client.ping(site.gateway.inner_addresses[0], count=35)
        os.kill(int((client.directory / "pid").read_text()), signal.SIGINT)
        client.wait_for_end()
        lines = re.findall(r"\r\x1b\[K(UDP  [^\r\n\x1b]*)", client.output())
        rates = r"in [1-9]\S* k?bit/s  out [1-9]\S* k?bit/s"
        wanted = rf"UDP  {rates}  \d+\.\d ms  0:00:\d\d  {own}  DTLS TLS_PSK_WITH"
        assert any(re.match(wanted, line) for line in lines), client.output()
        assert all(len(line) < 80 for line in lines)

    def test_a_terminal_that_goes_away_leaves_nothing_behind(self, site: Site) -> None:
        namespace = site.network.host(1).namespace
        before = namespace.run("ip", "route")
        client = site.ours(options=("--pid-file", "pid"), at_terminal=True)
        client.wait_until_connected()
        client.wait_for_dtls()
        pid = int((client.directory / "pid").read_text())
        client.kill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the client has ended")
        assert namespace.run("ip", "route") == before
        assert client.resolv_conf.read_text() == "nameserver 192.0.2.53\n"

    def test_who_is_not_at_a_terminal_gets_lines_alone(self, site: Site) -> None:
        client = site.connect_ours()
        client.wait_for_dtls()
        assert client.ping(site.gateway.inner_addresses[0], count=15)
        assert "\x1b" not in client.output()
        assert "bit/s" not in client.output()


class InterruptTests:
    """Ctrl-C ends it wherever it is, and leaves the host as it was."""

    @pytest.mark.parametrize(
        "line",
        [
            *("TLS handshake", "group selection", "authentication", "downloader"),
            *("tunnel request", "Connected", "DTLS handshake", "goes over UDP"),
        ],
    )
    def test_in_each_phase(self, site: Site, line: str) -> None:
        namespace = site.network.host(1).namespace
        before = namespace.run("ip", "route") + namespace.run("ip", "-6", "route")
        client = site.ours()
        client.wait_for(line)
        client.send_signal(signal.SIGINT)
        assert client.wait_for_end(5) == 0, client.output()
        assert namespace.run("ip", "route") + namespace.run("ip", "-6", "route") == before
        assert client.device not in namespace.run("ip", "link")
        assert client.resolv_conf.read_text() == "nameserver 192.0.2.53\n"
        assert "Traceback" not in client.output()

    def test_a_session_that_comes_to_no_tunnel_ends(self, site: Site) -> None:
        namespace = site.network.host(1).namespace
        namespace.run("ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1")
        since = site.gateway.program.position
        client = site.ours(options=("--interface", "taken0"))
        assert client.wait_for_end() == 1
        namespace.run("ip", "link", "del", "taken0")
        site.gateway.wait_for_event("session_ended", user="alice", since=since)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_while_it_is_lost(self, site: Site, number: signal.Signals) -> None:
        namespace = site.network.host(8).namespace
        before = namespace.run("ip", "route")
        client = site.connect_ours(host=8, options=("--force-dpd", "1"))
        client.wait_for_dtls()
        site.network.close_way(site.network.host(8), GATEWAY_ADDRESS)
        client.wait_for("the tunnel is lost", limit_s=10)
        client.send_signal(number)
        assert client.wait_for_end(10) == 0
        assert namespace.run("ip", "route") == before
        assert "Traceback" not in client.output()


class NeighbourTests:
    """What else is on the host."""

    def test_two_tunnels_of_one_host_do_not_need_each_other(self, site: Site) -> None:
        namespace = site.network.host(1).namespace
        before = namespace.run("ip", "route") + namespace.run("ip", "-6", "route")
        inside = site.gateway.inner_addresses[0]
        first, second = site.connect_ours("alice"), site.connect_ours("bob")
        for client in (first, second):
            client.wait_for_dtls()
            assert client.ping(inside)
        since = second.position
        assert first.stop() == 0
        assert second.ping(inside)
        second.send_signal(signal.SIGUSR2)
        second.wait_for("connected: again", since=since)
        third = site.connect_ours("alice")
        assert second.stop() == 0
        assert third.ping(inside)
        assert third.stop() == 0
        assert namespace.run("ip", "route") + namespace.run("ip", "-6", "route") == before

    def test_a_network_of_the_hosts_own_is_there_again_afterwards(self, site: Site) -> None:
        namespace = site.network.host(14).namespace
        namespace.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "cable")
        for device in ("lan", "cable"):
            namespace.run("ip", "link", "set", device, "up")
        namespace.add_addresses("lan", "10.77.0.250/24", "fd77::250/64")
        before = namespace.run("ip", "route") + namespace.run("ip", "-6", "route")
        client = site.connect_ours(host=14)
        inside = site.gateway.inner_addresses[0]
        assert f"dev {client.device}" in namespace.run("ip", "route", "get", inside)
        set_down_and_up(client)
        assert f"dev {client.device}" in namespace.run("ip", "route", "get", inside)
        assert client.stop() == 0
        assert namespace.run("ip", "route") + namespace.run("ip", "-6", "route") == before


class SessionTests:
    def test_a_restart_is_survived_without_a_new_login(self, site: Site) -> None:
        client = site.connect_ours()
        addresses = client.inner_addresses
        since = client.position
        site.gateway.stop()
        site.gateway.start()
        client.wait_for("connected: again", since=since, limit_s=30)
        assert client.find("authentication", since=since) is None
        assert client.inner_addresses == addresses
        assert client.ping(site.gateway.inner_addresses[0])

    def test_a_dead_token_leads_to_a_new_login(self, site: Site) -> None:
        client = site.connect_ours("bob")
        site.gateway.stop()
        (site.gateway.directory / "sessions.sqlite").unlink()
        site.gateway.start()
        client.wait_for("connected: again", limit_s=30)
        site.gateway.wait_for_event("login_succeeded", user="bob")
        assert client.ping(site.gateway.inner_addresses[0])

    def test_dtls_comes_back_when_udp_is_let_through_again(self, site: Site) -> None:
        host = site.network.host(1)
        client = site.connect_ours(options=("--force-dpd", "2"))
        client.wait_for_dtls()
        # One that does not live long is left alone for a minute
        assert client.ping(site.gateway.inner_addresses[0], count=60)
        since = client.position
        site.network.block_udp(host)
        client.wait_for("data goes over TLS", limit_s=30, since=since)
        assert client.ping(site.gateway.inner_addresses[0])
        since = client.position
        site.network.restore()
        client.wait_for_dtls(since=since, limit_s=60)
        before = site.datagrams(host.namespace)
        assert client.ping(site.gateway.inner_addresses[0], count=10)
        assert site.datagrams(host.namespace) - before >= 20

    def test_goodbye_ends_the_session_at_once(self, site: Site) -> None:
        client = site.connect_ours("bob")
        assert client.stop() == 0
        site.gateway.wait_for_event("session_ended", user="bob", detail="goodbye")

    def test_a_logout_ends_a_session_without_a_tunnel(self, site: Site) -> None:
        program = site.started(
            Program(
                "the driver",
                site.network.host(1).namespace.command(
                    [sys.executable, "-c", LOGOUT, str(site.gateway.ca_file), GATEWAY_ADDRESS]
                ),
                environment=environment(),
            )
        )
        assert program.wait_for_end() == 0, program.output()
        site.gateway.wait_for_event("session_ended", user="bob", detail="logged out")

    def test_hangup_leaves_the_session_for_later(self, site: Site) -> None:
        login = site.ours("alice", command="authenticate")
        cookie = login.wait_for(r"^COOKIE='(.*)'$")[1]
        options = ("--cookie-on-stdin",)
        client = site.connect_ours("", stdin=(cookie,), options=options)
        addresses = client.inner_addresses
        client.wait_for_dtls()
        client.send_signal(signal.SIGHUP)
        assert client.wait_for_end() == 0
        again = site.connect_ours("", stdin=(cookie,), options=options)
        assert again.inner_addresses == addresses
        again.stop()
        refused = site.ours("", stdin=(cookie,), options=options)
        assert refused.wait_for_end() == 3
        assert refused.find("log in again")

    def test_a_device_that_was_down_is_as_before(self, site: Site) -> None:
        client = site.connect_ours()
        addresses = client.inner_addresses
        set_down_and_up(client)
        assert client.inner_addresses == addresses
        for address in site.gateway.inner_addresses:
            assert client.ping(address)

    def test_a_device_that_somebody_removes_is_the_end(self, site: Site) -> None:
        client = site.connect_ours()
        before = client.namespace.run("ip", "route", "show", "default")
        client.namespace.run("ip", "link", "del", client.device)
        assert client.wait_for_end() == 1
        assert client.find(f"anyvpn: the tun device {client.device} is gone")
        assert client.namespace.run("ip", "route", "show", "default") == before
        assert GATEWAY_ADDRESS not in client.namespace.run("ip", "route")
        assert client.resolv_conf.read_text() == "nameserver 192.0.2.53\n"

    def test_nobody_there(self, site: Site) -> None:
        client = site.ours(server=f"{NAME}:{PORT + 1}")
        assert client.wait_for_end() == 1
        assert client.find(f"anyvpn: {GATEWAY_ADDRESS} port {PORT + 1}: Connection refused")


class BackgroundTests:
    def test_it_goes_on_in_the_background_once_it_is_up(self, site: Site) -> None:
        client = site.ours(options=("--background", "--pid-file", "pid"))
        client.wait_for(r"Continuing in the background; pid (\d+)")
        assert client.wait_for_end() == 0
        pid_file = client.directory / "pid"
        pid = int(pid_file.read_text())
        assert client.ping(site.gateway.inner_addresses[0])
        again = site.ours(options=("--background", "--pid-file", str(pid_file)))
        assert again.wait_for_end() == 1
        assert again.find(f"names process {pid}, which is alive")
        os.kill(pid, signal.SIGTERM)
        site.gateway.wait_for_event("session_ended", user="alice", detail="goodbye")
        wait_until(lambda: not pid_file.exists(), "the pid file is gone")

    def test_a_login_that_fails_is_told_in_the_foreground(self, site: Site) -> None:
        client = site.ours(stdin=("wrong",), options=("--background", "--pid-file", "pid"))
        assert client.wait_for_end() == 3
        assert client.find("anyvpn: Login failed")
        assert not (client.directory / "pid").exists()
