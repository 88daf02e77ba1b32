"""Tests of anyvpn.backends.secret_file."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from anyvpn.backends import responder_given, responder_totp
from anyvpn.backends.secret_file import warn_of_readers
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import PASSWORD_FORM, Field, Form

CODE = Form("", (Field("answer", secret=True),), kind="challenge")


def secret(directory: Path, mode: int) -> Path:
    file = directory / "secret"
    file.write_text("GEZDGNBVGY3TQOJQ\n")
    file.chmod(mode)
    return file


def warnings_of(responders: list[IResponder], form: Form) -> list[str]:
    """What is logged when each of them answers."""
    with capturedLogs() as logged:
        for each in responders:
            Deferred.fromCoroutine(each.answer(form))
    return [eventAsText(event).partition("] ")[2] for event in logged]


class ReaderTests:
    @pytest.mark.parametrize("mode", [0o640, 0o604])
    def test_each_file_is_warned_of_once(self, tmp_path: Path, mode: int) -> None:
        file = secret(tmp_path, mode)
        with capturedLogs() as logged:
            for _ in range(3):
                warn_of_readers(file)
        assert [event["path"] for event in logged] == [str(file)]

    def test_one_that_is_opened_to_others_later_is_found(self, tmp_path: Path) -> None:
        file = secret(tmp_path, 0o600)
        with capturedLogs() as logged:
            warn_of_readers(file)
            assert logged == []
            file.chmod(0o644)
            warn_of_readers(file)
        assert len(logged) == 1

    def test_many_logins_read_a_password(self, tmp_path: Path) -> None:
        file = secret(tmp_path, 0o644)
        settings = responder_given.Settings(username="alice", password_file=file)
        many: list[IResponder] = [responder_given.build(settings, None) for _ in range(3)]
        warned = [f"{file} can be read by others: chmod 600 it"]
        assert warnings_of(many, PASSWORD_FORM) == warned

    def test_many_logins_read_a_secret(self, tmp_path: Path) -> None:
        file = secret(tmp_path, 0o644)
        settings = responder_totp.Settings(secret_file=file)
        many: list[IResponder] = [responder_totp.build(settings, Clock()) for _ in range(3)]
        assert warnings_of(many, CODE) == [f"{file} can be read by others: chmod 600 it"]
