"""Tests of anyvpn.client.authentication: groups, forms, certificates, version 1, redirects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.oid import NameOID

from anyvpn.client.credentials import ClientCredential
from anyvpn.client.settings import ClientSettings
from anyvpn.errors import LoginAborted, LoginDenied, MalformedMessage, PeerError
from anyvpn.model.authentication import (
    PASSWORD_FORM,
    BrowserLogin,
    CertificateRequest,
    ClientMessage,
    ClientMessageKind,
    Field,
    Form,
    GroupList,
    LoginRefused,
    LoginStep,
    Opaque,
    Option,
    SignatureRequest,
)
from anyvpn.model.client_events import MessageShown
from tests.client.conversation import COMPLETE, Conversation, page, raw, step

KNOWN = {"username": "alice", "password": "secret"}
GROUPS = GroupList((Option("staff", "Staff", selected=True), Option("guests", "Guests")))
FORM_PAGE = page(step(PASSWORD_FORM))


class StepTests:
    def test_one_form_and_in(self) -> None:
        talk = Conversation(FORM_PAGE, page(COMPLETE), **KNOWN)
        login = talk.run()
        assert login.token == "token-of-the-session"
        first, reply = talk.messages()
        assert isinstance(first, ClientMessage)
        assert first.kind is ClientMessageKind.INIT
        assert first.group_access == "https://vpn.example.com/"
        assert isinstance(reply, ClientMessage)
        assert dict(reply.answers) == KNOWN

    def test_the_token_may_come_as_a_cookie(self) -> None:
        """As ocserv has it."""
        body = b'<?xml version="1.0"?><config-auth client="vpn" type="complete">'
        body += b'<auth id="success"><banner>Hello</banner></auth></config-auth>'
        talk = Conversation(FORM_PAGE, raw(body, "webvpn=from-cookie; Secure"), **KNOWN)
        assert talk.run().token == "from-cookie"
        assert MessageShown("Hello") in talk.events

    def test_a_login_without_a_token_is_none(self) -> None:
        body = b'<config-auth type="complete"><auth id="success"/></config-auth>'
        with pytest.raises(PeerError, match="without a session token"):
            Conversation(FORM_PAGE, raw(body), **KNOWN).run()

    def test_user_name_and_password_may_come_one_by_one(self) -> None:
        forms = [
            page(step(Form("User?", (Field("username"),)), action="/auth")),
            page(step(Form("Password?", (Field("password", secret=True),)), action="/auth")),
        ]
        talk = Conversation(*forms, page(COMPLETE), **KNOWN)
        talk.run()
        assert [each.url for each in talk.session.sent] == [
            "https://vpn.example.com/",
            "https://vpn.example.com/auth",
            "https://vpn.example.com/auth",
        ]

    def test_hidden_fields_and_the_note_come_back_as_they_were(self) -> None:
        hidden = Form("", (Field("state", hidden=True, value="x&y"), *PASSWORD_FORM.fields))
        opaque = Opaque(tunnel_group="Engineering", handle="168179266")
        talk = Conversation(page(step(hidden, opaque=opaque)), page(COMPLETE), **KNOWN)
        talk.run()
        reply = talk.messages()[-1]
        assert isinstance(reply, ClientMessage)
        assert reply.answers["state"] == "x&y"
        assert reply.opaque is not None
        assert reply.opaque.handle == "168179266"
        asked = talk.responder.asked[0]
        assert isinstance(asked, Form)
        assert [each.name for each in asked.fields] == ["username", "password"]

    def test_a_refusal_in_words(self) -> None:
        with pytest.raises(LoginDenied, match="No such thing"):
            Conversation(page(LoginRefused("No such thing"))).run()

    def test_a_wrong_password_that_nobody_knows_better_is_the_gateways_error(self) -> None:
        again = Form("Login", PASSWORD_FORM.fields, error="Login failed.")
        with pytest.raises(LoginDenied, match="Login failed"):
            Conversation(FORM_PAGE, page(step(again)), **KNOWN).run()

    def test_a_question_that_nobody_answers(self) -> None:
        with pytest.raises(LoginAborted, match="'Password'"):
            Conversation(FORM_PAGE, username="alice").run()

    def test_a_new_password_must_be_typed_twice_the_same(self) -> None:
        fields = (Field("new_password", secret=True), Field("verify_password", secret=True))
        with pytest.raises(LoginAborted, match="differ"):
            Conversation(
                page(step(Form("New password", fields))), new_password="a", verify_password="b"
            ).run()

    def test_a_gateway_that_asks_without_end(self) -> None:
        with pytest.raises(PeerError, match="more than 64 steps"):
            Conversation(*[FORM_PAGE] * 70, **KNOWN).run()

    def test_a_posture_check_is_refused_in_words(self) -> None:
        body = b'<config-auth type="auth-request"><host-scan>'
        for part in (b"ticket", b"token", b"base-uri", b"wait-uri"):
            body += b"<host-scan-" + part + b">/x</host-scan-" + part + b">"
        body += b'</host-scan><auth id="main"><form><input type="text" name="username"/></form>'
        with pytest.raises(LoginDenied, match="posture check"):
            Conversation(raw(body + b"</auth></config-auth>"), **KNOWN).run()

    def test_what_the_gateway_says_does_not_steer_a_terminal(self) -> None:
        evil = "No \x9b31m\u202eway\nroot@host# "
        for words in (page(LoginRefused(evil)), page(step(Form("", (Field("x"),), error=evil)))):
            with pytest.raises(LoginDenied, match=r"No \?31m\?way root@host#"):
                Conversation(words).run()

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_status_that_denies(self, status: int) -> None:
        with pytest.raises(LoginDenied, match=str(status)):
            Conversation(FORM_PAGE, raw(status=status), **KNOWN).run()


class GroupTests:
    def test_the_selected_group_rides_along(self) -> None:
        talk = Conversation(page(step(PASSWORD_FORM, groups=GROUPS)), page(COMPLETE), **KNOWN)
        talk.run()
        reply = talk.messages()[-1]
        assert isinstance(reply, ClientMessage)
        assert reply.group_select == "staff"

    def test_another_group_is_posted_again(self) -> None:
        turned = GroupList((Option("guests", "Guests", selected=True), Option("staff", "Staff")))
        talk = Conversation(
            page(step(PASSWORD_FORM, groups=GROUPS)),
            page(step(PASSWORD_FORM, groups=turned)),
            page(COMPLETE),
            group_list="Guests",
            **KNOWN,
        )
        talk.run()
        _, second, reply = talk.messages()
        assert isinstance(second, ClientMessage)
        assert (second.kind, second.group_select) == (ClientMessageKind.INIT, "guests")
        assert isinstance(reply, ClientMessage)
        assert reply.group_select == "guests"

    def test_a_gateway_that_never_turns_to_the_group_is_not_asked_for_ever(self) -> None:
        stubborn = page(step(PASSWORD_FORM, groups=GROUPS))
        settings = ClientSettings(group="guests")
        talk = Conversation(*[stubborn] * 6, page(COMPLETE), settings=settings, **KNOWN)
        talk.run()
        assert len(talk.session.sent) == 7
        last = talk.messages()[-1]
        assert isinstance(last, ClientMessage)
        assert last.kind is ClientMessageKind.REPLY

    def test_a_group_that_is_not_there(self) -> None:
        settings = ClientSettings(group="nobody")
        with pytest.raises(LoginDenied, match="it has: Staff, Guests"):
            Conversation(page(step(PASSWORD_FORM, groups=GROUPS)), settings=settings, **KNOWN).run()


class CertificateTests:
    def test_without_one_the_gateway_is_told_so_once(self) -> None:
        wanted = page(LoginStep(CertificateRequest(), action=""))
        talk = Conversation(wanted, FORM_PAGE, page(COMPLETE), **KNOWN)
        talk.run()
        second = talk.messages()[1]
        assert isinstance(second, ClientMessage)
        assert second.certificate_refused
        assert talk.session.closed

    def test_a_gateway_that_insists_is_left(self) -> None:
        wanted = page(LoginStep(CertificateRequest(), action=""))
        with pytest.raises(LoginDenied, match="client certificate"):
            Conversation(wanted, wanted, wanted, wanted).run()


def user_credential() -> ClientCredential:
    """A certificate of nobody in particular, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today)
        .not_valid_after(today + timedelta(days=1))
        .sign(key, SHA256())
    )
    return ClientCredential((certificate,), key)


