"""What gateways answer: success, refusals, requests for certificates."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, PeerError
from anyvpn.model.authentication import (
    PASSWORD_FORM,
    CertificateRequest,
    CorePackage,
    Form,
    GatewayMessage,
    GroupList,
    LoginComplete,
    LoginRefused,
    LoginStep,
    LogoutComplete,
    Manifest,
    Opaque,
    Option,
    SignatureRequest,
)
from anyvpn.wire.authentication import read_gateway_message, write_gateway_message
from tests.wire.captured import EXAMPLES, example, gateway_bodies, messages
from tests.wire.test_authentication_opaque import opaques
from tests.wire.texts import trimmed, xml_text

SERVER_CERT_HASH = "E1F5CD57332EFF5B17ED1FB4D377E89C76202713"
PROFILE = Manifest("/CACHE/stc/profiles/anyvpn.xml", "225623179E4A07AFE03CAC35D19FB4646903DC9F")
PACKAGES = (
    CorePackage(
        "VPNCore",
        "4.10.07061",
        "binaries/anyvpn-win-core.exe",
        "VPN core",
        "win:6.1.7601",
        is_core=True,
    ),
    CorePackage("DART", "4.10.07061", "binaries/anyvpn-win-dart.exe", "Diagnostics", module="dart"),
)

packages = st.builds(
    CorePackage,
    identifier=xml_text,
    version=xml_text,
    uri=trimmed,
    display_name=trimmed,
    operating_system=xml_text,
    kind=xml_text,
    action=xml_text,
    module=xml_text,
    is_core=st.booleans(),
)
manifests = st.builds(
    Manifest,
    uri=trimmed,
    sha1=st.binary(min_size=20, max_size=20).map(lambda digest: digest.hex().upper()),
    kind=xml_text,
    service=xml_text,
)
successes = st.builds(
    LoginComplete,
    session_id=trimmed,
    session_token=trimmed,
    banner=trimmed,
    message=trimmed,
    server_cert_hash=trimmed,
    base_package_uri=trimmed,
    core_packages=st.lists(packages, max_size=3).map(tuple),
    profiles=st.lists(manifests, max_size=3).map(tuple),
)
signature_requests = st.builds(
    LoginStep,
    step=st.builds(SignatureRequest, st.lists(trimmed, max_size=3).map(tuple), nonce=trimmed)
    | st.just(CertificateRequest()),
    opaque=st.none() | opaques,
    action=st.just(""),
    certificate_accepted=st.booleans(),
)
refusals = st.builds(LoginRefused, error=trimmed.filter(bool), error_id=xml_text)
gateway_messages = st.one_of(successes, signature_requests, refusals, st.just(LogoutComplete()))


class CapturedSuccessTests(TestCase):
    """ocserv's success, whose token is in a cookie alone."""

    def test_without_profile(self) -> None:
        for case in ("01_password_psk_dtls", "02_group_select", "03_two_step_otp", "10_no_xmlpost"):
            self.assertEqual(
                read_gateway_message(gateway_bodies(case)[-1]),
                LoginComplete("", "", banner="Welcome to anyvpn test", base_package_uri=""),
            )

    def test_with_profile(self) -> None:
        for case, number in (("06_profile_download", 2), ("06b_anyconnect_mobile_agent", 2)):
            message = read_gateway_message(gateway_bodies(case)[number])
            assert isinstance(message, LoginComplete)
            self.assertEqual(message.profiles, (replace(PROFILE, uri="/profiles/profile.xml"),))
        profile = messages("06_profile_download")[-1].body
        self.assertEqual(hashlib.sha1(profile).hexdigest().upper(), PROFILE.sha1)


