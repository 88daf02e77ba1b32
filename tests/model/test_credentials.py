"""Tests of anyvpn.model.credentials."""

from __future__ import annotations

import pytest

from anyvpn.errors import LoginRejected
from anyvpn.model.authentication import PASSWORD_FORM, Field, Identity
from anyvpn.model.credentials import Credentials, password_form, read_credentials

ALICE = Identity("alice")


class CredentialsTests:
    def test_whoever_is_unknown_is_asked_for_both(self) -> None:
        assert password_form() == PASSWORD_FORM

    def test_whoever_is_known_is_asked_for_the_password_alone(self) -> None:
        form = password_form(ALICE)
        name, password = form.fields
        assert name == Field("username", hidden=True, value="alice")
        assert password.name == "password"
        assert "alice" in form.message

    def test_a_known_name_stays_whatever_the_answer_says(self) -> None:
        answer = {"username": "bob", "password": "secret"}
        assert read_credentials(answer, ALICE) == Credentials("alice", "secret")

    def test_names_are_composed_and_trimmed_and_passwords_are_left(self) -> None:
        said = read_credentials({"username": " a\u0308lice ", "password": " a\u0308 "})
        assert said == Credentials("älice", " a\u0308 ")

    def test_the_password_is_not_shown(self) -> None:
        assert "secret" not in repr(Credentials("alice", "secret"))

    @pytest.mark.parametrize("name", ["username", "password"])
    @pytest.mark.parametrize("text", ["", "\0", "a\0b", "x" * 1025, "\udcff"])
    def test_what_nobody_could_use_is_refused(self, name: str, text: str) -> None:
        answer = {"username": "alice", "password": "secret", name: text}
        with pytest.raises(LoginRejected) as caught:
            read_credentials(answer)
        assert name in str(caught.value) and "secret" not in str(caught.value)

    @pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\u202ealice", "  "])
    def test_names_that_no_log_could_show_are_refused(self, name: str) -> None:
        with pytest.raises(LoginRejected):
            read_credentials({"username": name, "password": "secret"})

    def test_other_kinds_of_answers_are_empty_ones(self) -> None:
        for answer in ("token", (), (b"x",)):
            with pytest.raises(LoginRejected):
                read_credentials(answer)

    def test_the_longest_passes(self) -> None:
        assert read_credentials({"username": "x" * 1024, "password": "é" * 1024})