class SignatureTests:
    """Multiple certificates: the machine's by TLS, the user's by a signature."""

    def test_the_document_is_signed_as_it_came_with_the_best_hash(self) -> None:
        user = user_credential()
        settings = ClientSettings(credentials=(user,), machine_credential=user_credential())
        asked = page(LoginStep(SignatureRequest(("sha256", "sha384", "md5")), action=""))
        talk = Conversation(asked, page(COMPLETE), settings=settings)
        talk.run()
        first, second = talk.messages()
        assert isinstance(first, ClientMessage) and isinstance(second, ClientMessage)
        assert "multiple-cert" in first.client.capabilities
        signed = second.certificates
        assert signed is not None
        assert signed.hash_algorithm == "sha384"
        assert load_der_pkcs7_certificates(signed.chain_pkcs7) == [user.chain[0]]
        key = user.chain[0].public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signed.signature, asked.body, ec.ECDSA(SHA384()))

    def test_who_has_one_certificate_alone_is_told(self) -> None:
        settings = ClientSettings(credentials=(user_credential(),))
        asked = page(LoginStep(SignatureRequest(), action=""))
        talk = Conversation(asked, settings=settings)
        with pytest.raises(LoginDenied, match="a machine's and a user's"):
            talk.run()
        [only] = talk.messages()
        assert isinstance(only, ClientMessage)
        assert "multiple-cert" not in only.client.capabilities

    def test_no_hash_is_used_that_proves_nothing(self) -> None:
        user = user_credential()
        settings = ClientSettings(credentials=(user,), machine_credential=user)
        asked = page(LoginStep(SignatureRequest(("md5", "sha1")), action=""))
        with pytest.raises(LoginDenied, match="a hash that we do not know"):
            Conversation(asked, settings=settings).run()


