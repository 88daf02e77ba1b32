from __future__ import annotations

import threading
import time
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from anyvpn.backends import authenticator_password_file as module
from anyvpn.backends.authenticator_password_file import PasswordFile, Settings, build
from anyvpn.backends.authenticator_password_file_users import (
    HashCost,
    StoredUser,
    hash_password,
    matches,
    write_users,
)
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator
from anyvpn.model.authentication import PASSWORD_FORM, Answer, Identity
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.hostile_credentials import HostileCredentials

CHEAP = HashCost(64, 1, 1)
PASSWORD = "test-pass"
HASH = hash_password(PASSWORD, CHEAP)


def users(*names: str, groups: tuple[str, ...] = (), cost: HashCost = CHEAP) -> dict[str, Any]:
    password_hash = HASH if cost == CHEAP else hash_password(PASSWORD, cost)
    return {name: StoredUser(name, password_hash, groups) for name in names}


class WithFile(TestCase):
    """Makes authenticators, and ends their threads after each test."""

    def setUp(self) -> None:
        self.file = Path(self.enterContext(TemporaryDirectory())) / "users"
        write_users(self.file, users("alice", groups=("staff", "lab")) | users("bob"))
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def make(self, **more: Any) -> PasswordFile:
        settings = Settings(self.file, **{"memory_kib": 64, "passes": 1, "lanes": 1, **more})
        authenticator = build(settings, cast(Any, reactor))
        self.addCleanup(authenticator.close)
        return authenticator

    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.logged]


def login(authenticator: PasswordFile, user: str, password: str = PASSWORD) -> Deferred[Identity]:
    answer = {"username": user, "password": password}
    return Deferred.fromCoroutine(authenticator.authenticate(ScriptedDialogue(answers=[answer])))


class PasswordFileContractTests(HostileCredentials, AuthenticatorContract, WithFile):
    groups = frozenset(("staff", "lab"))

    def make_authenticator(self) -> IAuthenticator:
        return self.make()

    def right_answers(self) -> tuple[Answer, ...]:
        return ({"username": "alice", "password": PASSWORD},)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({"username": "alice", "password": "not-the-password"},)


class LoginTests(WithFile):
    async def test_password_form_is_asked_once(self) -> None:
        dialogue = ScriptedDialogue(answers=[{"username": "bob", "password": PASSWORD}])
        await self.make().authenticate(dialogue)
        assert dialogue.asked == [PASSWORD_FORM]

    async def test_log_text_tells_unknown_user_from_wrong_password(self) -> None:
        authenticator = self.make()
        assert str(await error_of(login(authenticator, "carol"), LoginRejected)) == "unknown user"
        error = await error_of(login(authenticator, "bob", "x"), LoginRejected)
        assert str(error) == "wrong password"

    async def test_other_kinds_of_answers_are_rejected(self) -> None:
        authenticator = self.make()
        answers: tuple[Answer, ...] = ("token", (b"certificate",), {})
        for answer in answers:
            dialogue = ScriptedDialogue(answers=[answer])
            await error_of(authenticator.authenticate(dialogue), LoginRejected)

    async def test_names_are_compared_with_case(self) -> None:
        await error_of(login(self.make(), "Alice"), LoginRejected)

    async def test_composed_and_decomposed_letters_are_the_same(self) -> None:
        composed, decomposed = "pa\u00df-\u00e9", "pa\u00df-e\u0301"
        self.file.unlink()
        write_users(
            self.file, {"ren\u00e9": StoredUser("ren\u00e9", hash_password(decomposed, CHEAP))}
        )
        identity = await login(self.make(), "rene\u0301", composed)
        assert identity.user == "ren\u00e9"

    async def test_each_refusal_computes_one_hash_of_the_users_cost(self) -> None:
        """The time of an answer must not tell whether a user exists."""
        cost = HashCost(128, 2, 1)
        write_users(self.file, users("alice", cost=cost))
        authenticator = self.make()
        checked: list[str] = []

        def counting(password_hash: str, password: str) -> bool:
            checked.append(password_hash)
            return matches(password_hash, password)

        self.patch(module, "matches", counting)  # type: ignore[no-untyped-call]  # trial's own
        for user, password in (("alice", "wrong"), ("nobody", PASSWORD)):
            await error_of(login(authenticator, user, password), LoginRejected)
        assert [each.rpartition("$")[0].split("$")[1:4] for each in checked] == [
            ["argon2id", "v=19", "m=128,t=2,p=1"]
        ] * 2

    async def test_what_can_be_nobodys_is_refused_before_anybody_is_looked_up(self) -> None:
        write_users(self.file, users("alice"))
        authenticator = self.make()
        self.patch(module, "matches", lambda *_: self.fail("looked up"))  # type: ignore[no-untyped-call]  # trial's own
        for user, password in (
            ("alice", "x" * 5000),
            ("alice", PASSWORD + "\0"),
            ("alice\0", PASSWORD),
            ("x" * 5000, PASSWORD),
            ("\udcff", "\udcff"),
            ("", ""),
        ):
            await error_of(login(authenticator, user, password), LoginRejected)

    async def test_unknown_user_always_costs_the_same_among_mixed_hashes(self) -> None:
        write_users(self.file, users("alice", cost=HashCost(128, 1, 1)) | users("bob", cost=CHEAP))
        authenticator = self.make()
        checked: list[str] = []

        def counting(password_hash: str, password: str) -> bool:
            checked.append(password_hash.split("$")[3])
            return False

        self.patch(module, "matches", counting)  # type: ignore[no-untyped-call]  # trial's own
        seen = set()
        for number in range(40):
            checked.clear()
            for _ in range(3):
                await error_of(login(authenticator, f"user{number}"), LoginRejected)
            assert len(set(checked)) == 1
            seen.add(checked[0])
        assert seen == {"m=128,t=1,p=1", "m=64,t=1,p=1"}


