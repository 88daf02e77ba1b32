"""Tests of anyvpn.client.tunnel_request: what is offered, and which grants are taken."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.internet.defer import Deferred

from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.login import Login
from anyvpn.client.settings import ClientSettings, DTLSOptions, ProxySettings
from anyvpn.client.strap import StrapKeys
from anyvpn.client.tunnel_request import OpenedTunnel, dtls_mtu, make_offer, open_tunnel
from anyvpn.errors import GatewayUnreachable, PeerError, TokenRejected, TunnelRefused
from anyvpn.model.client_events import ClientEvent
from anyvpn.model.tunnel_settings import TunnelOffer
from anyvpn.wire.tunnel_settings import read_offer
from tests.client.scripted import HTTPScene, result_of

PLAIN = ("X-CSTP-Address: 10.1.2.3", "X-CSTP-Netmask: 255.255.255.0", "X-CSTP-MTU: 1400")
OLD_SUITE = ("X-DTLS-Port: 443", "X-DTLS-CipherSuite: AES256-SHA")


def offer(settings: ClientSettings, peer: str = "192.0.2.1") -> TunnelOffer:
    return make_offer(
        "token", settings, peer_address=peer, path_mtu_bytes=0, wishes=(), master_secret=bytes(48)
    )


class OfferTests:
    def test_mtus_are_those_of_openconnect(self) -> None:
        assert offer(ClientSettings()).mtu_bytes == 1390
        assert offer(ClientSettings(), "2001:db8::1").mtu_bytes == 1370

    def test_all_kinds_of_dtls_are_offered_but_the_old_ones(self) -> None:
        made = offer(ClientSettings())
        assert made.dtls_suites[0] == "PSK-NEGOTIATE"
        assert "OC-DTLS1_2-AES256-GCM" in made.dtls_suites
        assert "ECDHE-RSA-AES256-GCM-SHA384" in made.dtls12_suites
        assert not any(each.endswith("-SHA") for each in (*made.dtls_suites, *made.dtls12_suites))

    def test_the_old_ones_only_when_wanted(self) -> None:
        made = offer(ClientSettings(dtls=DTLSOptions(legacy=True)))
        assert "AES256-SHA" in made.dtls_suites

    def test_what_is_named_is_offered_alone(self) -> None:
        made = offer(ClientSettings(dtls=DTLSOptions(suites=("AES128-SHA", "AES256-SHA"))))
        assert made.dtls_suites == ("AES128-SHA", "AES256-SHA")
        assert made.dtls12_suites == ()
        made = offer(ClientSettings(dtls=DTLSOptions(suites12=("AES128-GCM-SHA256",))))
        assert made.dtls_suites == ()
        assert made.dtls12_suites == ("AES128-GCM-SHA256",)

    @pytest.mark.parametrize("names", [{"suites": ("RC4",)}, {"suites12": ("AES128-SHA", "")}])
    def test_what_is_no_suite_is_refused(self, names: dict[str, tuple[str, ...]]) -> None:
        with pytest.raises(ValueError, match="there are PSK-NEGOTIATE:"):
            DTLSOptions(**names)

    def test_without_dtls_nothing_is_said_of_it(self) -> None:
        proxy = ProxySettings("http", "proxy.example", 8080)
        for settings in (
            ClientSettings(dtls=DTLSOptions(enabled=False)),
            ClientSettings(proxy=proxy),
        ):
            made = offer(settings)
            assert not made.wants_dtls
            assert made.dtls_master_secret == b""


class Session:
    """Stands for an HTTPSession with one open connection."""

    def __init__(self, scene: HTTPScene) -> None:
        self.url = GatewayURL("vpn.example.com")
        self.address = "192.0.2.1"
        self._scene = scene

    async def connection(self) -> object:
        return self._scene.http

    def take_connection(self) -> object:
        return self._scene.http


class GrantTests:
    def setup_method(self) -> None:
        self.scene = HTTPScene()
        self.login = Login(GatewayURL("vpn.example.com"), "the-token")
        self.events: list[ClientEvent] = []

    def ask(self, settings: ClientSettings | None = None) -> Deferred[object]:
        return self.scene.ask(
            open_tunnel(
                Session(self.scene),  # type: ignore[arg-type]
                self.login,
                settings or ClientSettings(),
                wishes=(ip_address("10.1.2.3"),),
                random=lambda size: bytes(size),
                tell=self.events.append,
            )
        )

    def answer(self, *lines: str, status: str = "200 CONNECTED") -> None:
        self.scene.answer("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1"))

    def test_a_grant_leaves_a_paused_stream(self) -> None:
        asked = self.ask()
        self.answer(*PLAIN)
        opened = result_of(asked)
        assert isinstance(opened, OpenedTunnel)
        assert opened.granted.mtu_bytes == 1400
        assert self.scene.wire.near.is_paused
        head = self.scene.gateway.received
        assert head.startswith(b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n")
        headers = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")[1:-2]]
        read = read_offer(headers)  # type: ignore[arg-type]
        assert read.token == "the-token"
        assert read.wished_addresses == (ip_address("10.1.2.3"),)

    def test_a_login_that_is_bound_to_keys_signs_the_channel(self) -> None:
        keys = StrapKeys.generate()
        self.login = replace(self.login, strap=keys)
        self.ask()
        lines = self.scene.gateway.received.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:] if line)
        public_key = b64decode(headers[b"X-AnyConnect-STRAP-Pubkey"])
        signature = b64decode(headers[b"X-AnyConnect-STRAP-Verify"])
        binding = self.scene.gateway.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32)
        signed = ec.ECDSA(SHA256())
        keys.signing_key.public_key().verify(signature, binding + public_key, signed)

    def test_a_token_that_is_not_known(self) -> None:
        asked = self.ask()
        self.answer(status="401 Cookie is not acceptable")
        with pytest.raises(TokenRejected, match="log in again"):
            result_of(asked)

    def test_no_resources_in_the_gateways_words(self) -> None:
        asked = self.ask()
        self.answer("X-Reason: No free address", status="503 Service Unavailable")
        with pytest.raises(TunnelRefused, match="No free address"):
            result_of(asked)

    def test_a_gateway_that_just_closes(self) -> None:
        asked = self.ask()
        self.scene.gateway.close()
        self.scene.wire.pump()
        with pytest.raises(GatewayUnreachable):
            result_of(asked)

    @pytest.mark.parametrize(
        "lines",
        [
            (),
            ("X-CSTP-Address: 10.1.2.3",),
            ("X-CSTP-Address: 300.1.2.3", *PLAIN[1:]),
            ("X-CSTP-Address: 127.0.0.1", *PLAIN[1:]),
            (*PLAIN[:2], "X-CSTP-MTU: 5"),
            (*PLAIN[:2], "X-CSTP-MTU: 99999999999999"),
            (*PLAIN[:2], "X-CSTP-MTU: -1400"),
            (*PLAIN, "X-CSTP-Split-Include: 10.0.0.0/255.0.255.0"),
            (*PLAIN, "X-CSTP-Split-Include: nonsense"),
            (*PLAIN, "X-CSTP-Content-Encoding: rot13"),
            (*PLAIN, "X-CSTP-Content-Encoding: lzs"),
            (
                *PLAIN,
                "X-DTLS-Session-ID: 1234",
                "X-DTLS-Port: 443",
                "X-DTLS-CipherSuite: AES256-SHA",
            ),
            (
                *PLAIN,
                "X-DTLS-App-ID: " + "00" * 32,
                "X-DTLS-Port: 70000",
                "X-DTLS-CipherSuite: PSK-NEGOTIATE",
            ),
        ],
    )
    def test_grants_that_cannot_be_are_not_taken(self, lines: tuple[str, ...]) -> None:
        asked = self.ask()
        self.answer(*lines)
        with pytest.raises(PeerError):
            result_of(asked)
        self.scene.wire.pump()
        assert self.scene.wire.near.lost

    @pytest.mark.parametrize(
        ("dtls", "lines"),
        [
            # as anylink names it whether there was an offer or not
            (DTLSOptions(enabled=False), ("X-DTLS-Session-ID: " + "00" * 32,)),
            (DTLSOptions(), ("X-DTLS-Session-ID: " + "00" * 32,)),
            # what no handshake could be made of
            (DTLSOptions(legacy=True), ("X-DTLS-App-ID: " + "00" * 32,)),
        ],
    )
    def test_dtls_that_was_not_asked_for_is_left_alone(
        self, dtls: DTLSOptions, lines: tuple[str, ...]
    ) -> None:
        asked = self.ask(ClientSettings(dtls=dtls))
        self.answer(*PLAIN, *lines, "X-DTLS-Port: 443", "X-DTLS-CipherSuite: AES256-SHA")
        opened = result_of(asked)
        assert isinstance(opened, OpenedTunnel)
        assert opened.granted.dtls is None

    def test_ipv6_that_was_not_asked_for(self) -> None:
        asked = self.ask(ClientSettings(ipv6=False))
        self.answer(*PLAIN, "X-CSTP-Address-IP6: fd00::1/128")
        with pytest.raises(PeerError, match="not asked for"):
            result_of(asked)

    def test_the_mtu_of_dtls_is_computed_or_told(self) -> None:
        asked = self.ask()
        self.answer(
            *PLAIN[:2],
            "X-CSTP-MTU: 1500",
            "X-CSTP-Base-MTU: 1500",
            "X-DTLS-App-ID: " + "00" * 32,
            "X-DTLS-Port: 443",
            "X-DTLS-CipherSuite: PSK-NEGOTIATE",
        )
        opened = result_of(asked)
        assert isinstance(opened, OpenedTunnel)
        assert opened.granted.dtls is not None
        assert dtls_mtu(opened.granted, opened.granted.dtls, "192.0.2.1") == 1434
        assert dtls_mtu(opened.granted, opened.granted.dtls, "2001:db8::1") == 1414