class CiscoAnswerTests(TestCase):
    """Answers as an ASA words them."""

    def test_success_with_both_places_of_the_core_manifest(self) -> None:
        expected = LoginComplete(
            "32768",
            "7F3B01@32768@1E51@4C0E9A7B2D3F4E5061728394A5B6C7D8E9F00112",
            banner="Authorised use only.",
            server_cert_hash=SERVER_CERT_HASH,
            core_packages=PACKAGES,
            profiles=(PROFILE,),
        )
        self.assertEqual(read_gateway_message(example("20")), expected)
        self.assertEqual(read_gateway_message(example("21")), expected)

    def test_certificate_request(self) -> None:
        message = read_gateway_message(example("13"))
        assert isinstance(message, LoginStep) and message.opaque is not None
        self.assertEqual(message.step, CertificateRequest())
        self.assertEqual(message.opaque.tunnel_group, "Cert-Profile")
        self.assertFalse(message.certificate_accepted)

    def test_signature_request(self) -> None:
        message = read_gateway_message(example("15"))
        assert isinstance(message, LoginStep)
        self.assertEqual(
            message.step,
            SignatureRequest(
                ("sha256", "sha384", "sha512"),
                "FA4003BD87436B227C41A7A6E2F0C138A08FF724F0100015B863F750914839EE79C86DFE8F0B9A0199E2",
            ),
        )
        self.assertTrue(message.certificate_accepted)

    def test_a_refusal_is_no_success(self) -> None:
        self.assertEqual(
            read_gateway_message(example("23")),
            LoginRefused("VPN Server could not parse request.", "98"),
        )

    def test_version_1_success(self) -> None:
        self.assertEqual(
            read_gateway_message(example("25")),
            LoginComplete("", "", "Authorised use only.", "Success", base_package_uri=""),
        )


class GatewayReaderTests(TestCase):
    """It goes by the content, as types differ."""

    def test_success_is_told_by_the_id_or_by_the_token(self) -> None:
        for body in (
            b'<config-auth><session-token>t</session-token><auth id="success"/></config-auth>',
            b'<config-auth type="complete"><session-token>t</session-token></config-auth>',
        ):
            message = read_gateway_message(body)
            assert isinstance(message, LoginComplete)
            self.assertEqual(message.session_token, "t")

    def test_an_error_with_nothing_to_answer_refuses(self) -> None:
        for body in (
            b"<config-auth><error>no</error></config-auth>",
            b'<config-auth><auth id="main"><error>no</error></auth></config-auth>',
            b'<config-auth type="complete"><auth id="main"/><error>no</error></config-auth>',
            b'<auth id="main"><error>no</error></auth>',
        ):
            self.assertEqual(read_gateway_message(body), LoginRefused("no", ""))

    def test_nonsense_is_refused(self) -> None:
        for body in (
            b"",
            b"<html></html>",
            b"<config-auth/>",
            b'<config-auth type="auth-request"/>',
            b"<html><body><auth/></body></html>",
        ):
            with self.assertRaises(MalformedMessage):
                read_gateway_message(body)

    def test_a_hash_of_another_kind_matches_nothing(self) -> None:
        body = example("20").replace(b'<hash type="sha1">', b'<hash type="md5">')
        message = read_gateway_message(body)
        assert isinstance(message, LoginComplete)
        self.assertEqual([profile.sha1 for profile in message.profiles], [""])

    def test_the_number_of_files_is_bounded(self) -> None:
        body = example("20").replace(b'type="sha1">', b'type="sha1"></hash><hash>')
        many = b"<file/>" * 1000
        message = read_gateway_message(body.replace(b"</file>", b"</file>" + many))
        assert isinstance(message, LoginComplete)
        self.assertEqual((len(message.profiles), len(message.core_packages)), (256, 256))

    def test_truncated_anywhere_it_is_refused(self) -> None:
        for name in ("11", "20"):
            body = example(name).rstrip()
            for length in range(len(body)):
                with self.assertRaises(MalformedMessage):
                    read_gateway_message(body[:length])

    def test_every_example_is_read_or_refused(self) -> None:
        read = 0
        for path in EXAMPLES.glob("*.xml"):
            try:
                read_gateway_message(path.read_bytes())
                read += 1
            except PeerError:
                self.assertRegex(path.name, "init|reply|logout")
        self.assertGreaterEqual(read, 16)

    @given(st.data())
    @settings(max_examples=150)
    def test_a_changed_document_is_read_or_refused(self, data: st.DataObject) -> None:
        body = bytearray(example(data.draw(st.sampled_from(["06", "11", "15", "17", "20", "24"]))))
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(body) - 1))
            body[position : position + data.draw(st.integers(0, 9))] = data.draw(
                st.sampled_from([b"", b"<", b">", b"</auth>", b"<form>", b"\0", b"&", b'"', b"%s"])
                | st.binary(max_size=3)
            )
        try:
            read_gateway_message(bytes(body))
        except PeerError:
            return


