from __future__ import annotations

import unittest

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import PASSWORD_FORM, CertificateRequest
from anyvpn.testing.dialogue import A_REQUEST, ScriptedDialogue
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
