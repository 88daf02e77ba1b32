"""Tests of anyvpn.backends.authenticator_any."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from anyvpn.backends.authenticator_any import FirstOf, Settings, build
from anyvpn.errors import BackendFailed, LoginAborted, LoginRejected, LoginUndecided
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import PASSWORD_FORM, Answer, CertificateRequest, Identity
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.hostile_credentials import HostileCredentials
from tests.backends.test_authenticator_chain import PASSWORD, Passwords


@implementer(IAuthenticator)
class Broken:
    async def authenticate(self, dialogue: IDialogue) -> Identity:
        raise BackendFailed("the directory is down")


@implementer(IAuthenticator)
class Certificates:
    async def authenticate(self, dialogue: IDialogue) -> Identity:
        if not await dialogue.ask(CertificateRequest()):
            raise LoginRejected("no certificate")
        return Identity("carol")


@implementer(IAuthenticator)
class Twice:
    """Asks the same form once more when it was answered wrongly."""

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        form = replace(PASSWORD_FORM, message="again")
        for _ in range(2):
            answer = await dialogue.ask(form)
            if isinstance(answer, dict) and answer["password"] == "second":
                return Identity("dora")
        raise LoginRejected("twice wrong")


class ContractTests(HostileCredentials, AuthenticatorContract, TestCase):
    groups = frozenset(("staff",))

    def make_authenticator(self) -> IAuthenticator:
        return FirstOf((Passwords("another"), Passwords()))

    def right_answers(self) -> tuple[Answer, ...]:
        return (PASSWORD,)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({**PASSWORD, "password": "wrong-one"},)


class FirstOfTests(TestCase):
    async def test_the_same_form_is_shown_once(self) -> None:
        dialogue = ScriptedDialogue(answers=(PASSWORD,))
        await FirstOf((Passwords("a"), Passwords("b"), Passwords())).authenticate(dialogue)
        assert len(dialogue.asked) == 1

    async def test_one_that_asks_again_is_answered_again(self) -> None:
        first, second = ({**PASSWORD, "password": each} for each in ("first", "second"))
        dialogue = ScriptedDialogue(answers=(first, second))
        assert (await FirstOf((Twice(), Broken())).authenticate(dialogue)).user == "dora"

    async def test_the_first_that_accepts_says_who_it_is(self) -> None:
        both = FirstOf((Certificates(), Passwords()))
        shown = ScriptedDialogue(answers=((b"certificate",),))
        assert (await both.authenticate(shown)).user == "carol"
        none = ScriptedDialogue(answers=((), PASSWORD))
        assert (await both.authenticate(none)).user == "alice"

    async def test_a_refusal_has_every_reason(self) -> None:
        dialogue = ScriptedDialogue(answers=((), {**PASSWORD, "password": "no"}))
        error = await error_of(
            FirstOf((Certificates(), Passwords())).authenticate(dialogue), LoginRejected
        )
        assert str(error) == "no certificate; wrong password"

    async def test_one_that_fails_is_passed_over(self) -> None:
        dialogue = ScriptedDialogue(answers=(PASSWORD,))
        assert (await FirstOf((Broken(), Passwords())).authenticate(dialogue)).user == "alice"

    async def test_a_refusal_beside_a_failure_is_a_failure(self) -> None:
        """Whoever is right must not be told as if they were wrong; but it may be a guess."""
        for of in ((Broken(), Passwords("a")), (Passwords("a"), Broken())):
            dialogue = ScriptedDialogue(answers=(PASSWORD,))
            error = await error_of(FirstOf(of).authenticate(dialogue), LoginUndecided)
            assert str(error) == "the directory is down; wrong password"

    async def test_a_refusal_of_nothing_that_was_typed_is_no_guess(self) -> None:
        for of in ((Certificates(), Broken()), (Broken(), Certificates())):
            dialogue = ScriptedDialogue(answers=((),))
            error = await error_of(FirstOf(of).authenticate(dialogue), BackendFailed)
            assert not isinstance(error, LoginUndecided)

    async def test_a_client_that_goes_away_is_not_asked_by_the_next(self) -> None:
        dialogue = ScriptedDialogue()
        await error_of(FirstOf((Passwords(), Certificates())).authenticate(dialogue), LoginAborted)
        assert len(dialogue.asked) == 1

    async def test_the_known_user_is_handed_on(self) -> None:
        dialogue = ScriptedDialogue(answers=({"password": "secret"},), identity=Identity("alice"))
        assert (await FirstOf((Passwords("a"), Passwords())).authenticate(dialogue)).user == "alice"

    def test_one_is_no_choice(self) -> None:
        with pytest.raises(ValueError, match="of must name at least two"):
            Settings((Passwords(),))
        assert isinstance(build(Settings((Passwords(), Broken())), None), FirstOf)
