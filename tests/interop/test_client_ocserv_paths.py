"""Our client against Debian's ocserv when things go wrong: blocked UDP and lost links."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping, Sequence

import pytest

from anyvpn.testing.ocserv import PORT
from anyvpn.testing.programs import Program
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.ocserv_site import OcservSite


@pytest.fixture(scope="module")
def ocserv_changes() -> Mapping[str, str | Sequence[str] | None]:
    return {
        "route": "192.168.77.0/255.255.255.0",
        "dpd": "3",
        "mtu": "1400",
    }


class BlockedUDPTests:
    def test_five_hellos_then_the_mtu_of_tls(self, ocserv: OcservSite) -> None:
        """Hellos at 0, 1, 3, 7 and 15 s, given up at 31 s; the tunnel works all the while."""
        host = ocserv.network.host(1)
        ocserv.network.block_udp(host)
        watch = Program(
            "tcpdump",
            host.namespace.command(
                ["tcpdump", "-n", "-tt", "-l", "-i", "wan", f"udp and dst port {PORT}"]
            ),
        )
        try:
            watch.wait_for("listening on")
            client = ocserv.connect()
            assert client.ping(ocserv.gateway.gateway_address)
            client.wait_for(r"reconnecting \(adapter\): MTU \d+, there is no DTLS", limit_s=40)
            given_up_s = time.time()
            assert client.ping(ocserv.gateway.gateway_address)
            hellos = [float(each) for each in re.findall(r"^(\d+\.\d+) IP", watch.output(), re.M)]
        finally:
            watch.stop()
        assert [round(each - hellos[0]) for each in hellos] == [0, 1, 3, 7, 15]
        assert round(given_up_s - hellos[0]) == 31

    def test_udp_that_is_blocked_in_mid_transfer(self, ocserv: OcservSite) -> None:
        client = ocserv.connect()
        client.wait_for_dtls()
        moving = ocserv.start_transfer(
            client.namespace, "download", ocserv.gateway.gateway_address, megabytes=150
        )
        time.sleep(1)
        ocserv.network.block_udp(ocserv.network.host(1))
        client.wait_for(r"data goes over TLS", limit_s=20)
        assert ocserv.result(moving).matches


class LostLinkTests:
    def test_a_killed_connection_is_replaced(self, ocserv: OcservSite) -> None:
        client = ocserv.connect()
        addresses = client.inner_addresses
        killed = client.namespace.run(
            *("ss", "-K", "dst", GATEWAY_ADDRESS, "dport", "=", str(PORT)), may_fail=True
        )
        assert "ESTAB" in killed
        client.wait_for("connected: again", limit_s=20)
        assert client.inner_addresses == addresses
        assert client.ping(ocserv.gateway.gateway_address)

    def test_asked_to_reconnect(self, ocserv: OcservSite) -> None:
        client = ocserv.connect()
        client.wait_for_dtls()
        client.send_signal(signal.SIGUSR2)
        client.wait_for("connected: again")
        assert client.ping(ocserv.gateway.gateway_address)

    def test_another_address(self, ocserv: OcservSite) -> None:
        host = ocserv.network.host(12)
        client = ocserv.connect(host=12)
        host.change_address()
        client.wait_for("connected: again", limit_s=40)
        assert client.ping(ocserv.gateway.gateway_address)

    def test_a_restarted_gateway_wants_a_new_login(self, ocserv: OcservSite) -> None:
        """ocserv forgets its sessions; the password given ahead is given once more."""
        client = ocserv.connect()
        ocserv.gateway.kill()
        client.wait_for("the tunnel is lost")
        since = client.position
        ocserv.gateway.start()
        client.wait_for("authentication", since=since, limit_s=40)
        client.wait_for("connected: again", limit_s=40)
        assert client.ping(ocserv.gateway.gateway_address)
