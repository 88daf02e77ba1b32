"""Answers as clients name them come to be those of the form."""

from __future__ import annotations

from unittest import TestCase

from anyvpn.gateway.login_answers import covers, fit_answers
from anyvpn.model.authentication import PASSWORD_FORM, Choice, Field, Form, Option
from tests.gateway.backends_in_memory import CODE_FORM

CHANGE = Form("", (Field("new_password", secret=True), Field("verify_password", secret=True)))
PIN = Form("", (Field("whichpin"), Field("new_pin", secret=True), Field("verify_pin", secret=True)))
MIXED = Form(
    "",
    (
        Field("state", hidden=True, value="ours"),
        Choice("realm", "Realm:", (Option("a"), Option("b"))),
        Field("username"),
    ),
)


class FitAnswersTests(TestCase):
    def test_all_of_the_forms_names_are_there_and_no_others(self) -> None:
        fitted = fit_answers(PASSWORD_FORM, {"username": "alice", "role": "admin"})
        self.assertEqual(dict(fitted), {"username": "alice", "password": ""})

    def test_a_code_comes_under_three_names(self) -> None:
        for name in ("answer", "password", "secondary_password"):
            self.assertEqual(fit_answers(CODE_FORM, {name: "123"})["answer"], "123", name)

    def test_its_own_name_comes_first(self) -> None:
        fitted = fit_answers(CODE_FORM, {"password": "1", "answer": "2"})
        self.assertEqual(fitted["answer"], "2")

    def test_a_new_password_comes_as_password_without_its_repetition(self) -> None:
        for answers in ({"password": "new"}, {"new_password": "new"}):
            fitted = fit_answers(CHANGE, answers)
            self.assertEqual(dict(fitted), {"new_password": "new", "verify_password": "new"})

    def test_a_repetition_that_differs_is_kept(self) -> None:
        fitted = fit_answers(CHANGE, {"new_password": "new", "verify_password": "other"})
        self.assertEqual(fitted["verify_password"], "other")

    def test_a_pin_need_not_be_repeated(self) -> None:
        fitted = fit_answers(PIN, {"password": "y", "new_pin": "4321"})
        self.assertEqual(dict(fitted), {"whichpin": "y", "new_pin": "4321", "verify_pin": "4321"})

    def test_a_hidden_value_is_ours_whatever_comes(self) -> None:
        self.assertEqual(fit_answers(MIXED, {"state": "forged"})["state"], "ours")

    def test_a_choice_is_one_of_its_options(self) -> None:
        self.assertEqual(fit_answers(MIXED, {"realm": "b"})["realm"], "b")
        self.assertEqual(fit_answers(MIXED, {"realm": "c"})["realm"], "")


class CoversTests(TestCase):
    def test_everything_that_the_user_is_asked_must_be_there(self) -> None:
        self.assertTrue(covers(PASSWORD_FORM, {"username": "a", "password": ""}))
        self.assertFalse(covers(PASSWORD_FORM, {"username": "a"}))

    def test_hidden_values_need_not_be_there(self) -> None:
        self.assertTrue(covers(MIXED, {"realm": "a", "username": "u"}))

    def test_a_form_that_asks_nothing_is_never_covered(self) -> None:
        self.assertFalse(covers(Form("", (Field("state", hidden=True),)), {"state": ""}))
