from __future__ import annotations

import unittest

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import (
    PASSWORD_FORM,
    Answer,
    BrowserVisit,
    CertificateRequest,
    Identity,
    Question,
)
from anyvpn.model.browser_pages import HTMLPage, LoggedIn, Page, PageRequest
from anyvpn.testing.dialogue import A_REQUEST, ScriptedDialogue, visit
from anyvpn.testing.outcomes import completed, error_of


class ScriptedDialogueTests(unittest.TestCase):
    def test_interface_is_provided(self) -> None:
        verifyObject(IDialogue, ScriptedDialogue())

    def test_answers_come_in_order_and_steps_are_kept(self) -> None:
        dialogue = ScriptedDialogue(A_REQUEST, [{"username": "alice"}, (b"certificate",)])
        assert completed(dialogue.ask(PASSWORD_FORM)) == {"username": "alice"}
        assert completed(dialogue.ask(CertificateRequest())) == (b"certificate",)
        assert dialogue.asked == [PASSWORD_FORM, CertificateRequest()]

    def test_script_that_ends_is_a_client_that_went_away(self) -> None:
        with pytest.raises(LoginAborted):
            completed(ScriptedDialogue().ask(PASSWORD_FORM))

    def test_exceptions_are_raised(self) -> None:
        with pytest.raises(ZeroDivisionError):
            completed(ScriptedDialogue(answers=[ZeroDivisionError()]).ask(PASSWORD_FORM))

    def test_a_browser_goes_through_the_pages(self) -> None:
        async def serve(request: PageRequest) -> Page:
            if request.path == "/sso/login":
                return HTMLPage("Who are you?")
            return LoggedIn(Identity(request.form["user"]))

        async def browser(step: Question) -> Answer:
            return await visit(
                step,
                PageRequest("GET", "/sso/login", "17"),
                PageRequest("POST", "/sso/me", "17", form={"user": "alice"}),
            )

        dialogue = ScriptedDialogue(answers=[browser])
        assert completed(dialogue.ask(BrowserVisit(serve))) == Identity("alice")

    def test_a_browser_that_stays_away_is_a_client_that_went_away(self) -> None:
        async def serve(request: PageRequest) -> Page:
            return HTMLPage("Who are you?")

        with pytest.raises(LoginAborted):
            completed(visit(BrowserVisit(serve), PageRequest("GET", "/sso/login", "17")))


class OutcomesTests(unittest.TestCase):
    def test_waiting_is_not_completed(self) -> None:
        async def wait() -> None:
            await Deferred()

        with pytest.raises(AssertionError):
            completed(wait())

    def test_missing_error_is_noticed(self) -> None:
        async def nothing() -> int:
            return 7

        with pytest.raises(AssertionError, match="7 instead of LoginAborted"):
            completed(error_of(nothing(), LoginAborted))

    def test_other_error_passes_through(self) -> None:
        async def fail() -> None:
            raise KeyError

        with pytest.raises(KeyError):
            completed(error_of(fail(), LoginAborted))
