"""Tests of anyvpn.backends.responder_keyring, with a keyring of ours in place of a desktop's."""

from __future__ import annotations

import threading
from typing import Any, cast

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from anyvpn.backends.responder_keyring import KeyringResponder, Settings, build
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import PASSWORD_FORM, Answer, BrowserLogin, Field, Form
from anyvpn.testing.responder_contract import ResponderContract

LONE = Form("", (Field("password", secret=True),))


class Keyring(KeyringBackend):
    """Knows one entry; may be locked, or wait for its user."""

    def __init__(self) -> None:
        self.locked = False
        self.unlocked = threading.Event()
        self.unlocked.set()

    def get_password(self, service: str, username: str) -> str | None:
        self.unlocked.wait(10)
        if self.locked:
            raise KeyringLocked("the user said\x1b[31m no")
        return "pässword" if (service, username) == ("work", "alice") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError("nobody saves anything")


def made(**settings: Any) -> KeyringResponder:
    chosen: dict[str, Any] = {"username": "alice", "service": "work", **settings}
    return build(Settings(**chosen), cast(Any, reactor))


class KeyringCase(TestCase):
    def setUp(self) -> None:
        self.keyring = Keyring()
        before = keyring.get_keyring()
        keyring.set_keyring(self.keyring)
        self.addCleanup(keyring.set_keyring, before)


class ContractTests(KeyringCase, ResponderContract):
    def make_responder(self) -> IResponder:
        return made()

    def is_right(self, answer: Answer) -> bool:
        return answer == {"username": "alice", "password": "pässword"}


class KeyringTests(KeyringCase):
    async def test_the_password_is_given_with_its_user(self) -> None:
        assert await made().answer(PASSWORD_FORM) == {"username": "alice", "password": "pässword"}

    async def test_only_what_is_asked_is_given(self) -> None:
        assert await made().answer(LONE) == {"password": "pässword"}
        assert await made().answer(Form("", (Field("username"),))) == {"username": "alice"}
        assert await made().answer(Form("", (Field("password", hidden=True),))) == {}
        assert await made().answer(BrowserLogin("https://a/", "https://b/")) == {}

    async def test_a_field_can_be_named(self) -> None:
        form = Form("", (Field("password"), Field("answer")))
        assert await made(field="answer").answer(form) == {"answer": "pässword"}

    async def test_it_is_given_once_in_a_login(self) -> None:
        responder = made()
        await responder.answer(LONE)
        assert await responder.answer(LONE) == {}
        responder.login_begins()
        assert await responder.answer(LONE) == {"password": "pässword"}

    async def test_without_an_entry_others_are_asked(self) -> None:
        assert await made(service="home").answer(LONE) == {}

    async def test_a_locked_keyring_leaves_it_to_others(self) -> None:
        self.keyring.locked = True
        assert await made().answer(LONE) == {}

    async def test_nobody_waits_for_ever(self) -> None:
        self.keyring.unlocked.clear()
        self.addCleanup(self.keyring.unlocked.set)
        assert await made(time_s=0.05).answer(LONE) == {}


class SettingsTests:
    @pytest.mark.parametrize(
        ("settings", "why"),
        [({"username": ""}, "username"), ({"field": ""}, "field"), ({"time_s": 0}, "time_s")],
    )
    def test_impossible_ones_are_refused(self, settings: dict[str, Any], why: str) -> None:
        with pytest.raises(ValueError, match=why):
            Settings(**{"username": "alice", **settings})

    def test_a_missing_library_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("anyvpn.backends.responder_keyring.find_spec", lambda _: None)
        with pytest.raises(ValueError, match=r"pip install 'anyvpn\[keyring\]'"):
            Settings(username="alice")
