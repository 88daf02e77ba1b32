"""Sessions outlive connections and processes, and end when they should."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping

import pytest

from anyvpn.testing.openconnect import OpenConnect
from anyvpn.testing.programs import wait_until
from tests.interop.site import Site

DPD_S = 2
WAITING_TIME_S = 2
IDLE_TIME_S = 4
SESSION_TIME_S = 6
REKEY_S = 5
RECONNECTED_AFTER_S = 45.0  # openconnect waits 10 s, then 20 s, between its tries


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        # A user's address would be the same again without anybody remembering it
        "addresses": {"predictable": False},
        "authorizer": {
            "policies": {
                "vanishing": {
                    "dpd_s": DPD_S,
                    "mobile_dpd_s": DPD_S,
                    "disconnected_timeout_s": WAITING_TIME_S,
                },
                "silent": {"dpd_s": 0, "mobile_dpd_s": 0, "keepalive_s": 0},
                "idle": {"idle_timeout_s": IDLE_TIME_S, "keepalive_s": 1},
                "brief": {"session_timeout_s": SESSION_TIME_S},
                "rekeying": {"rekey_s": REKEY_S},
            },
            "by_user": {
                "vera": "vanishing",
                "silvia": "silent",
                "ida": "idle",
                "brenda": "brief",
                "rita": "rekeying",
            },
        },
    }


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "vera", "silvia", "ida", "brenda", "rita")


class ReturningClientTests:
    def test_killed_client_comes_back_with_its_token_and_addresses(self, site: Site) -> None:
        cookie = site.log_in()
        client = site.connect_with(cookie)
        client.wait_until_configured()
        addresses = client.inner_addresses
        client.kill()
        since = site.gateway.program.position
        again = site.connect_with(cookie)
        again.wait_until_configured()
        assert again.inner_addresses == addresses
        assert again.ping(site.gateway.inner_addresses[0])
        site.gateway.wait_for_event("tunnel_resumed", user="alice", since=since)

    def test_detached_client_comes_back_with_its_token(self, site: Site) -> None:
        cookie = site.log_in()
        client = site.connect_with(cookie)
        client.wait_until_configured()
        addresses = client.inner_addresses
        client.stop(signal.SIGHUP)
        again = site.connect_with(cookie)
        again.wait_until_configured()
        assert again.inner_addresses == addresses

    def test_reconnect_asked_for_by_the_user_keeps_the_addresses(self, site: Site) -> None:
        client = site.connect()
        client.wait_for_dtls()
        addresses, position = client.inner_addresses, client.position
        client.send_signal(signal.SIGUSR2)
        client.wait_for_dtls(since=position)
        assert client.environment("reconnect")["INTERNAL_IP4_ADDRESS"] == addresses[0]
        assert client.ping(site.gateway.inner_addresses[0])

    def test_second_client_with_the_token_takes_the_session_over(self, site: Site) -> None:
        cookie = site.log_in("vera")
        first = site.connect_with(cookie)
        first.wait_for_dtls()
        since = site.gateway.program.position
        second = site.connect_with(cookie, host=2)
        second.wait_until_configured()
        assert second.inner_addresses == first.inner_addresses
        first.wait_for("Received server disconnect", limit_s=5)
        assert first.wait_for_end() != 0
        # The end of the first must not count as the loss of the second
        assert second.ping(site.gateway.inner_addresses[0], count=10 * (WAITING_TIME_S + 2))
        assert "session_ended" not in site.gateway.program.output(since)


class RestartTests:
    @pytest.mark.parametrize("how", ["stopped", "killed"])
    def test_client_of_a_gateway_that_was_away_is_back_by_itself(
        self, site: Site, how: str
    ) -> None:
        first = site.connect(host=2)
        client = site.connect()
        client.wait_for_dtls()
        first.stop(signal.SIGINT)  # or the first address of the new process were the same
        addresses, position = client.inner_addresses, client.position
        if how == "stopped":
            site.gateway.stop()
        else:
            site.gateway.kill()
        assert set(site.gateway.namespace.devices()) == {"lo", "wan"}
        site.gateway.start()
        client.wait_for_dtls(limit_s=RECONNECTED_AFTER_S, since=position)
        assert client.environment("reconnect")["INTERNAL_IP4_ADDRESS"] == addresses[0]
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.ping(site.gateway.inner_addresses[1])
        assert "login_succeeded" not in site.gateway.program.output()


class EndTests:
    def test_interrupted_client_says_goodbye_and_its_token_is_dead(self, site: Site) -> None:
        cookie = site.log_in()
        client = site.connect_with(cookie)
        client.wait_until_configured()
        since = site.gateway.program.position
        client.stop(signal.SIGINT)
        site.gateway.wait_for_event("session_ended", user="alice", detail="goodbye", since=since)
        again = site.connect_with(cookie)
        assert again.wait_for_end() != 0
        assert again.find("401")

    def test_vanished_client_is_noticed_and_its_session_ends(self, site: Site) -> None:
        cookie = site.log_in("vera")
        client = site.connect_with(cookie)
        client.wait_for_dtls()
        since = site.gateway.program.position
        client.send_signal(signal.SIGSTOP)
        limit_s = 3 * DPD_S + WAITING_TIME_S + 10
        site.gateway.wait_for_event("tunnel_closed", user="vera", limit_s=limit_s, since=since)
        site.gateway.wait_for_event(
            "session_ended", user="vera", detail="not resumed in time", limit_s=limit_s, since=since
        )
        client.kill()
        assert site.connect_with(cookie).wait_for_end() != 0

    def test_idle_session_ends_although_keepalives_are_sent(self, site: Site) -> None:
        client = site.connect("ida")
        client.wait_for_dtls()
        since = site.gateway.program.position
        client.namespace.run("ip", "link", "set", client.device, "down")
        site.gateway.wait_for_event(
            "session_ended",
            user="ida",
            detail="idle time-out",
            limit_s=IDLE_TIME_S + 10,
            since=since,
        )
        assert client.wait_for_end() != 0

    def test_session_with_traffic_is_not_idle(self, site: Site) -> None:
        client = site.connect("ida")
        assert client.ping(site.gateway.inner_addresses[0], count=10 * (IDLE_TIME_S + 2))
        assert client.is_running

    def test_session_ends_when_its_time_is_over_although_its_client_came_back(
        self, site: Site
    ) -> None:
        since = site.gateway.program.position
        cookie = site.log_in("brenda")
        logged_in_at_s = time.monotonic()
        first = site.connect_with(cookie)
        first.wait_until_configured()
        assert first.ping(site.gateway.inner_addresses[0], count=10 * (SESSION_TIME_S // 2))
        client = site.connect_with(cookie, host=2)
        client.wait_until_configured()
        site.gateway.wait_for_event(
            "session_ended",
            user="brenda",
            detail="session time-out",
            limit_s=SESSION_TIME_S + 10,
            since=since,
        )
        assert time.monotonic() - logged_in_at_s < SESSION_TIME_S + 1.5
        client.wait_for_end()
        assert site.connect_with(cookie).wait_for_end() != 0


class ProbeTests:
    """One side alone probes; the other is given up after three intervals without an answer."""

    def test_silent_client_that_answers_probes_stays(self, site: Site) -> None:
        client = site.connect("vera", options=("--force-dpd", "600"))
        client.wait_for_dtls()
        since = site.gateway.program.position
        for channel in ("CSTP", "DTLS"):
            wait_for_lines(client, f"Got {channel} DPD request", 4, limit_s=6 * DPD_S)
        assert not re.search(r"\b(tunnel_closed|dtls_down)\b", site.gateway.program.output(since))

    def test_probes_of_the_client_are_answered_on_both_channels(self, site: Site) -> None:
        client = site.connect("silvia", options=("--force-dpd", str(DPD_S)))
        client.wait_for_dtls()
        for channel in ("CSTP", "DTLS"):
            wait_for_lines(client, f"Got {channel} DPD response", 3, limit_s=6 * DPD_S)
        assert not client.find("DPD request|Dead Peer")


def wait_for_lines(client: OpenConnect, line: str, count: int, *, limit_s: float) -> None:
    """Wait until openconnect has printed a line so many times."""
    what = f"{count} times: {line}"
    wait_until(lambda: client.output().count(line) >= count, what, limit_s=limit_s)


class RekeyTests:
    def test_new_tunnels_with_new_keys_lose_no_byte(self, site: Site) -> None:
        since = site.gateway.program.position
        client = site.connect("rita")
        client.wait_for_dtls()
        addresses = client.inner_addresses
        inner, _ = site.gateway.inner_addresses
        for _ in range(2):
            position = client.position
            client.wait_for("(?i)rekey due", limit_s=3 * REKEY_S, since=position)
            client.wait_for_dtls(limit_s=3 * REKEY_S, since=position)
            assert site.transfer(client.namespace, "download", inner, megabytes=10).matches
        assert client.inner_addresses == addresses
        logins = re.findall(r"\blogin_succeeded\b.*user=rita\b", site.gateway.program.output(since))
        assert len(logins) == 1


class ShutdownTests:
    def test_interrupted_gateway_tells_its_clients_and_leaves_nothing(self, site: Site) -> None:
        client = site.connect(options=("--reconnect-timeout", "1"))
        client.wait_for_dtls()
        position = client.position
        site.gateway.stop()
        client.wait_for(
            r"(?i)disconnect|closed connection|reconnect|close", limit_s=5, since=position
        )
        assert set(site.gateway.namespace.devices()) == {"lo", "wan"}
        routes = site.gateway.namespace.run("ip", "route")
        assert not re.search(r"10\.77\.", routes)
        wait_until(
            lambda: not site.gateway.namespace.run("ss", "-Hltun", "sport = :4443"),
            "the ports are free",
        )
        site.gateway.start()
