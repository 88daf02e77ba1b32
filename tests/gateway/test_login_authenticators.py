"""Authenticators that do what they should not, and what their clients get."""

from __future__ import annotations

import asyncio

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent

from anyvpn.errors import BackendFailed, LoginAborted, LoginRejected
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import PASSWORD_FORM, Identity
from anyvpn.model.events import EventKind
from tests.gateway.backends_in_memory import RIGHT_PASSWORD, ask_password
from tests.gateway.login_desk import LoginDeskCase

UNAVAILABLE = "The login service is not available. Please try again later."
TOO_LATE = "The login took too long. Please try again."


class FailingAuthenticatorTests(LoginDeskCase):
    def failing(self, error: BaseException) -> None:
        """Open a desk whose authenticator raises this after its first question."""

        async def fail(dialogue: IDialogue) -> Identity:
            await dialogue.ask(PASSWORD_FORM)
            raise error

        self.open_desk(script=fail)
        self.client = self.other_client()
        self.client.init()

    def test_a_backend_that_failed_is_said_without_detail(self) -> None:
        self.failing(BackendFailed("ldap.example.com refuses"))
        reply = self.client.reply(username="alice", password="secret")
        self.assertEqual((reply.status, reply.refusal), (200, UNAVAILABLE))
        self.assertNotIn(b"ldap", reply.answer.document)
        self.assertEqual(self.failures(), [])

    def test_anything_else_is_a_fault_that_is_logged(self) -> None:
        for error in (ZeroDivisionError(), KeyError("password"), RecursionError(), StopIteration()):
            with self.subTest(error=error):
                self.failing(error)
                reply = self.client.reply(username="alice", password="secret")
                self.assertEqual(reply.refusal, UNAVAILABLE)
                self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(self.failures(), [])

    def test_a_cancellation_of_its_own_ends_the_login(self) -> None:
        for error in (CancelledError(), LoginAborted("the client is gone")):
            self.failing(error)
            self.assertEqual(self.client.reply(username="a", password="b").refusal, TOO_LATE)

    def test_a_cancellation_of_another_framework_ends_the_login(self) -> None:
        self.failing(asyncio.CancelledError())
        self.assertEqual(self.client.reply(username="a", password="b").refusal, UNAVAILABLE)
        self.assertEqual(len(self.flushLoggedErrors(asyncio.CancelledError)), 1)

    def test_a_verdict_without_a_question_is_final(self) -> None:
        async def reject(dialogue: IDialogue) -> Identity:
            raise LoginRejected("no certificate")

        self.open_desk(script=reject)
        self.assertEqual(self.client.init().status, 401)
        self.assertEqual(self.failures(), ["no certificate"])

    def test_rubbish_instead_of_an_identity_is_a_fault(self) -> None:
        for rubbish in (None, "alice", object(), {"user": "alice"}):

            async def give(dialogue: IDialogue, rubbish: object = rubbish) -> Identity:
                return rubbish  # type: ignore[return-value]

            self.open_desk(script=give)
            with capturedLogs() as logged:
                self.assertEqual(self.other_client().init().refusal, UNAVAILABLE)
            said = " ".join(str(formatEvent(each)) for each in logged)
            self.assertIn(f" gave {type(rubbish).__name__}", said)
        self.assertEqual(len(self.registry), 0)

    def test_rubbish_instead_of_a_step_is_a_fault(self) -> None:
        async def ask(dialogue: IDialogue) -> Identity:
            return Identity(await dialogue.ask("your name?"))

        self.open_desk(script=ask)
        self.assertEqual(self.client.init().refusal, UNAVAILABLE)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_two_questions_at_once_are_a_fault(self) -> None:
        async def ask_twice(dialogue: IDialogue) -> Identity:
            Deferred.fromCoroutine(dialogue.ask(PASSWORD_FORM)).addErrback(lambda _: None)
            await dialogue.ask(PASSWORD_FORM)
            return Identity("alice")

        self.open_desk(script=ask_twice)
        self.client.init()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_one_login_that_fails_harms_no_other(self) -> None:
        fails = [True]

        async def fail_once(dialogue: IDialogue) -> Identity:
            identity = await ask_password(dialogue)
            if fails.pop():
                fails.append(False)
                raise ZeroDivisionError
            fails.append(False)
            return identity

        self.open_desk(script=fail_once)
        other = self.other_client()
        self.client.init()
        other.init()
        self.client.reply(username="alice", password=RIGHT_PASSWORD)
        self.assertTrue(other.reply(username="bob", password=RIGHT_PASSWORD).token)
        self.flushLoggedErrors()


