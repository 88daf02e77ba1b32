"""Tests of anyvpn.client.trust: real handshakes, in memory, with certificates of all kinds."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import trustme
from OpenSSL import SSL

from anyvpn.client.credentials import ClientCredential, load_credential
from anyvpn.client.trust import AcceptedCertificate, GatewayTrust, TrustSettings
from anyvpn.errors import ConfigurationError, GatewayUntrusted
from tests.client.scripted import connect
from tests.gateway.memory_tls import HOST, authority

STRANGER = trustme.CA()


def server(ca: trustme.CA, *names: str, **options: object) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    ca.issue_cert(*names, **options).configure_cert(context)  # type: ignore[arg-type]
    return context


class Verifier:
    """What the client makes of a gateway."""

    def __init__(self, settings: TrustSettings, credential: ClientCredential | None = None) -> None:
        self.trust = GatewayTrust(settings)
        self.context = self.trust.new_context(credential, "1.2", "")

    def look(
        self, gateway: SSL.Context, accepted: AcceptedCertificate | None = None, host: str = HOST
    ) -> AcceptedCertificate:
        context = self.context
        # Each connection is watched before its handshake begins
        original = SSL.Connection.__init__
        trust = self.trust

        def watched(connection: SSL.Connection, context: SSL.Context, socket: None = None) -> None:
            original(connection, context, socket)
            if context is self.context:
                trust.watch(connection, host, 443, accepted)

        SSL.Connection.__init__ = watched  # type: ignore[method-assign]
        try:
            stream, opening, self.gateway, _ = connect(context, gateway)
        finally:
            SSL.Connection.__init__ = original  # type: ignore[method-assign]
        refusal = trust.refusal(stream.tls)
        if refusal is not None:
            assert not opening.is_secured
            raise refusal
        return trust.verdict(stream.tls)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(path)
    return path


class ChainTests:
    def test_a_known_authority_and_the_right_name(self, ca_file: Path) -> None:
        verdict = Verifier(TrustSettings(ca_file)).look(server(authority(), HOST))
        assert verdict.warning == ""
        assert verdict.pin.startswith("pin-sha256:")

    def test_an_address_in_the_certificate(self, ca_file: Path) -> None:
        gateway = server(authority(), "192.0.2.1")
        assert Verifier(TrustSettings(ca_file)).look(gateway, host="192.0.2.1").warning == ""

    def test_an_unknown_authority(self, ca_file: Path) -> None:
        with pytest.raises(GatewayUntrusted, match="issued by an unknown authority") as refused:
            Verifier(TrustSettings(ca_file)).look(server(STRANGER, HOST))
        assert refused.value.pin.startswith("pin-sha256:")

    def test_a_certificate_for_somebody_else(self, ca_file: Path) -> None:
        with pytest.raises(
            GatewayUntrusted, match=r"for other\.example, not for vpn\.example\.com"
        ):
            Verifier(TrustSettings(ca_file)).look(server(authority(), "other.example"))

    def test_an_expired_certificate(self, ca_file: Path) -> None:
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        gateway = server(authority(), HOST, not_after=yesterday)
        with pytest.raises(GatewayUntrusted, match="is expired"):
            Verifier(TrustSettings(ca_file)).look(gateway)

    def test_all_faults_are_named_at_once(self, ca_file: Path) -> None:
        with pytest.raises(GatewayUntrusted, match=r"unknown authority.*; .*not for vpn"):
            Verifier(TrustSettings(ca_file)).look(server(STRANGER, "other.example"))

    def test_another_name_may_be_expected(self, ca_file: Path) -> None:
        settings = TrustSettings(ca_file, server_name="other.example")
        assert Verifier(settings).look(server(authority(), "other.example")).warning == ""


class UnwatchedTests:
    def test_a_connection_that_nobody_watches_is_refused(self, ca_file: Path) -> None:
        context = GatewayTrust(TrustSettings(ca_file)).new_context(None, "1.2", "")
        _, opening, _, _ = connect(context, server(authority(), HOST))
        assert not opening.is_secured
        assert opening.why_closed


class ExceptionTests:
    def test_untrusted_may_be_allowed_with_a_warning_each_time(self, ca_file: Path) -> None:
        verifier = Verifier(TrustSettings(ca_file, allow_untrusted=True))
        for _ in range(2):
            assert "unknown authority" in verifier.look(server(STRANGER, HOST)).warning

    def test_a_pin_is_all_that_is_needed(self, ca_file: Path) -> None:
        gateway = server(STRANGER, "other.example")
        with pytest.raises(GatewayUntrusted) as refused:
            Verifier(TrustSettings(ca_file)).look(gateway)
        pinned = TrustSettings(ca_file, pins=(refused.value.pin,))
        assert Verifier(pinned).look(gateway).warning == ""

    def test_a_pin_that_does_not_match_is_a_refusal(self, ca_file: Path) -> None:
        pins = ("sha256:00000000",)
        with pytest.raises(GatewayUntrusted, match="pinned"):
            Verifier(TrustSettings(ca_file, pins=pins)).look(server(authority(), HOST))

    @pytest.mark.parametrize("pin", ["", "abcd", "sha256:abc", "pin-sha256:short", "md5:abcdef"])
    def test_what_is_no_pin_is_named(self, pin: str) -> None:
        with pytest.raises(ConfigurationError, match="is no pin"):
            GatewayTrust(TrustSettings(pins=(pin,)))

    def test_first_use_is_remembered(self, ca_file: Path, tmp_path: Path) -> None:
        settings = TrustSettings(ca_file, first_use_file=tmp_path / "known")
        gateway = server(STRANGER, HOST)
        first = Verifier(settings).look(gateway).warning
        assert first.endswith("its key is trusted from now on")
        assert Verifier(settings).look(gateway).warning == ""
        with pytest.raises(GatewayUntrusted, match="has changed since it was first met"):
            Verifier(settings).look(server(STRANGER, HOST))

    def test_a_broken_line_of_known_gateways_is_named(self, ca_file: Path, tmp_path: Path) -> None:
        known = tmp_path / "known"
        known.write_text("# gateways\nnonsense\n")
        settings = TrustSettings(ca_file, first_use_file=known)
        with pytest.raises(GatewayUntrusted, match="known:2: a line is a host"):
            Verifier(settings).look(server(STRANGER, HOST))


class LaterSessionTests:
    def test_the_same_certificate_goes_on(self, ca_file: Path) -> None:
        gateway = server(authority(), HOST)
        verifier = Verifier(TrustSettings(ca_file))
        assert verifier.look(gateway, accepted=verifier.look(gateway)).warning == ""

    def test_another_one_does_not_although_it_is_good(self, ca_file: Path) -> None:
        verifier = Verifier(TrustSettings(ca_file))
        accepted = verifier.look(server(authority(), HOST))
        with pytest.raises(GatewayUntrusted, match="another certificate than at the login"):
            verifier.look(server(authority(), HOST), accepted=accepted)


class ClientCertificateTests:
    @pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
    def test_an_untrusted_gateway_never_sees_ours(
        self, ca_file: Path, tmp_path: Path, version: int
    ) -> None:
        issued = authority().issue_cert("alice@example.com")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "alice.pem")
        credential = load_credential(tmp_path / "alice.pem")
        for ca, is_shown in ((authority(), True), (STRANGER, False)):
            gateway = server(ca, HOST)
            gateway.set_max_proto_version(version)
            gateway.set_verify(SSL.VERIFY_PEER, lambda *_: True)
            verifier = Verifier(TrustSettings(ca_file), credential)
            try:
                verifier.look(gateway)
            except GatewayUntrusted:
                assert not is_shown
            shown = verifier.gateway.tls.get_peer_certificate()
            assert (shown is not None) is is_shown
