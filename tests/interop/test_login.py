"""Phases 1 to 4: who the client is, asked for in every way that openconnect has."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections.abc import Mapping

import pytest

from anyvpn.testing.programs import wait_until
from tests.interop.gateway import NAME, PASSWORD, PORT
from tests.interop.network import GATEWAY_ADDRESS, GATEWAY_ADDRESS_IPV6
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

    @pytest.mark.parametrize("options", [(), ("--no-xmlpost",)], ids=["xml", "plain forms"])
    def test_three_wrong_passwords_end_the_login(
        self, site: Site, options: tuple[str, ...]
    ) -> None:
        since = site.gateway.program.position
        client = site.client(stdin=(WRONG,) * 4, options=("--authgroup", "Staff", *options))
        assert client.wait_for_end() != 0
        assert not client.find("Configured as")
        log = site.gateway.program.output(since)
        assert len(re.findall(r"\blogin_failed\b.*user=alice\b", log)) == 3
        assert WRONG not in log

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

    def test_unknown_cookie_is_refused_while_others_are_good(self, site: Site) -> None:
        site.connect(options=("--authgroup", "Staff", "--no-dtls"))
        client = site.connect_with(f"webvpn={'A' * 43}")
        assert client.wait_for_end() != 0
        assert client.find("401")


class VersionTests:
    def test_plain_forms_are_served_to_clients_without_xml(self, site: Site) -> None:
        client = site.connect(
            options=(
                *("--no-xmlpost", "--authgroup", "Staff", "--no-dtls"),
                "--dump-http-traffic",
            )
        )
        assert client.find(r"<auth id=.main.")
        assert not client.find("<config-auth")
        assert client.ping(site.gateway.inner_addresses[0])

    def test_plain_forms_let_the_user_try_again(self, site: Site) -> None:
        client = site.connect(
            stdin=(WRONG, PASSWORD),
            options=("--no-xmlpost", "--authgroup", "Staff", "--no-dtls"),
        )
        assert client.find(r"(?i)login failed")
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
        assert client.find("^X-CSTP-MTU: 1414$")  # an IPv6 header is 20 bytes longer
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
        profile = client.directory / "profile.xml"
        written = wait_until(
            lambda: profile.exists() and profile.read_bytes(), "the profile is written"
        )
        assert isinstance(written, bytes)
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

    @pytest.mark.parametrize("cookie", ["", f"webvpn={'A' * 43}"], ids=["none", "unknown"])
    def test_profile_is_refused_without_a_good_token(self, site: Site, cookie: str) -> None:
        site.log_in(options=("--authgroup", "Staff"))
        (profile,) = site.gateway.directory.rglob("*.xml")
        context = ssl.create_default_context(cafile=str(site.gateway.ca_file))
        made = site.network.host(1).namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(10)
        made.connect((GATEWAY_ADDRESS, PORT))
        with context.wrap_socket(made, server_hostname=NAME) as connection:
            connection.sendall(
                f"GET /CACHE/stc/profiles/{profile.name} HTTP/1.1\r\nHost: {NAME}\r\n"
                f"Cookie: {cookie}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b""
            while part := connection.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"<AnyConnectProfile" not in answer