class TimeLimitTests(LoginDeskCase):
    def setUp(self) -> None:
        super().setUp()
        self.heard: list[str] = []
        self.never: Deferred[None] = Deferred()
        self.late: Deferred[None] = Deferred()

    def test_a_client_that_never_answers_is_given_up(self) -> None:
        async def listen(dialogue: IDialogue) -> Identity:
            try:
                return await ask_password(dialogue)
            except LoginAborted:
                self.heard.append("aborted")
                raise

        self.open_desk(script=listen)
        self.client.init()
        self.clock.advance(239)
        self.assertEqual(self.heard, [])
        self.clock.advance(1)
        self.assertEqual(self.heard, ["aborted"])
        reply = self.client.reply(username="alice", password=RIGHT_PASSWORD)
        self.assertEqual((reply.status, reply.refusal), (200, TOO_LATE))
        self.assertEqual(self.failures(), [])

    def test_the_limit_is_of_the_whole_login(self) -> None:
        self.client.init()
        self.clock.advance(200)
        self.client.reply(username="alice", password="wrong")
        self.clock.advance(40)
        self.assertTrue(self.client.reply(username="alice", password=RIGHT_PASSWORD).refusal)

    def test_an_authenticator_that_never_answers_is_cancelled(self) -> None:
        async def wait(dialogue: IDialogue) -> Identity:
            try:
                await self.never
            except CancelledError:
                self.heard.append("cancelled")
                raise
            return Identity("alice")

        self.open_desk(script=wait)
        answer = self.client.start(self.client.init_message())
        self.assertNoResult(answer)
        self.clock.advance(240)
        self.assertEqual(self.client.take(self.successResultOf(answer)).refusal, TOO_LATE)
        self.assertEqual(self.heard, ["cancelled"])

    def test_a_verdict_after_the_end_lets_nobody_in(self) -> None:
        async def swallow(dialogue: IDialogue) -> Identity:
            try:
                await self.never
            except CancelledError:
                self.heard.append("swallowed")
            await self.late
            return Identity("alice")

        self.open_desk(script=swallow)
        answer = self.client.start(self.client.init_message())
        self.clock.advance(240)
        self.assertTrue(self.client.take(self.successResultOf(answer)).refusal)
        self.late.callback(None)
        self.assertEqual(self.heard, ["swallowed"])
        self.assertEqual(self.listener.of(EventKind.LOGIN_SUCCEEDED), [])
        self.assertEqual(len(self.registry), 0)

    def test_a_rejection_after_the_end_is_no_failed_try(self) -> None:
        async def swallow(dialogue: IDialogue) -> Identity:
            try:
                await self.never
            except CancelledError:
                raise LoginRejected("too late") from None
            return Identity("alice")

        self.open_desk(script=swallow)
        self.client.start(self.client.init_message())
        self.clock.advance(240)
        self.assertEqual(self.failures(), [])

    def test_a_question_after_the_end_is_aborted(self) -> None:
        async def ask_on(dialogue: IDialogue) -> Identity:
            for _ in range(3):
                try:
                    await dialogue.ask(PASSWORD_FORM)
                except LoginAborted:
                    self.heard.append("aborted")
            return Identity("alice")

        self.open_desk(script=ask_on)
        self.client.init()
        self.clock.advance(240)
        self.assertEqual(self.heard, ["aborted"] * 3)
        self.assertEqual(len(self.registry), 0)

    def test_a_desk_that_stops_ends_every_login(self) -> None:
        async def wait(dialogue: IDialogue) -> Identity:
            await dialogue.ask(PASSWORD_FORM)
            await self.never
            return Identity("alice")

        self.open_desk(script=wait)
        self.other_client().init()
        self.client.init()
        waiting = self.client.start(self.client.reply_message({"username": "a"}))
        self.desk.stop()
        self.assertTrue(self.client.take(self.successResultOf(waiting)).refusal)
        self.assertEqual(self.clock.getDelayedCalls(), [])
