"""Tests of anyvpn.backends.authenticator_cred, with Twisted's own checkers and strange ones."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.cred.checkers import ANONYMOUS, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from anyvpn.backends.authenticator_cred import CredAuthenticator, Settings, build
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator
from anyvpn.model.authentication import Answer
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.hostile_credentials import HostileCredentials

RIGHT = {"username": "älice", "password": "p:w ü"}


class ContractTests(HostileCredentials, AuthenticatorContract, TestCase):
    user = "älice"

    def make_authenticator(self) -> IAuthenticator:
        checker = InMemoryUsernamePasswordDatabaseDontUse()
        checker.addUser("älice".encode(), "p:w ü".encode())
        return CredAuthenticator(checker, 5.0, Clock())

    def right_answers(self) -> tuple[Answer, ...]:
        return (RIGHT,)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({**RIGHT, "password": "wrong-one"},)


class Checker:
    """Answers what a test wants."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(credentials)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def error_with(answer: Any, kind: type[Exception]) -> str:
    authenticator = CredAuthenticator(Checker(answer), 5.0, Clock())
    return str(await error_of(authenticator.authenticate(ScriptedDialogue(answers=(RIGHT,))), kind))


class CheckerTests(TestCase):
    async def test_names_may_be_text(self) -> None:
        authenticator = CredAuthenticator(Checker("alice"), 5.0, Clock())
        identity = await authenticator.authenticate(ScriptedDialogue(answers=(RIGHT,)))
        assert identity.user == "alice"

    async def test_credentials_are_utf8(self) -> None:
        checker = Checker(b"alice")
        await CredAuthenticator(checker, 5.0, Clock()).authenticate(
            ScriptedDialogue(answers=(RIGHT,))
        )
        [asked] = checker.asked
        assert (asked.username, asked.password) == ("älice".encode(), "p:w ü".encode())

    async def test_nobody_in_particular_is_nobody(self) -> None:
        for answer in (ANONYMOUS, b"", "", None, 7):
            assert await error_with(answer, LoginRejected) == "the checker gave no name"
        assert "not UTF-8" in await error_with(b"\xff", BackendFailed)

    async def test_refusals_of_each_kind(self) -> None:
        for answer in (UnauthorizedLogin("p:w ü"), fail(UnauthorizedLogin("p:w ü"))):
            assert "p:w" not in await error_with(answer, LoginRejected)

    async def test_one_that_breaks_fails_and_keeps_the_password(self) -> None:
        for answer in (RuntimeError("p:w ü"), fail(KeyError("p:w ü"))):
            said = await error_with(answer, BackendFailed)
            assert said.startswith("the checker broke: ")
            assert "p:w" not in said

    def test_a_login_that_is_given_up_is_no_failure_of_the_checker(self) -> None:
        made = CredAuthenticator(cast(Any, Checker(Deferred())), 5.0, Clock())
        login = Deferred.fromCoroutine(made.authenticate(ScriptedDialogue(answers=(RIGHT,))))
        login.cancel()
        self.failureResultOf(login, CancelledError)

    def test_one_that_never_answers_is_left(self) -> None:
        clock = Clock()
        authenticator = CredAuthenticator(Checker(Deferred()), 5.0, clock)
        dialogue = ScriptedDialogue(answers=(RIGHT,))
        login = Deferred.fromCoroutine(authenticator.authenticate(dialogue))
        clock.advance(5)
        self.failureResultOf(login, BackendFailed)
        assert clock.getDelayedCalls() == []


class SettingsTests:
    @pytest.mark.parametrize(
        ("checker", "why"),
        [
            ("nonsense:a", "checker: there is no checker 'nonsense'; there are .*file"),
            ("anonymous", "does not check user names and passwords"),
            ("memory:a", "checker: argstring must be"),
            ("file:", "checker: 'file' requires a filename"),
        ],
    )
    def test_wrong_checkers_are_refused_in_words(self, checker: str, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why):
            build(Settings(checker), cast(Any, Clock()))

    def test_a_file_is_one(self, tmp_path: Any) -> None:
        file = tmp_path / "passwords"
        file.write_text("alice:secret\n")
        authenticator = build(Settings(f"file:{file}"), cast(Any, Clock()))
        found: list[Any] = []
        dialogue = ScriptedDialogue(answers=({"username": "alice", "password": "secret"},))
        Deferred.fromCoroutine(authenticator.authenticate(dialogue)).addBoth(found.append)
        assert found[0].user == "alice"

    def test_time_must_be_more_than_none(self) -> None:
        with pytest.raises(ValueError, match="time_s"):
            Settings("memory:a:b", 0)
