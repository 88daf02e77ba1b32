"""Tests of anyvpn.client.responders and of the responder that knows answers ahead."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from anyvpn.backends.responder_given import GivenResponder, Settings
from anyvpn.client.responders import ResponderChain
from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import (
    GROUP_FORM,
    PASSWORD_FORM,
    Answer,
    BrowserLogin,
    Choice,
    Field,
    Form,
    Option,
    Step,
)
from anyvpn.testing.responder_contract import ResponderContract
from tests.client.conversation import ScriptedResponder
from tests.client.scripted import result_of


def answer(responder: object, step: Step) -> object:
    deferred: Deferred[object] = Deferred.fromCoroutine(responder.answer(step))  # type: ignore[attr-defined]
    return result_of(deferred)


class GivenContractTests(TestCase, ResponderContract):
    def make_responder(self) -> IResponder:
        return GivenResponder(Settings("alice", "secret", answers={"group_list": "a"}))

    def is_right(self, answer: Answer) -> bool:
        return answer == {"username": "alice", "password": "secret"}


class ChainTests:
    def test_the_next_is_asked_what_the_first_does_not_know(self) -> None:
        first = ScriptedResponder({"username": "alice"})
        second = ScriptedResponder({"username": "bob", "password": "secret"})
        found = answer(ResponderChain([first, second]), PASSWORD_FORM)
        assert found == {"username": "alice", "password": "secret"}
        asked = second.asked[0]
        assert isinstance(asked, Form)
        assert [each.name for each in asked.fields] == ["password"]

    def test_a_field_that_nobody_knows_is_named(self) -> None:
        with pytest.raises(LoginAborted, match="'Password'"):
            answer(ResponderChain([ScriptedResponder({"username": "alice"})]), PASSWORD_FORM)

    def test_a_group_needs_no_answer(self) -> None:
        form = Form("", (Choice("group_list", "GROUP:", (Option("a"),)),), kind=GROUP_FORM)
        assert answer(ResponderChain([ScriptedResponder({})]), form) == {}

    def test_the_first_token_counts(self) -> None:
        chain = ResponderChain([ScriptedResponder({}), ScriptedResponder({"token": "t"})])
        assert answer(chain, BrowserLogin("https://a/", "https://b/")) == "t"

    def test_all_are_told_of_a_new_login(self) -> None:
        responders = [ScriptedResponder({}), ScriptedResponder({})]
        ResponderChain(responders).login_begins()
        assert [each.begun for each in responders] == [1, 1]


class GivenTests:
    def test_a_password_is_given_once_in_a_login(self) -> None:
        given = GivenResponder(Settings("alice", "secret"))
        given.login_begins()
        assert answer(given, PASSWORD_FORM) == {"username": "alice", "password": "secret"}
        assert answer(given, PASSWORD_FORM) == {"username": "alice"}
        given.login_begins()
        assert answer(given, PASSWORD_FORM) == {"username": "alice", "password": "secret"}

    def test_the_password_may_be_in_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("from file\nand more\n")
        file.chmod(0o600)
        given = GivenResponder(Settings(password_file=file))
        assert answer(given, PASSWORD_FORM) == {"password": "from file"}

    def test_a_file_that_is_not_there_ends_the_login(self, tmp_path: Path) -> None:
        given = GivenResponder(Settings(password_file=tmp_path / "missing"))
        with pytest.raises(LoginAborted, match="No such file"):
            answer(given, PASSWORD_FORM)

    def test_a_choice_is_known_by_its_label_too(self) -> None:
        form = Form("", (Choice("city", "", (Option("1", "Paris"), Option("2", "Rome"))),))
        given = GivenResponder(Settings(answers={"city": "rome"}))
        assert answer(given, form) == {"city": "2"}

    def test_other_fields_are_left_to_others(self) -> None:
        form = Form("", (Field("answer", secret=True),), kind="challenge")
        assert answer(GivenResponder(Settings("alice", "secret")), form) == {}