class GatewayWriterTests(TestCase):
    """What a gateway of ours answers is read back."""

    @given(gateway_messages)
    @settings(max_examples=200)
    def test_what_is_written_is_read(self, message: GatewayMessage) -> None:
        self.assertEqual(read_gateway_message(write_gateway_message(message)), message)

    @given(refusals | successes)
    @settings(max_examples=50)
    def test_version_1_says_what_it_can(self, message: GatewayMessage) -> None:
        body = write_gateway_message(message, 1)
        self.assertIn(b"<auth id=", body.splitlines()[1])
        self.assertNotIn(b"config-auth", body.splitlines()[1].partition(b">")[0])
        read = read_gateway_message(body)
        if isinstance(message, LoginComplete):
            assert isinstance(read, LoginComplete)
            self.assertEqual((read.session_token, read.banner), ("", message.banner))
            self.assertEqual(read.message, message.message or "Success")
        else:
            self.assertEqual(read, message)

    def test_a_version_1_form_posts_to_the_old_place(self) -> None:
        groups = GroupList((Option("a", "A"),))
        body = write_gateway_message(LoginStep(PASSWORD_FORM, Opaque("t"), groups), 1)
        self.assertIn(b'?>\n<auth id="main"><title>Login</title>', body)
        self.assertIn(b'<form method="post" action="/+webvpn+/index.html">', body)
        self.assertIn(b'<select name="group_list" label="GROUP:">', body)
        self.assertNotIn(b"opaque", body)
        elsewhere = write_gateway_message(LoginStep(PASSWORD_FORM, action="/auth"), 1)
        self.assertIn(b'action="/auth"', elsewhere)

    def test_what_version_1_cannot_say_is_said_in_version_2(self) -> None:
        for message in (LoginStep(CertificateRequest(), action=""), LogoutComplete()):
            self.assertEqual(write_gateway_message(message, 1), write_gateway_message(message, 2))

    def test_success_reads_as_ciscos(self) -> None:
        message = LoginComplete(
            "32768",
            "token",
            server_cert_hash=SERVER_CERT_HASH,
            core_packages=PACKAGES,
            profiles=(PROFILE,),
        )
        body = write_gateway_message(message)
        for part in (
            b'<config-auth client="vpn" type="complete" aggregate-auth-version="2">',
            b"<session-id>32768</session-id><session-token>token</session-token>",
            b'<auth id="success"><message id="0" param1="" param2=""></message></auth>',
            b"<capabilities><crypto-supported>ssl-dhe</crypto-supported></capabilities>",
            b"<base-package-uri>/CACHE/stc/1</base-package-uri>",
            b"<server-cert-hash>" + SERVER_CERT_HASH.encode() + b"</server-cert-hash>",
            b'<opaque is-for="vpn-client"><vpn-client-pkg-version><pkgversion>4,10,07061<',
            b'<vpn-profile-manifest><vpn rev="1.0"><file type="profile" service-type="user">',
            b'<hash type="sha1">225623179E4A07AFE03CAC35D19FB4646903DC9F</hash>',
        ):
            self.assertIn(part, body)
        self.assertNotIn(
            b"vpn-profile-manifest", write_gateway_message(replace(message, profiles=()))
        )

    def test_every_document_has_a_declaration_and_both_tags(self) -> None:
        for message in (
            LogoutComplete(),
            LoginRefused("no"),
            LoginComplete("1", "t"),
            LoginStep(Form("", ())),
        ):
            body = write_gateway_message(message)
            self.assertTrue(
                body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<config-auth ')
            )
            self.assertNotIn(b"/>", body)

    def test_controls_never_break_a_document(self) -> None:
        message = LoginComplete(
            "1", "t", banner="Wel\x1bcome\0 ]]>", profiles=(Manifest("\0", "\0"),)
        )
        read = read_gateway_message(write_gateway_message(message))
        assert isinstance(read, LoginComplete)
        self.assertEqual(read.banner, "Welcome ]]>")

    def test_the_token_is_not_shown(self) -> None:
        self.assertNotIn("7F3B01", repr(read_gateway_message(example("20"))))