class ThreadTests(WithFile):
    async def test_building_begins_no_thread(self) -> None:
        """twistd builds everything before it forks."""
        threads = threading.active_count()
        self.make()
        assert threading.active_count() == threads

    async def test_costly_hash_does_not_block_the_reactor(self) -> None:
        write_users(self.file, users("alice", cost=HashCost(65536, 3, 1)))
        authenticator = self.make()
        started_s = time.monotonic()
        pending = login(authenticator, "alice")
        assert time.monotonic() - started_s < 0.02
        assert not pending.called
        await pending
        assert time.monotonic() - started_s > 0.02

    async def test_no_more_threads_than_configured(self) -> None:
        before = threading.active_count()
        authenticator = self.make(max_parallel=3)
        for each in [login(authenticator, "alice") for _ in range(30)]:
            await each
        assert before < threading.active_count() <= before + 3
        authenticator.close()
        assert threading.active_count() == before

    async def test_waiting_passwords_are_bounded(self) -> None:
        self.patch(module, "MOST_WAITING", 2)  # type: ignore[no-untyped-call]  # trial's own
        checking_may_end = threading.Event()

        def waiting(password_hash: str, password: str) -> bool:
            return checking_may_end.wait(10.0) and matches(password_hash, password)

        self.patch(module, "matches", waiting)  # type: ignore[no-untyped-call]  # trial's own
        authenticator = self.make()
        pending = [login(authenticator, "alice") for _ in range(3)]
        await error_of(pending[2], BackendFailed)
        checking_may_end.set()
        assert [(await each).user for each in pending[:2]] == ["alice", "alice"]
        assert (await login(authenticator, "alice")).user == "alice"

    async def test_closed_authenticator_says_so(self) -> None:
        authenticator = self.make()
        authenticator.close()
        authenticator.close()
        await error_of(login(authenticator, "alice"), BackendFailed)


class ChangeTests(WithFile):
    async def test_new_user_can_log_in_and_removed_one_cannot(self) -> None:
        authenticator = self.make()
        await login(authenticator, "bob")
        write_users(self.file, users("carol"))
        await login(authenticator, "carol")
        await error_of(login(authenticator, "bob"), LoginRejected)

    async def test_broken_file_leaves_the_users_and_is_logged_once(self) -> None:
        authenticator = self.make()
        self.file.write_text("alice:broken\nbob\n")
        for _ in range(3):
            await login(authenticator, "alice")
            await login(authenticator, "bob")
        (line,) = [each for each in self.lines() if "cannot be used" in each]
        assert f"{self.file}:1: " in line
        assert f"{self.file}:2: " in line
        assert "the users stay as they were" in line

    async def test_missing_file_leaves_the_users_until_it_is_back(self) -> None:
        authenticator = self.make()
        self.file.unlink()
        await login(authenticator, "alice")
        write_users(self.file, users("carol"))
        await login(authenticator, "carol")
        await error_of(login(authenticator, "alice"), LoginRejected)

    def test_broken_file_is_refused_at_the_start_with_all_its_lines(self) -> None:
        self.file.write_text(f"alice:{HASH}\nbroken\n\n# comment\ncarol:plain\nalice:{HASH}\n")
        with pytest.raises(ConfigurationError) as caught:
            self.make()
        assert [each.partition(": ")[0] for each in caught.value.problems] == [
            f"{self.file}:2",
            f"{self.file}:5",
            f"{self.file}:6",
        ]

    def test_weaker_hashes_are_logged_once(self) -> None:
        self.make(memory_kib=1024)
        (line,) = [each for each in self.lines() if "cheaper to guess" in each]
        assert line.startswith(f"2 password hashes in {self.file} ")

    def test_file_open_to_all_is_logged(self) -> None:
        self.make()
        assert not [each for each in self.lines() if "open to every user" in each]
        self.file.chmod(0o644)
        self.make()
        assert [each for each in self.lines() if "open to every user" in each]

    async def test_nothing_secret_is_logged_or_shown(self) -> None:
        authenticator = self.make()
        await login(authenticator, "alice")
        await error_of(login(authenticator, "alice", "other-secret"), LoginRejected)
        self.file.write_text(f"alice:{HASH}!\n")
        await login(authenticator, "alice")
        everything = " ".join(self.lines()) + repr(users("alice"))
        for secret in (PASSWORD, "other-secret", HASH[-20:]):
            assert secret not in everything


class SettingsTests(unittest.TestCase):
    def test_bad_values_are_refused(self) -> None:
        for values, words in (
            ({"memory_kib": 7}, "memory_kib must lie between 32"),
            ({"memory_kib": 2**40}, "memory_kib must lie between"),
            ({"passes": 0}, "passes must lie between"),
            ({"lanes": 0}, "lanes must lie between"),
            ({"max_parallel": 0}, "max_parallel must lie between"),
        ):
            with pytest.raises(ValueError, match=words):
                Settings(Path("users"), **values)

    def test_default_cost_is_the_one_that_rfc_9106_recommends(self) -> None:
        assert Settings(Path("users")).cost == HashCost(65536, 3, 4)
