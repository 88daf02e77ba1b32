"""Logins against a real freeradius, by openconnect and by our client."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping

import pytest

from anyvpn.testing.freeradius import SECRET, FreeRadius
from tests.interop.gateway import PASSWORD
from tests.interop.network import Network
from tests.interop.site import Site

ADDRESS = "127.0.0.1"
LONG = "p" * 100 + "ä"
USERS = (
    f'alice Cleartext-Password := "{PASSWORD}"',
    "    Framed-IP-Address = 10.77.0.77,",
    '    Framed-Route = "10.20.0.0/16 0.0.0.0 1",',
    '    Framed-Route += "10.30.0.0/16",',
    "    Session-Timeout = 7200,",
    "    Idle-Timeout = 600,",
    "    MS-Primary-DNS-Server = 10.77.0.1,",
    '    Class = "OU=vip;"',
    f'carol Cleartext-Password := "{PASSWORD}", Tmp-String-0 := "123456"',
    f'"dora=\\"*" Cleartext-Password := "{LONG}"',
)


@pytest.fixture(scope="module")
def servers(
    network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FreeRadius, FreeRadius]]:
    directory = tmp_path_factory.mktemp("radius")
    made = tuple(
        FreeRadius(
            directory / str(port),
            USERS,
            address=ADDRESS,
            namespace=network.gateway,
            port=port,
            accounting_port=port + 1,
        )
        for port in (1812, 2812)
    )
    for each in made:
        each.start()
    yield made[0], made[1]
    for each in made:
        each.stop()


@pytest.fixture(scope="module")
def gateway_changes(
    servers: tuple[FreeRadius, FreeRadius], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, object]:
    secret = tmp_path_factory.mktemp("secret") / "secret"
    secret.write_text(f"{SECRET}\n")
    wrong = secret.with_name("wrong")
    wrong.write_text("wrong")
    both = [{"host": ADDRESS, "port": port, "secret_file": str(secret)} for port in (1812, 2812)]
    own = {"backend": "radius", "servers": both, "time_s": 1.0, "tries": 2}
    return {
        "authenticators": {
            "pap": {**own, "groups_attribute": "Class", "retry_after_s": 0},
            "mschap": {**own, "method": "mschapv2"},
            "wrong": {
                **own,
                "servers": [{"host": ADDRESS, "port": 1812, "secret_file": str(wrong)}],
            },
        },
        "authorizer": {"policies": {"vip": {"banner": "Hello, VIP"}}},
        "connection_profiles": [
            {"name": "staff"},
            *({"name": name, "authenticator": name} for name in ("pap", "mschap", "wrong")),
        ],
    }


class LoginTests:
    @pytest.mark.parametrize("profile", ["pap", "mschap"])
    def test_openconnect_gets_what_the_server_replies(self, site: Site, profile: str) -> None:
        client = site.connect("alice", options=("--authgroup", profile))
        given = client.environment()
        assert given["INTERNAL_IP4_ADDRESS"] == "10.77.0.77"
        assert given["INTERNAL_IP4_DNS"] == "10.77.0.1"
        assert given["CISCO_SPLIT_INC"] == "2"
        assert given["IDLE_TIMEOUT"] == "600"
        assert given["CISCO_BANNER"] == "Hello, VIP"
        assert client.ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize("profile", ["pap", "mschap"])
    def test_our_client_logs_in(self, site: Site, profile: str) -> None:
        client = site.connect_ours("alice", options=("--authgroup", profile))
        assert client.ping(site.gateway.inner_addresses[0])

    def test_strange_names_and_long_passwords_pass(self, site: Site) -> None:
        for profile in ("pap", "mschap"):
            client = site.connect('dora="*', stdin=(LONG,), options=("--authgroup", profile))
            assert client.ping(site.gateway.inner_addresses[0])
            site.close_clients()

    @pytest.mark.parametrize("ours", [False, True])
    @pytest.mark.parametrize("profile", ["pap", "mschap"])
    def test_a_wrong_password_is_rejected(self, site: Site, profile: str, ours: bool) -> None:
        since = site.gateway.program.position
        site.refused("alice", ours=ours, stdin=("wrong",), options=("--authgroup", profile))
        site.gateway.program.wait_for(
            r'login_failed user=alice.*"the RADIUS server rejects it', since=since
        )


class ChallengeTests:
    def test_openconnect_answers_round_after_round(self, site: Site) -> None:
        answers = (PASSWORD, "again", "again", "123456")
        client = site.connect("carol", stdin=answers, options=("--authgroup", "pap"))
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.find("Which code, again")

    def test_our_client_answers_from_its_options(self, site: Site) -> None:
        entry = ("--form-entry", "challenge:answer=123456")
        client = site.connect_ours("carol", options=("--authgroup", "pap", *entry))
        assert client.ping(site.gateway.inner_addresses[0])

    def test_a_wrong_answer_is_rejected(self, site: Site) -> None:
        entry = ("--form-entry", "challenge:answer=000000")
        client = site.ours("carol", options=("--authgroup", "pap", *entry))
        assert client.wait_for_end() == 3
        site.gateway.wait_for_event("login_failed", user="carol")


class ServersTests:
    def test_a_server_that_dies_in_mid_login_costs_no_login(
        self, site: Site, servers: tuple[FreeRadius, FreeRadius]
    ) -> None:
        first, _ = servers
        first.program.send_signal(signal.SIGSTOP)
        client = site.client("alice", options=("--authgroup", "pap"))
        client.wait_until_configured()
        first.kill()
        assert client.ping(site.gateway.inner_addresses[0])
        site.gateway.program.wait_for(r"The RADIUS server 127.0.0.1:1812 does not answer")
        first.start()
        site.connect_ours("alice", host=2, options=("--authgroup", "pap"))
        site.gateway.program.wait_for(r"The RADIUS server 127.0.0.1:1812 answers again")

    def test_a_wrong_secret_is_told_to_the_operator(self, site: Site) -> None:
        """The server is silent then: it cannot know whom it would answer."""
        site.gateway.expected_trouble.append("no RADIUS server answers")
        client = site.ours("alice", options=("--authgroup", "wrong"))
        assert client.wait_for_end() != 0
        assert client.find("not available")
        site.gateway.program.wait_for("no RADIUS server answers: 127.0.0.1:1812 does not")
