"""Tests of anyvpn.backends.responder_command, with real processes."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from anyvpn.backends.responder_command import CommandResponder, Settings, build
from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import (
    PASSWORD_FORM,
    Answer,
    BrowserLogin,
    CertificateRequest,
    Choice,
    Field,
    Form,
    Option,
    Step,
)
from anyvpn.testing.responder_contract import ResponderContract

PASSWORD = Form("", (Field("password", "Password:", secret=True),))
BROWSER = BrowserLogin("https://gateway.test/login", "https://gateway.test/final")


def running(script: str, **settings: Any) -> CommandResponder:
    """A responder whose command is a Python script, which has the question as `asked`."""
    text = f"import json, os, sys, time; asked = json.load(sys.stdin)\n{script}"
    return build(Settings(command=(sys.executable, "-c", text), **settings), cast(Any, reactor))


class ContractTests(TestCase, ResponderContract):
    timeout = 30

    def make_responder(self) -> IResponder:
        return running("print(json.dumps({'username': 'alice', 'password': 'secret'}))")

    def is_right(self, answer: Answer) -> bool:
        return answer == {"username": "alice", "password": "secret"}


class BrowserContractTests(TestCase, ResponderContract):
    timeout = 30
    step = BROWSER

    def make_responder(self) -> IResponder:
        return running("print('the-token')", browser=True)

    def is_right(self, answer: Answer) -> bool:
        return answer == "the-token"


class CommandTests(TestCase):
    timeout = 30

    def ask(self, responder: CommandResponder, step: Step) -> Deferred[Any]:
        return Deferred.fromCoroutine(responder.answer(step))

    async def refused(self, responder: CommandResponder, step: Step = PASSWORD) -> str:
        error = await self.assertFailure(self.ask(responder, step), LoginAborted)
        return str(error)

    async def test_plain_text_answers_the_secret_field(self) -> None:
        answers = await self.ask(running("print('123 456 ')"), PASSWORD_FORM)
        assert answers == {"password": "123 456 "}

    async def test_a_number_is_text(self) -> None:
        assert await self.ask(running("print(123456)"), PASSWORD) == {"password": "123456"}

    async def test_an_object_answers_fields_and_nothing_else(self) -> None:
        responder = running("print(json.dumps({'username': 'alice', 'other': 'x'}))")
        assert await self.ask(responder, PASSWORD_FORM) == {"username": "alice"}

    async def test_a_choice_is_made_by_value_or_label_and_of_the_list_alone(self) -> None:
        form = Form("", (Choice("city", "", (Option("1", "Paris"), Option("2", "Rome"))),))
        for said, value in (("1", "1"), ("rome", "2")):
            assert await self.ask(running(f"print('{said}')"), form) == {"city": value}
            responder = running(f"print(json.dumps({{'city': '{said}'}}))")
            assert await self.ask(responder, form) == {"city": value}
        assert await self.refused(running("print('London')"), form) == (
            f"{sys.executable} chose what is not in the list: London"
        )

    async def test_silence_knows_nothing(self) -> None:
        assert await self.ask(running("pass"), PASSWORD_FORM) == {}

    async def test_the_question_is_whole_and_printable_and_hides_hidden_fields(self) -> None:
        form = Form(
            "Hello\x1b[2J",
            (
                Field("answer", "Code\x07:", secret=True),
                Field("state", hidden=True, value="S"),
                Choice("group_list", "GROUP:", (Option("a", "A", selected=True),)),
            ),
            kind="challenge",
            error="Wrong.",
        )
        answers = await self.ask(running("print({'answer': 0} and json.dumps(asked))"), PASSWORD)
        assert answers == {}
        found = await self.ask(running("print(json.dumps({'answer': json.dumps(asked)}))"), form)
        assert json.loads(found["answer"]) == {
            "kind": "challenge",
            "title": "Login",
            "message": "Hello?[2J",
            "error": "Wrong.",
            "fields": [
                {"name": "answer", "label": "Code?:", "secret": True},
                {
                    "name": "group_list",
                    "label": "GROUP:",
                    "secret": False,
                    "choices": [{"value": "a", "label": "A", "selected": True}],
                },
            ],
        }

    async def test_what_was_answered_is_not_asked_again_in_this_login(self) -> None:
        responder = running("print('wrong')")
        assert await self.ask(responder, PASSWORD) == {"password": "wrong"}
        assert await self.ask(responder, PASSWORD) == {}
        responder.login_begins()
        assert await self.ask(responder, PASSWORD) == {"password": "wrong"}

    async def test_it_is_asked_again_when_it_asks_a_user(self) -> None:
        responder = running("print('wrong')", again=True)
        for _ in range(2):
            assert await self.ask(responder, PASSWORD) == {"password": "wrong"}

    async def test_failure_ends_the_login_with_its_last_words(self) -> None:
        script = "sys.stderr.write('first\\nno\\x1b entry\\n\\n'); sys.exit(3)"
        why = await self.refused(running(script))
        assert why.endswith("failed with status 3: no? entry"), why

    async def test_one_text_for_two_questions_is_no_answer(self) -> None:
        form = Form("", (Field("pin", secret=True), Field("code", secret=True)))
        assert "several questions" in await self.refused(running("print('hidden')"), form)

    async def test_no_answer_gets_into_an_error(self) -> None:
        for script in (
            "print(json.dumps({'password': ['hidden']}))",
            "sys.stdout.buffer.write(b'hidden\\xff')",
            "print('hidden'); sys.exit(1)",
        ):
            assert "hidden" not in await self.refused(running(script))

    async def test_a_flood_ends_it(self) -> None:
        script = "print('x' * 200000, flush=True); time.sleep(60)"
        assert "printed too much" in await self.refused(running(script))

    async def test_a_deep_object_is_plain_text(self) -> None:
        found = await self.ask(running("print('[' * 60000)"), PASSWORD)
        assert found == {"password": "[" * 60000}

    async def test_time_is_limited_even_when_a_grandchild_stays(self) -> None:
        begun_at_s = time.monotonic()
        script = "os.fork(); time.sleep(6)"
        assert "took too long" in await self.refused(running(script, time_s=0.5))
        assert time.monotonic() - begun_at_s < 4

    async def test_a_missing_program_is_named(self) -> None:
        responder = build(Settings(command=("no-such-program-here",)), cast(Any, reactor))
        assert "no-such-program-here" in await self.refused(responder)

    async def test_cancelling_kills_the_command(self) -> None:
        file = Path(tempfile.mkdtemp()) / "marker"
        self.addCleanup(shutil.rmtree, file.parent)
        script = f"time.sleep(1); open({str(file)!r}, 'w')"
        waiting = self.ask(running(script), PASSWORD)
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        pause: Deferred[None] = Deferred()
        reactor.callLater(1.5, pause.callback, None)
        await pause
        assert not file.exists()

    async def test_browser_logins_are_for_commands_that_say_so(self) -> None:
        assert running("").capabilities == frozenset()
        assert await self.ask(running("print('T')"), BROWSER) == ""
        responder = running("print(json.dumps({'token': asked['login_url'][-5:]}))", browser=True)
        assert responder.capabilities == {"single-sign-on-v2"}
        assert await self.ask(responder, BROWSER) == "login"

    async def test_an_address_that_is_none_reaches_no_command(self) -> None:
        step = BrowserLogin("file:///etc/passwd", "https://gateway.test/final")
        why = await self.refused(running("print('T')", browser=True), step)
        assert "not safe" in why

    async def test_it_knows_nothing_of_certificates(self) -> None:
        assert await self.ask(running("print('T')"), CertificateRequest()) == {}

    def test_a_command_is_needed(self) -> None:
        for wrong in ({"command": ()}, {"command": ("",)}, {"command": ("a",), "time_s": 0}):
            with pytest.raises(ValueError):
                Settings(**wrong)
