"""Our client against Debian's ocserv: logging in, every kind of channel, traffic, the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from anyvpn.testing.ocserv import PASSWORD
from anyvpn.testing.programs import wait_until
from tests.interop.network import GATEWAY_ADDRESS_IPV6
from tests.interop.ocserv_site import OcservSite

PROFILE = "tests/captures/profile_download"


@pytest.fixture(scope="module")
def ocserv_changes() -> Mapping[str, str | Sequence[str] | None]:
    return {
        "route": (
            "10.20.0.0/255.255.0.0",
            "fd00:20::/48",
            "fd00:77::/64",
            "192.168.77.0/255.255.255.0",
        ),
        "no-route": "10.20.30.0/255.255.255.0",
        "dns": "192.168.77.1",
        "default-domain": "example.test",
        "banner": "Welcome to the tests",
        "compression": "true",
        "no-compress-limit": "40",
        "select-group": ("staff", "guests"),
        "default-select-group": "Everybody",
    }


class LoginTests:
    def test_a_password_leads_to_a_tunnel(self, ocserv: OcservSite) -> None:
        client = ocserv.connect()
        assert client.wait_for_dtls() == "TLS_PSK_WITH_AES_256_GCM_SHA384"
        assert client.ping(ocserv.gateway.gateway_address)
        assert client.ping(ocserv.gateway.gateway_address_ipv6)
        assert client.find("Welcome to the tests")

    def test_a_wrong_password_is_given_once_and_refused(self, ocserv: OcservSite) -> None:
        client = ocserv.client(stdin=("wrong",))
        assert client.wait_for_end() == 3
        assert client.find("Login failed")

    def test_a_group_is_chosen_from_the_list(self, ocserv: OcservSite) -> None:
        ocserv.gateway.set_password("gina", PASSWORD, "guests")
        client = ocserv.client("gina", options=("--authgroup", "guests"))
        client.wait_until_connected()
        assert "guests" in ocserv.gateway.occtl("show", "user", "gina")

    def test_a_group_that_the_user_is_not_in_is_refused(self, ocserv: OcservSite) -> None:
        client = ocserv.client(options=("--authgroup", "nobody"))
        assert client.wait_for_end() == 3
        assert client.find("the gateway denies the login")

    def test_version_1_logs_in_too(self, ocserv: OcservSite) -> None:
        client = ocserv.connect(options=("--no-xmlpost",))
        assert client.ping(ocserv.gateway.gateway_address)

    def test_the_token_is_printed_and_opens_a_tunnel(self, ocserv: OcservSite) -> None:
        login = ocserv.client(command="authenticate")
        cookie = login.wait_for(r"^COOKIE='(.*)'$")[1]
        fingerprint = login.wait_for(r"^FINGERPRINT='(pin-sha256:.*)'$")[1]
        assert login.wait_for_end() == 0
        client = ocserv.client(
            "",
            stdin=(cookie,),
            options=("--cookie-on-stdin", "--servercert", fingerprint),
        )
        client.wait_until_connected()
        assert client.ping(ocserv.gateway.gateway_address)

    def test_a_gateway_of_an_unknown_authority_is_refused(self, ocserv: OcservSite) -> None:
        client = ocserv.client(options=("--cafile", "/etc/ssl/certs/ca-certificates.crt"))
        assert client.wait_for_end() == 1
        assert client.find("issued by an unknown authority")
        assert client.find("--servercert pin-sha256:")

    def test_an_unknown_authority_can_be_let_pass_with_a_warning(self, ocserv: OcservSite) -> None:
        options = ("--cafile", "/etc/ssl/certs/ca-certificates.crt", "--allow-untrusted")
        client = ocserv.connect(options=options)
        assert client.find("Warning: the gateway's certificate is not trusted")


class ChannelTests:
    @pytest.mark.parametrize(
        ("options", "suite"),
        [
            ((), "TLS_PSK_WITH_AES_256_GCM_SHA384"),
            (("--no-dtls-psk",), "TLS_RSA_WITH_AES_256_GCM_SHA384"),
            (("--dtls12-ciphers", "AES128-GCM-SHA256"), "TLS_RSA_WITH_AES_128_GCM_SHA256"),
            (("--dtls-ciphers", "AES256-SHA"), "TLS_RSA_WITH_AES_256_CBC_SHA"),
            (("--dtls-ciphers", "AES128-SHA"), "TLS_RSA_WITH_AES_128_CBC_SHA"),
        ],
    )
    def test_traffic_over_dtls(
        self, ocserv: OcservSite, options: tuple[str, ...], suite: str
    ) -> None:
        client = ocserv.connect(options=options)
        assert client.wait_for_dtls() == suite
        for wanted in ("download", "upload"):
            moved = ocserv.transfer(
                client.namespace, wanted, ocserv.gateway.gateway_address, megabytes=30
            )
            assert moved.matches

    def test_traffic_over_tls(self, ocserv: OcservSite) -> None:
        client = ocserv.connect(options=("--no-dtls",))
        for wanted in ("download", "upload"):
            moved = ocserv.transfer(
                client.namespace, wanted, ocserv.gateway.gateway_address, megabytes=30
            )
            assert moved.matches
        assert client.find("data goes over UDP") is None

    @pytest.mark.parametrize("dtls", [(), ("--no-dtls",)])
    def test_compressed_traffic(self, ocserv: OcservSite, dtls: tuple[str, ...]) -> None:
        client = ocserv.connect(options=("--compression", "stateless", *dtls))
        moved = ocserv.transfer(
            client.namespace, "download", ocserv.gateway.gateway_address, megabytes=3
        )
        assert moved.matches

    def test_outer_ipv6(self, ocserv: OcservSite) -> None:
        client = ocserv.connect(address=f"[{GATEWAY_ADDRESS_IPV6}]")
        client.wait_for_dtls()
        assert client.ping(ocserv.gateway.gateway_address)

    def test_ipv4_alone(self, ocserv: OcservSite) -> None:
        client = ocserv.connect(options=("--disable-ipv6",))
        assert [each.version for each in client.inner_addresses] == [4]
        assert client.ping(ocserv.gateway.gateway_address)


class HostTests:
    def test_routes_and_resolvers_are_those_granted_and_go_again(self, ocserv: OcservSite) -> None:
        namespace = ocserv.network.host(1).namespace
        before = namespace.run("ip", "route") + namespace.run("ip", "-6", "route")
        client = ocserv.connect()
        routes = namespace.run("ip", "route")
        assert f"10.20.0.0/16 dev {client.device}" in routes
        assert "10.20.30.0/24 via 198.18.1.1 dev wan" in routes
        assert "default via 198.18.1.1" in routes
        assert f"fd00:20::/48 dev {client.device}" in namespace.run("ip", "-6", "route")
        resolv_conf = client.resolv_conf.read_text()
        assert "nameserver 192.168.77.1" in resolv_conf
        assert "search example.test" in resolv_conf
        assert client.stop() == 0
        assert namespace.run("ip", "route") + namespace.run("ip", "-6", "route") == before
        assert client.resolv_conf.read_text() == "nameserver 192.0.2.53\n"

    def test_goodbye_ends_the_session(self, ocserv: OcservSite) -> None:
        client = ocserv.connect("bob")
        assert "bob" in ocserv.gateway.occtl("show", "users")
        assert client.stop() == 0
        wait_until(
            lambda: "bob" not in ocserv.gateway.occtl("show", "users"), "ocserv has forgotten bob"
        )

    def test_the_gateway_may_end_the_session(self, ocserv: OcservSite) -> None:
        client = ocserv.connect("bob")
        ocserv.gateway.occtl("disconnect", "user", "bob")
        client.wait_for("Disconnected: the gateway ended the session")
        assert client.wait_for_end() == 0
