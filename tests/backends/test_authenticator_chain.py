"""Tests of anyvpn.backends.authenticator_chain."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from anyvpn.backends.authenticator_chain import Chain, Settings, build
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Answer, Field, Form, Identity
from anyvpn.model.credentials import Credentials, password_form, read_credentials
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.hostile_credentials import HostileCredentials

CODE = Form("Code?", (Field("answer", secret=True),))


@implementer(IAuthenticator)
class Passwords:
    """Knows one password of anybody."""

    def __init__(self, password: str = "secret") -> None:
        self.password = password

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        answer = await dialogue.ask(password_form(dialogue.identity))
        said = read_credentials(answer, dialogue.identity)
        if said != Credentials("alice", self.password):
            raise LoginRejected("wrong password")
        return Identity(said.username, frozenset(("staff",)), {"a": ("1",), "b": ("1",)})


@implementer(IAuthenticator)
class Codes:
    """Asks whoever is known for the code, and finds `user` when nobody is."""

    def __init__(self, user: str = "alice") -> None:
        self.user = user

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        answer = await dialogue.ask(CODE)
        assert isinstance(answer, dict)
        if answer.get("answer") != "123456":
            raise LoginRejected("wrong code")
        known = dialogue.identity
        return Identity(known.user if known else self.user, frozenset(("2fa",)), {"b": ("2",)})


@implementer(IAuthenticator)
class Found:
    def __init__(self, found: object) -> None:
        self.found = found

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        return self.found  # type: ignore[return-value]  # rubbish, on purpose


PASSWORD = {"username": "alice", "password": "secret"}
RIGHT_CODE = {"answer": "123456"}


class ContractTests(HostileCredentials, AuthenticatorContract, TestCase):
    groups = frozenset(("staff", "2fa"))

    def make_authenticator(self) -> IAuthenticator:
        return Chain((Passwords(), Codes()))

    def right_answers(self) -> tuple[Answer, ...]:
        return (PASSWORD, RIGHT_CODE)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return (PASSWORD, {"answer": "wrong-one"})


class ChainTests(TestCase):
    async def test_attributes_are_joined_and_the_later_ones_count(self) -> None:
        dialogue = ScriptedDialogue(answers=(PASSWORD, RIGHT_CODE))
        identity = await Chain((Passwords(), Codes())).authenticate(dialogue)
        assert identity.attributes == {"a": ("1",), "b": ("2",)}

    async def test_the_second_is_told_who_it_is(self) -> None:
        dialogue = ScriptedDialogue(answers=(RIGHT_CODE, {"password": "secret"}))
        identity = await Chain((Codes(), Passwords())).authenticate(dialogue)
        assert identity.user == "alice"
        assert dialogue.asked == [CODE, password_form(Identity("alice"))]

    async def test_another_user_is_refused(self) -> None:
        chain = Chain((Found(Identity("alice")), Found(Identity("bob"))))
        error = await error_of(chain.authenticate(ScriptedDialogue()), LoginRejected)
        assert str(error) == "alice was found first, and then bob"

    async def test_a_user_is_the_same_in_each_spelling_and_the_later_one_counts(self) -> None:
        """A certificate may say "Alice" where the directory says "alice"."""
        chain = Chain((Found(Identity("Alice")), Found(Identity("alice"))))
        assert (await chain.authenticate(ScriptedDialogue())).user == "alice"

    async def test_after_a_refusal_nobody_else_is_asked(self) -> None:
        dialogue = ScriptedDialogue(answers=({**PASSWORD, "password": "no"}, RIGHT_CODE))
        await error_of(Chain((Passwords(), Codes())).authenticate(dialogue), LoginRejected)
        assert len(dialogue.asked) == 1

    async def test_rubbish_is_named(self) -> None:
        chain = Chain((Found(None), Passwords()))
        error = await error_of(chain.authenticate(ScriptedDialogue()), BackendFailed)
        assert str(error) == "Found gave NoneType"

    async def test_chains_of_chains_know_the_user(self) -> None:
        dialogue = ScriptedDialogue(answers=(RIGHT_CODE, {"password": "secret"}, RIGHT_CODE))
        chain = Chain((Codes(), Chain((Passwords(), Codes("bob")))))
        assert (await chain.authenticate(dialogue)).user == "alice"

    def test_one_is_no_chain(self) -> None:
        with pytest.raises(ValueError, match="of must name at least two"):
            Settings((Passwords(),))
        assert isinstance(build(Settings((Passwords(), Codes())), None), Chain)
