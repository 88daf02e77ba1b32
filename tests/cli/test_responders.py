"""Tests of anyvpn.cli.responders: who answers, as the options say."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from anyvpn.cli.connect import connect
from anyvpn.cli.responders import make_responder
from anyvpn.errors import ConfigurationError, LoginAborted
from anyvpn.model.authentication import PASSWORD_FORM, Field, Form

EXTERNAL = "single-sign-on-external-browser"
CODE = Form("", (Field("answer", secret=True),), kind="challenge")


@pytest.fixture(autouse=True)
def no_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def responder(*arguments: str) -> Any:
    context = connect.make_context("connect", ["vpn.example.com", "--non-inter", *arguments])
    return make_responder(context.params, Clock(), lambda line: None)


def answers(to: Form, *arguments: str) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(responder(*arguments).answer(to)).addBoth(found.append)
    [answer] = found
    return answer


class GivenTests:
    def test_user_and_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("secret\nrest\n"))
        given = answers(PASSWORD_FORM, "--user", "alice", "--passwd-on-stdin")
        assert given == {"username": "alice", "password": "secret"}

    def test_a_password_file(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("secret\n")
        file.chmod(0o600)
        given = answers(PASSWORD_FORM, "--user", "alice", "--password-file", str(file))
        assert given == {"username": "alice", "password": "secret"}

    def test_fields_by_name(self) -> None:
        entries = ("-F", "main:username=alice", "-F", "password=a=b")
        assert answers(PASSWORD_FORM, *entries) == {"username": "alice", "password": "a=b"}

    def test_nobody_is_asked_without_a_terminal(self) -> None:
        with pytest.raises(LoginAborted, match="nobody answers"):
            answers(PASSWORD_FORM, "--user", "alice").raiseException()

    def test_a_code(self) -> None:
        given = answers(CODE, "--token-mode", "totp", "--token-secret", "0x" + "61" * 20)
        assert list(given) == ["answer"]
        assert given["answer"].isdecimal()

    def test_a_secret_in_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text("0x" + "61" * 20)
        file.chmod(0o600)
        given = answers(CODE, "--token-mode", "totp", "--token-secret", f"@{file}")
        assert given["answer"].isdecimal()


class BrowserTests:
    def test_one_that_is_named_is_announced(self) -> None:
        assert EXTERNAL in responder("--external-browser", "firefox").capabilities

    def test_a_desktop_has_one_when_somebody_sits_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DISPLAY", ":0")
        context = connect.make_context("connect", ["vpn.example.com"])
        chain = make_responder(context.params, Clock(), lambda line: None)
        assert EXTERNAL in chain.capabilities
        assert responder().capabilities == frozenset()


class WrongTests:
    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (("-F", "username"), "--form-entry 'username' is not FIELD=TEXT"),
            (("-F", "=alice"), "is not FIELD=TEXT"),
            (("--keyring", "work"), "--keyring needs the --user"),
            (("--token-mode", "totp"), "--token-mode totp and --token-secret go together"),
            (("--token-secret", "0x00"), "--token-mode totp and --token-secret go together"),
            (
                ("--token-mode", "totp", "--token-secret", "!"),
                "--token-secret: the secret is neither base32 nor 0x and hex",
            ),
            (("--password-command", "'a"), "--password-command: No closing quotation"),
            (("--password-command", "''"), "--password-command: command must name a program"),
            (("--external-browser", "'a"), "--external-browser: No closing quotation"),
        ],
    )
    def test_they_are_named(self, given: tuple[str, ...], complaint: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            responder(*given)
        assert complaint in str(raised.value)
