"""Phases 1 to 4: who the client is, asked for in every way that openconnect has."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import pytest

from anyvpn.testing.programs import wait_until
from tests.interop.gateway import PASSWORD
from tests.interop.network import GATEWAY_ADDRESS_IPV6
from tests.interop.site import Site

WRONG = "not-the-password"
ANYCONNECT = ("--useragent", "AnyConnect Linux_64 4.10.07061")


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "gateway": {"default_profile": "staff"},
        "connection_profiles": [
            {"name": "staff", "alias": "Staff"},
            {
                "name": "guests",
                "alias": "Guests",
                "group_urls": ["/guests"],
            },
            {
                "name": "hidden",
                "alias": "Hidden",
                "group_urls": ["/hidden"],
                "listed": False,
            },
        ],
    }


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "bob")


class PasswordTests:
    def test_right_password_opens_a_tunnel(self, site: Site) -> None:
        client = site.connect(options=("--authgroup", "Staff"))
        assert client.ping(site.gateway.inner_addresses[0])
        site.gateway.wait_for_event("login_succeeded", user="alice")

    def test_wrong_password_then_the_right_one_opens_a_tunnel(self, site: Site) -> None:
        client = site.connect(
            stdin=(WRONG, PASSWORD), options=("--authgroup", "Staff", "--no-dtls")
        )
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.find(r"(?i)login failed")

    def test_three_wrong_passwords_end_the_login(self, site: Site) -> None:
        since = site.gateway.program.position
        client = site.client(stdin=(WRONG,) * 4, options=("--authgroup", "Staff"))
        assert client.wait_for_end() != 0
        assert not client.find("Configured as")
        assert len(re.findall(r"(?m)^POST ", client.output())) in (4, 5)
        site.gateway.wait_for_event("login_failed", user="alice", since=since)
        assert WRONG not in site.gateway.program.output(since)

    def test_unknown_user_is_told_the_same_as_a_wrong_password(self, site: Site) -> None:
        options = ("--authgroup", "Staff")
        known = site.client("alice", stdin=(WRONG,), options=options)
        unknown = site.client("nobody", stdin=(WRONG,), options=options)
        assert known.wait_for_end() == unknown.wait_for_end()
        told = [
            re.sub(r"0x\w+|\d+", "N", client.wait_for("(?i)login failed.*")[0])
            for client in (known, unknown)
        ]
        assert told[0] == told[1]

    def test_password_and_token_are_not_in_the_log(self, site: Site) -> None:
        since = site.gateway.program.position
        cookie = site.log_in(options=("--authgroup", "Staff"))
        token = re.search(r"\bwebvpn=([^;]{43,})", cookie)
        assert token is not None
        log = site.gateway.program.output(since)
        assert "login_succeeded" in log
        assert PASSWORD not in log
        assert token[1] not in log


class GroupTests:
    def test_menu_choice_selects_the_connection_profile(self, site: Site) -> None:
        since = site.gateway.program.position
        client = site.connect(stdin=(PASSWORD, "Guests"), options=("--no-dtls",))
        assert client.find(r"(?i)group: ?\[Staff\|Guests\]")
        line = site.gateway.wait_for_event("login_succeeded", user="alice", since=since)
        assert "profile=guests" in line

    def test_authgroup_option_selects_the_connection_profile(self, site: Site) -> None:
        since = site.gateway.program.position
        site.connect("bob", options=("--authgroup", "Guests", "--no-dtls"))
        line = site.gateway.wait_for_event("login_succeeded", user="bob", since=since)
        assert "profile=guests" in line

    def test_group_url_selects_the_connection_profile(self, site: Site) -> None:
        since = site.gateway.program.position
        site.connect(path="/guests", options=("--no-dtls",))
        line = site.gateway.wait_for_event("login_succeeded", user="alice", since=since)
        assert "profile=guests" in line

    def test_hidden_profile_is_reached_by_its_url_alone(self, site: Site) -> None:
        since = site.gateway.program.position
        client = site.client(stdin=(PASSWORD,), options=("--authgroup", "Hidden"))
        client.wait_for_end()
        assert not client.find("Configured as")
        site.connect(path="/hidden", options=("--no-dtls",))
        line = site.gateway.wait_for_event("login_succeeded", user="alice", since=since)
        assert "profile=hidden" in line


class TokenTests:
    def test_cookie_of_authenticate_opens_a_tunnel(self, site: Site) -> None:
        cookie = site.log_in(options=("--authgroup", "Staff"))
        client = site.connect_with(cookie)
        client.wait_until_configured()
        assert client.ping(site.gateway.inner_addresses[0])

    def test_unknown_cookie_is_refused(self, site: Site) -> None:
        client = site.connect_with(f"webvpn={'A' * 43}")
        assert client.wait_for_end() != 0
        assert client.find("401")


class VersionTests:
    def test_plain_forms_are_served_to_clients_without_xml(self, site: Site) -> None:
        client = site.connect(options=("--no-xmlpost", "--authgroup", "Staff", "--no-dtls"))
        assert client.ping(site.gateway.inner_addresses[0])

    def test_plain_forms_let_the_user_try_again(self, site: Site) -> None:
        client = site.connect(
            stdin=(WRONG, PASSWORD),
            options=("--no-xmlpost", "--authgroup", "Staff", "--no-dtls"),
        )
        assert client.ping(site.gateway.inner_addresses[0])

    def test_plain_forms_select_a_group(self, site: Site) -> None:
        since = site.gateway.program.position
        site.connect(options=("--no-xmlpost", "--authgroup", "Guests", "--no-dtls"))
        line = site.gateway.wait_for_event("login_succeeded", user="alice", since=since)
        assert "profile=guests" in line


class OuterAddressTests:
    def test_client_comes_over_ipv6(self, site: Site) -> None:
        client = site.connect(
            options=("--authgroup", "Staff"), gateway_address=GATEWAY_ADDRESS_IPV6
        )
        client.wait_for_dtls()
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.ping(site.gateway.inner_addresses[1])


class DownloadTests:
    def test_profile_is_downloaded_with_the_sha1_that_was_announced(self, site: Site) -> None:
        client = site.client(
            options=(
                *("--authgroup", "Staff", "--no-dtls", "--dump-http-traffic", *ANYCONNECT),
                *("--xmlconfig", "profile.xml"),
            )
        )
        client.wait_until_configured()
        written = wait_until(
            lambda: (client.directory / "profile.xml").read_bytes(), "the profile is written"
        )
        announced = re.findall(r"\b[0-9A-Fa-f]{40}\b", client.output())
        assert hashlib.sha1(written).hexdigest().upper() in {each.upper() for each in announced}
        profiles = [path.read_bytes() for path in site.gateway.directory.rglob("*.xml")]
        assert written in profiles

    def test_profile_at_hand_is_not_downloaded_again(self, site: Site) -> None:
        options = ("--authgroup", "Staff", "--no-dtls", *ANYCONNECT)
        first = site.client(options=(*options, "--xmlconfig", "profile.xml"))
        first.wait_until_configured()
        at_hand = first.directory / "profile.xml"
        since = site.gateway.program.position
        second = site.client(options=(*options, "--xmlconfig", str(at_hand)))
        second.wait_until_configured()
        assert not re.search(r"\bprofile_sent\b", site.gateway.program.output(since))