class SecondAuthenticationTests:
    """Two logins in one form (protocol reference, section 3.8)."""

    FORM = Form(
        "",
        (
            Field("username"),
            Field("password", secret=True),
            Field("secondary_username", second=True),
            Field("secondary_password", secret=True, second=True),
        ),
    )

    def test_without_groups_both_are_asked(self) -> None:
        known = {"secondary_username": "bob", "secondary_password": "other"}
        talk = Conversation(page(step(self.FORM)), page(COMPLETE), **KNOWN, **known)
        talk.run()
        reply = talk.messages()[1]
        assert isinstance(reply, ClientMessage)
        assert reply.answers == KNOWN | known

    def test_a_group_without_it_leaves_it_out(self) -> None:
        groups = GroupList((Option("staff", "Staff", selected=True),))
        talk = Conversation(page(step(self.FORM, groups=groups)), page(COMPLETE), **KNOWN)
        talk.run()
        reply = talk.messages()[1]
        assert isinstance(reply, ClientMessage)
        assert "secondary_password" not in reply.answers


class BrowserTests:
    """Single sign-on: what the responder brings becomes the token of the reply."""

    @staticmethod
    def talk(step: BrowserLogin, token: str) -> Conversation:
        talk = Conversation(page(LoginStep(step)), page(COMPLETE), token=token)
        talk.run()
        return talk

    def test_an_embedded_browsers_token_is_sent_as_it_is(self) -> None:
        step = BrowserLogin("https://id.example/", "https://vpn.example.com/done")
        second = self.talk(step, "abc").messages()[1]
        assert isinstance(second, ClientMessage)
        assert second.answers == {"sso-token": "abc"}

    def test_nobody_with_a_browser(self) -> None:
        step = BrowserLogin("https://id.example/", "https://vpn.example.com/done")
        with pytest.raises(LoginAborted, match="login in a browser"):
            self.talk(step, "")


class FallbackTests:
    LEGACY = raw(
        b'<auth id="main"><form action="/login"><input type="text" name="username"/>'
        b'<input type="password" name="password"/></form></auth>'
    )

    @pytest.mark.parametrize(
        "sign",
        [
            raw(status=404),
            raw(status=500),
            raw(b""),
            raw(b"<html>portal</html>"),
            raw(b"not XML"),
            raw(status=302, location="/+webvpn+/index.html"),
            raw(b'<!DOCTYPE a [<!ENTITY b "c">]><config-auth>&b;</config-auth>'),
        ],
    )
    def test_every_sign_leads_to_version_1(self, sign: object) -> None:
        done = raw(b'<auth id="success"/>', "webvpn=legacy; path=/")
        talk = Conversation(sign, self.LEGACY, done, **KNOWN)  # type: ignore[arg-type]
        assert talk.run().token == "legacy"
        posted, got, form = talk.session.sent
        assert (posted.method, got.method, form.method) == ("POST", "GET", "POST")
        assert form.body == b"username=alice&password=secret"
        assert form.url == "https://vpn.example.com/login"

    def test_a_denial_is_no_sign(self) -> None:
        with pytest.raises(LoginDenied):
            Conversation(raw(status=401)).run()

    def test_version_2_may_be_insisted_on(self) -> None:
        with pytest.raises(PeerError, match="does not speak version 2"):
            Conversation(raw(status=404), settings=ClientSettings(protocol_version=2)).run()

    def test_version_1_may_be_chosen(self) -> None:
        done = raw(b'<auth id="success"/>', "webvpn=legacy")
        settings = ClientSettings(protocol_version=1)
        talk = Conversation(self.LEGACY, done, settings=settings, **KNOWN)
        talk.run()
        assert talk.session.sent[0].method == "GET"


class RedirectTests:
    def test_another_gateway_gets_the_same_and_no_cookie(self) -> None:
        away = raw(b"", "secret=1", status=302, location="https://other.example/")
        talk = Conversation(away, FORM_PAGE, page(COMPLETE), **KNOWN)
        login = talk.run()
        assert login.url.host == "other.example"
        assert "secret" not in talk.session.cookies
        first, second, *_ = talk.session.sent
        assert first.body == second.body

    def test_a_loop_ends(self) -> None:
        loop = [
            raw(status=302, location=f"https://gateway{number % 2}.example/")
            for number in range(40)
        ]
        with pytest.raises(PeerError, match="more than 10 times"):
            Conversation(*loop).run()

    def test_plain_http_is_refused(self) -> None:
        away = raw(status=302, location="http://vpn.example.com/")
        with pytest.raises(MalformedMessage, match="not https"):
            Conversation(away, away).run()
