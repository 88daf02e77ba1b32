"""What is claimed of our client when things go wrong, whichever gateway it has."""

from __future__ import annotations

import re
import signal
import time

from anyvpn.testing.ocserv import PORT
from anyvpn.testing.programs import Program
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.peers import Peer

DPD_S = 3
REKEY_S = 6


class BlockedUDP:
    """What a firewall does."""

    def test_five_hellos_then_the_mtu_of_tls(self, peer: Peer) -> None:
        """Hellos at 0, 1, 3, 7 and 15 s, given up at 31 s; the tunnel works all the while."""
        host = peer.clients.network.host(1)
        peer.clients.network.block_udp(host)
        watch = Program(
            "tcpdump",
            host.namespace.command(
                ["tcpdump", "-n", "-tt", "-l", "-i", "wan", f"udp and dst port {PORT}"]
            ),
        )
        try:
            watch.wait_for("listening on")
            client = peer.connect()
            assert client.ping(peer.address)
            client.wait_for(r"reconnecting \(adapter\): MTU \d+, there is no DTLS", limit_s=40)
            given_up_s = time.time()
            assert client.ping(peer.address)
            hellos = [float(each) for each in re.findall(r"^(\d+\.\d+) IP", watch.output(), re.M)]
        finally:
            watch.stop()
        assert [round(each - hellos[0]) for each in hellos] == [0, 1, 3, 7, 15]
        assert round(given_up_s - hellos[0]) == 31

    def test_udp_that_is_blocked_in_mid_transfer(self, peer: Peer) -> None:
        client = peer.connect()
        client.wait_for_dtls()
        moving = peer.clients.start_transfer(
            client.namespace, "download", peer.address, megabytes=600
        )
        time.sleep(0.7)
        assert moving.is_running
        since = client.position
        peer.clients.network.block_udp(peer.clients.network.host(1))
        client.wait_for(r"data goes over TLS \(", limit_s=30, since=since)
        assert peer.clients.result(moving).matches


class LostLink:
    """What else happens on the way."""

    def test_a_killed_connection_is_replaced(self, peer: Peer) -> None:
        client = peer.connect()
        addresses = client.inner_addresses
        killed = client.namespace.run(
            *("ss", "-K", "dst", GATEWAY_ADDRESS, "dport", "=", str(PORT)), may_fail=True
        )
        assert "ESTAB" in killed
        client.wait_for("connected: again", limit_s=20)
        assert client.inner_addresses == addresses
        assert client.ping(peer.address)

    def test_the_token_of_a_killed_client_opens_its_tunnel_again(self, peer: Peer) -> None:
        cookie = peer.log_in()
        client = peer.connect_with(cookie)
        addresses = client.inner_addresses
        client.kill()
        again = peer.connect_with(cookie)
        assert again.inner_addresses == addresses
        assert again.ping(peer.address)

    def test_a_second_client_takes_the_tunnel_over(self, peer: Peer) -> None:
        cookie = peer.log_in()
        first = peer.connect_with(cookie)
        addresses = first.inner_addresses
        second = peer.connect_with(cookie, host=2)
        assert second.inner_addresses == addresses
        assert first.wait_for_end() == 0
        assert first.find("Disconnected: the gateway ended the session")
        assert second.ping(peer.address)

    def test_asked_to_reconnect(self, peer: Peer) -> None:
        client = peer.connect()
        client.wait_for_dtls()
        client.send_signal(signal.SIGUSR2)
        client.wait_for("connected: again")
        assert client.ping(peer.address)

    def test_a_client_that_slept_comes_back(self, peer: Peer) -> None:
        """As a laptop that was shut: the gateway has given the link up meanwhile."""
        client = peer.connect()
        client.wait_for_dtls()
        addresses = client.inner_addresses
        client.namespace.run("pkill", "-STOP", "-f", f"anyvpn.cli.main.*{client.directory} ")
        time.sleep(4 * DPD_S)
        client.namespace.run("pkill", "-CONT", "-f", f"anyvpn.cli.main.*{client.directory} ")
        client.wait_for("connected: again", limit_s=30)
        assert client.inner_addresses == addresses
        assert client.ping(peer.address)

    def test_another_address(self, peer: Peer) -> None:
        host = peer.clients.network.host(12)
        client = peer.connect(host=12)
        host.change_address()
        client.wait_for("connected: again", limit_s=40)
        assert client.ping(peer.address)


def changes_keys(peer: Peer) -> None:
    """Two changes of keys, due every `REKEY_S`, and hardly a ping is lost."""
    client = peer.connect()
    ping = Program(
        "ping",
        client.namespace.command(["ping", "-n", "-i", "0.05", "-c", "260", peer.address]),
    )
    try:
        client.wait_for("connected: with new keys", limit_s=2 * REKEY_S)
        since = client.position
        client.wait_for("connected: with new keys", limit_s=2 * REKEY_S, since=since)
        ping.wait_for(r"packets transmitted", limit_s=20)
        lost = 260 - int(ping.wait_for(r"(\d+) received")[1])
    finally:
        ping.stop()
    assert lost <= 4, ping.output()[-400:]
