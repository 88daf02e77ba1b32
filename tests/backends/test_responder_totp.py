"""Tests of anyvpn.backends.responder_totp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from anyvpn.backends.responder_totp import Settings, TOTPResponder, build
from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import PASSWORD_FORM, Answer, BrowserLogin, Field, Form, Step
from anyvpn.testing.responder_contract import ResponderContract

# RFC 6238, appendix B: the ASCII text 12345678901234567890 and its likes, 8 digits
SHA1 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
SHA256 = SHA1 + "GEZDGNBVGY3TQOJQGEZA===="
CHALLENGE = Form("Your code:", (Field("answer", "Response:", secret=True),), kind="challenge")
SECOND = Form("", (Field("username"), Field("secondary_password", secret=True)))


def ask(responder: TOTPResponder, step: Step) -> list[Any]:
    """A list that the answer will be put into."""
    found: list[Any] = []
    Deferred.fromCoroutine(responder.answer(step)).addBoth(found.append)
    return found


def made(now_s: float, **settings: Any) -> tuple[TOTPResponder, Clock]:
    clock = Clock()
    clock.advance(now_s)
    chosen: dict[str, Any] = {"secret": SHA1, "digits": 8, **settings}
    return build(Settings(**chosen), clock), clock


class ContractTests(TestCase, ResponderContract):
    step = CHALLENGE

    def make_responder(self) -> IResponder:
        responder, self.clock = made(0)
        return responder

    def is_right(self, answer: Answer) -> bool:
        return isinstance(answer, dict) and len(answer["answer"]) == 8

    def let_it_happen(self) -> None:
        self.clock.advance(30)


class CodeTests:
    @pytest.mark.parametrize(
        ("now_s", "code"),
        [(1111111111, "14050471"), (1234567890, "89005924"), (2000000000, "69279037")],
    )
    def test_codes_are_those_of_the_rfc(self, now_s: int, code: str) -> None:
        assert ask(made(now_s)[0], CHALLENGE) == [{"answer": code}]

    def test_other_algorithms_too(self) -> None:
        responder, _ = made(1111111111, secret=SHA256, algorithm="sha256")
        assert ask(responder, CHALLENGE) == [{"answer": "67062674"}]

    def test_no_code_is_given_twice_even_in_another_login(self) -> None:
        responder, clock = made(1111111111)
        first = ask(responder, CHALLENGE)
        responder.login_begins()
        second = ask(responder, CHALLENGE)
        assert second == []
        clock.advance(29)
        assert len(second) == 1
        assert second != first

    def test_a_code_about_to_end_is_not_given(self) -> None:
        responder, clock = made(1111111111 - 1111111111 % 30 + 29.5)
        found = ask(responder, CHALLENGE)
        assert found == []
        clock.advance(0.5)
        assert len(found) == 1

    def test_waiting_can_be_cancelled(self) -> None:
        responder, clock = made(29.5)
        waiting = Deferred.fromCoroutine(responder.answer(CHALLENGE))
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        assert clock.getDelayedCalls() == []


class FieldTests:
    def test_the_second_password_is_a_code_and_the_user_name_is_not(self) -> None:
        assert list(ask(made(0)[0], SECOND)[0]) == ["secondary_password"]

    def test_fields_can_be_named(self) -> None:
        responder, _ = made(0, fields=("password",))
        assert list(ask(responder, PASSWORD_FORM)[0]) == ["password"]

    @pytest.mark.parametrize("step", [PASSWORD_FORM, BrowserLogin("https://a/", "https://b/")])
    def test_it_knows_nothing_of_other_steps(self, step: Step) -> None:
        assert ask(made(0)[0], step) == [{}]

    @pytest.mark.parametrize(
        "form",
        [
            # as ocserv 1.1.6 asks
            Form("Please enter your OTP password.", (Field("password", "Password:", secret=True),)),
            Form("", (Field("password", "Token code:", secret=True),)),
        ],
    )
    def test_a_lone_field_is_told_by_what_is_asked(self, form: Form) -> None:
        assert list(ask(made(0)[0], form)[0]) == ["password"]

    def test_what_is_shown_as_it_is_typed_takes_no_code(self) -> None:
        form = Form("Where to send the one-time password?", (Field("answer", "Mail:"),))
        assert ask(made(0)[0], form) == [{}]

    def test_a_login_takes_two_codes(self) -> None:
        responder, clock = made(0)
        for _ in range(2):
            assert ask(responder, CHALLENGE)[0] != {}
            clock.advance(30)
        assert ask(responder, CHALLENGE) == [{}]
        responder.login_begins()
        assert ask(responder, CHALLENGE)[0] != {}


class SettingsTests:
    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            ({}, "either secret or secret_file"),
            ({"secret": "not base32!"}, "neither base32 nor"),
            ({"secret": " = "}, "neither base32 nor"),
            ({"secret": SHA1, "digits": 5}, "digits"),
            ({"secret": SHA1, "period_s": 0}, "period_s"),
            ({"secret": SHA1, "algorithm": "md5"}, "algorithm"),
        ],
    )
    def test_impossible_ones_are_refused(self, settings: dict[str, Any], why: str) -> None:
        with pytest.raises(ValueError, match=why):
            Settings(**settings)

    def test_a_secret_may_be_written_as_apps_show_it(self) -> None:
        responder, _ = made(1111111111, secret="gezd gnbv gy3t qojq gezd gnbv gy3t qojq")
        assert ask(responder, CHALLENGE) == [{"answer": "14050471"}]

    @pytest.mark.parametrize(
        "secret", [f"base32:{SHA1}", "0x" + b"12345678901234567890".hex(), f"BASE32:{SHA1}="]
    )
    def test_a_secret_may_say_how_it_is_written(self, secret: str) -> None:
        responder, _ = made(1111111111, secret=secret)
        assert ask(responder, CHALLENGE) == [{"answer": "14050471"}]

    def test_the_secret_is_not_shown(self) -> None:
        assert SHA1 not in repr(Settings(secret=SHA1))

    def test_the_secret_comes_from_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text(f"{SHA1}\nmore\n")
        file.chmod(0o600)
        responder, _ = made(1111111111, secret="", secret_file=file)
        assert ask(responder, CHALLENGE) == [{"answer": "14050471"}]

    @pytest.mark.parametrize("content", [None, b"", b"\xff\n", b"not base32!\n"])
    def test_an_unusable_file_ends_the_login(self, tmp_path: Path, content: bytes | None) -> None:
        file = tmp_path / "secret"
        if content is not None:
            file.write_bytes(content)
        responder, _ = made(0, secret="", secret_file=file)
        with pytest.raises(LoginAborted, match="secret"):
            ask(responder, CHALLENGE)[0].raiseException()
