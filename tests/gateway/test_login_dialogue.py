"""The dialogue: what a step asks, what answers it, and posts that come twice."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred

from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import (
    BrowserLogin,
    CertificateRequest,
    Form,
    Identity,
    SignatureRequest,
    SignedCertificates,
)
from anyvpn.model.events import EventKind
from tests.gateway.backends_in_memory import (
    CODE_FORM,
    RIGHT_CODE,
    RIGHT_PASSWORD,
    ask_password,
    ask_password_and_code,
)
from tests.gateway.login_desk import LoginDeskCase

CREDENTIALS = {"username": "alice", "password": RIGHT_PASSWORD}


class TwoStepTests(LoginDeskCase):
    def setUp(self) -> None:
        super().setUp()
        self.open_desk(script=ask_password_and_code)

    def test_each_step_is_asked_after_the_other(self) -> None:
        self.client.init()
        reply = self.client.reply(**CREDENTIALS)
        self.assertEqual((reply.form.kind, reply.form.fields), ("challenge", CODE_FORM.fields))
        self.assertTrue(self.client.reply(answer=RIGHT_CODE).complete.session_token)
        (event,) = self.listener.of(EventKind.LOGIN_SUCCEEDED)
        self.assertEqual((event.user, event.peer, event.profile), ("alice", "192.0.2.1", "Staff"))

    def test_a_code_may_come_as_password(self) -> None:
        for name in ("password", "secondary_password"):
            client = self.other_client()
            client.init()
            client.reply(**CREDENTIALS)
            self.assertTrue(client.reply(**{name: RIGHT_CODE}).complete.session_token, name)

    def test_only_the_first_step_offers_groups(self) -> None:
        self.client.init()
        reply = self.client.reply(**CREDENTIALS)
        self.assertEqual(reply.groups, [])

    def test_the_opaque_alone_leads_to_the_login(self) -> None:
        self.client.keeps_cookies = False
        self.client.init()
        self.client.reply(**CREDENTIALS)
        self.assertTrue(self.client.reply(answer=RIGHT_CODE).complete.session_token)

    def test_the_cookie_alone_leads_to_the_login(self) -> None:
        self.client.keeps_opaque = False
        self.client.init()
        self.client.reply(**CREDENTIALS)
        self.assertTrue(self.client.reply(answer=RIGHT_CODE).complete.session_token)

    def test_a_client_may_come_from_another_address_meanwhile(self) -> None:
        self.client.init()
        self.client.base = replace(self.client.base, peer="198.51.100.9")
        self.client.reply(**CREDENTIALS)
        self.assertTrue(self.client.reply(answer=RIGHT_CODE).complete.session_token)

    def test_a_wrong_code_begins_with_the_first_step_and_an_error(self) -> None:
        self.client.init()
        self.client.reply(**CREDENTIALS)
        reply = self.client.reply(answer="000000")
        self.assertEqual(reply.form.kind, "main")
        self.assertEqual(reply.form.error, "Login failed.")
        self.assertEqual(self.client.reply(**CREDENTIALS).form.error, "")
        self.assertEqual(self.failures(), ["wrong code"])

    # --- posts that come twice ------------------------------------------------------------------

    def test_a_repeated_post_is_answered_alike_and_taken_once(self) -> None:
        self.client.init()
        message = self.client.reply_message({"username": "alice", "password": "wrong"})
        cookie = self.client.base.login_cookie
        first = self.client.post(message)
        self.client.base = replace(self.client.base, login_cookie=cookie)
        second = self.client.post(message)
        self.assertEqual(second.answer.document, first.answer.document)
        self.assertEqual(second.answer.cookies, first.answer.cookies)
        self.assertEqual(self.failures(), ["wrong password"])

    def test_an_answer_to_an_older_step_gets_the_step_that_is_outstanding(self) -> None:
        self.client.init()
        message = self.client.reply_message(CREDENTIALS)
        self.client.post(message)
        self.client.base = replace(self.client.base, login_cookie="")
        self.assertEqual(self.client.post(message).form.kind, "challenge")
        self.assertTrue(self.client.reply(answer=RIGHT_CODE).complete.session_token)

    def test_a_login_that_is_over_gives_the_same_token_again_for_a_while(self) -> None:
        self.client.init()
        self.client.reply(**CREDENTIALS)
        message = self.client.reply_message({"answer": RIGHT_CODE})
        cookie = self.client.base.login_cookie
        first = self.client.post(message)
        self.clock.advance(29)
        self.client.base = replace(self.client.base, login_cookie=cookie)
        second = self.client.post(message)
        self.assertEqual(second.token, first.token)
        self.assertEqual(len(self.registry), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.desk), 0)
        self.assertIsInstance(self.client.post(message).step, Form)

    def test_a_post_that_comes_while_the_authenticator_is_at_work_waits_too(self) -> None:
        working: Deferred[None] = Deferred()

        async def slow(dialogue: IDialogue) -> Identity:
            identity = await ask_password(dialogue)
            await working
            return identity

        self.open_desk(script=slow)
        self.client.init()
        message = self.client.reply_message(CREDENTIALS)
        first, second = self.client.start(message), self.client.start(message)
        self.assertNoResult(first)
        self.assertNoResult(second)
        working.callback(None)
        tokens = {self.client.take(self.successResultOf(each)).token for each in (first, second)}
        self.assertEqual(len(tokens), 1)

    def test_a_client_that_goes_away_finds_the_next_step_when_it_comes_back(self) -> None:
        working: Deferred[None] = Deferred()

        async def slow(dialogue: IDialogue) -> Identity:
            await ask_password(dialogue)
            await working
            await dialogue.ask(CODE_FORM)
            return Identity("alice")

        self.open_desk(script=slow)
        self.client.init()
        message = self.client.reply_message(CREDENTIALS)
        gone = self.client.start(message)
        gone.addErrback(lambda _: None)
        gone.cancel()
        working.callback(None)
        self.assertEqual(self.client.post(message).form.kind, "challenge")

    # --- handles that are not ours --------------------------------------------------------------

    def test_a_forged_handle_begins_a_login_of_its_own(self) -> None:
        victim = self.other_client("198.51.100.1")
        handle = victim.init().opaque.handle
        for forged in (
            "0" * 32 + ".1",
            handle[:31] + ("0" if handle[31] != "0" else "1") + ".1",
            ".1",
            "",
            "\u0663" * 32 + ".\u0663",
            "a" * 100_000,
        ):
            client = self.other_client()
            client.base = replace(client.base, login_cookie=forged)
            reply = client.reply(**CREDENTIALS)
            self.assertNotEqual(reply.opaque.handle.partition(".")[0], handle.partition(".")[0])
        self.assertEqual(victim.reply(**CREDENTIALS).form.kind, "challenge")

    def test_a_number_that_makes_no_sense_answers_nothing(self) -> None:
        handle = self.client.init().opaque.handle.partition(".")[0]
        self.client.keeps_opaque = False
        for number in ("", ".", ".0", ".2", ".-1", ".99999999999999999999", ".x", ".\u00b2"):
            self.client.base = replace(self.client.base, login_cookie=handle + number)
            self.assertEqual(self.client.reply(**CREDENTIALS).form.kind, "main", number)
        self.assertTrue(self.client.reply(**CREDENTIALS).form.kind, "challenge")


class CertificateStepTests(LoginDeskCase):
    def setUp(self) -> None:
        super().setUp()
        self.answers: list[tuple[bytes, ...]] = []
        self.open_desk(script=self.ask_certificate)

    async def ask_certificate(self, dialogue: IDialogue) -> Identity:
        """A certificate, then a password."""
        self.answers.append(await dialogue.ask(CertificateRequest()))
        if not self.answers[-1]:
            return await ask_password(dialogue)
        return Identity("by certificate")

    def test_init_again_brings_the_certificate(self) -> None:
        self.assertIsInstance(self.client.init().step, CertificateRequest)
        self.client.base = replace(self.client.base, certificates=(b"leaf", b"issuer"))
        self.assertTrue(self.client.init().complete.session_token)
        self.assertEqual(self.answers, [(b"leaf", b"issuer")])
        self.assertEqual(len(self.listener.of(EventKind.LOGIN_STARTED)), 1)

    def test_a_client_that_has_none_says_so(self) -> None:
        self.client.init()
        message = replace(self.client.init_message(), certificate_refused=True)
        self.client.base = replace(self.client.base, certificates=(b"another",))
        self.assertIsInstance(self.client.post(message).step, Form)
        self.assertEqual(self.answers, [()])

    def test_a_connection_without_a_certificate_answers_that_there_is_none(self) -> None:
        self.client.init()
        self.assertIsInstance(self.client.init().step, Form)
        self.assertEqual(self.answers, [()])

    def test_a_certificate_that_is_not_accepted_is_noted(self) -> None:
        self.client.base = replace(self.client.base, certificate_problem="expired: CN=alice")
        self.client.init()
        (event,) = self.listener.of(EventKind.LOGIN_STARTED)
        self.assertIn("expired: CN=alice", event.detail)

    def test_a_certificate_that_is_there_at_once_is_in_the_request(self) -> None:
        async def look(dialogue: IDialogue) -> Identity:
            return Identity(dialogue.request.certificates[0].decode())

        self.open_desk(script=look)
        self.client.base = replace(self.client.base, certificates=(b"leaf",))
        self.assertTrue(self.client.init().complete.session_token)
        self.assertEqual(self.listener.of(EventKind.LOGIN_SUCCEEDED)[0].user, "leaf")


class SignatureStepTests(LoginDeskCase):
    def setUp(self) -> None:
        super().setUp()
        self.answers: list[SignedCertificates] = []
        self.open_desk(script=self.ask_signature)

    async def ask_signature(self, dialogue: IDialogue) -> Identity:
        """A signature, as with multiple certificates."""
        self.answers.append(await dialogue.ask(SignatureRequest(nonce="ABCD")))
        return Identity("alice")

    def test_the_authenticator_gets_the_exact_document_that_was_signed(self) -> None:
        reply = self.client.init()
        self.assertEqual(reply.step, SignatureRequest(nonce="ABCD"))
        signed = SignedCertificates(b"chain", b"signature", "sha256")
        message = replace(self.client.reply_message({}), certificates=signed)
        self.assertTrue(self.client.post(message).complete.session_token)
        (answer,) = self.answers
        self.assertEqual(answer.signed_document, reply.answer.document)
        self.assertEqual((answer.chain_pkcs7, answer.signature), (b"chain", b"signature"))

    def test_a_reply_without_a_signature_is_a_failure(self) -> None:
        self.client.init()
        self.assertIsInstance(self.client.reply(username="alice").step, SignatureRequest)
        self.assertEqual(self.failures(), ["the client sent no certificates and no signature"])


class BrowserStepTests(LoginDeskCase):
    STEP = BrowserLogin("https://idp.example.com/login", "https://vpn.example.com/done")

    def setUp(self) -> None:
        super().setUp()
        self.open_desk(script=self.ask_browser)

    async def ask_browser(self, dialogue: IDialogue) -> Identity:
        """A login in the browser."""
        return Identity(await dialogue.ask(self.STEP))

    def test_the_token_comes_back(self) -> None:
        reply = self.client.init()
        self.assertEqual(reply.step, self.STEP)
        message = self.client.reply_message({"sso-token": "alice"})
        self.assertTrue(self.client.post(message).complete.session_token)
        self.assertEqual(self.listener.of(EventKind.LOGIN_SUCCEEDED)[0].user, "alice")

    def test_a_reply_without_a_token_is_a_failure(self) -> None:
        self.client.init()
        reply = self.client.post(self.client.reply_message({"sso-token": ""}))
        self.assertEqual(reply.step, replace(self.STEP, error="Login failed."))
        self.assertEqual(self.failures(), ["the browser's login brought no token"])
