"""The pam authenticator alone, with the system's own PAM and rules of the tests'."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from anyvpn.backends import authenticator_pam
from anyvpn.backends.authenticator_pam import PAMAuthenticator, Settings, build
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator
from anyvpn.model.authentication import Answer, Form, Identity, Question
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.hostile_credentials import HostileCredentials

PASSWORD = "pässword"
# The user may be any name; the password comes with a zero byte behind it
CHECK = f"""#!/bin/sh
given=$(tr -d '\\000')
test "$given" = "{PASSWORD}" -a "$PAM_USER" = alice
"""
ALICE = {"username": "alice", "password": PASSWORD}


class PAMCase(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.check = self.script("check", CHECK)

    def script(self, name: str, text: str) -> Path:
        file = self.directory / name
        file.write_text(text)
        file.chmod(0o755)
        return file

    def make(self, *rules: str, **settings: Any) -> PAMAuthenticator:
        password = f"auth required pam_exec.so expose_authtok quiet {self.check}"
        lines = rules or (password, "account required pam_permit.so")
        text = "\n".join(lines).replace("PASSWORD", password)
        (self.directory / "anyvpn").write_text(f"{text}\n")
        own = Settings(directory=self.directory, **settings)
        return build(own, reactor)  # type: ignore[arg-type]  # trial's own

    async def login(
        self, *rules: str, answers: tuple[Answer, ...] = (ALICE,), **settings: Any
    ) -> Identity:
        made = self.make(*rules, **settings)
        return await made.authenticate(ScriptedDialogue(answers=answers))


class ContractTests(PAMCase, HostileCredentials, AuthenticatorContract):
    hostile_logins = 15

    def make_authenticator(self) -> IAuthenticator:
        return self.make()

    def right_answers(self) -> tuple[Answer, ...]:
        return (ALICE,)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({**ALICE, "password": "wrong-one"},)


class VerdictTests(PAMCase):
    async def test_groups_are_the_systems(self) -> None:
        self.script("check", "#!/bin/sh\nexit 0\n")
        answers = ({"username": "daemon", "password": "x"},)
        assert (await self.login(answers=answers)).groups == {"daemon"}
        assert (await self.login(answers=(ALICE,))).groups == frozenset()

    async def test_an_account_may_be_refused_after_a_right_password(self) -> None:
        error = await error_of(
            self.login("PASSWORD", "account required pam_deny.so"), LoginRejected
        )
        assert str(error).startswith("PAM: ")

    async def test_modules_learn_where_the_client_is(self) -> None:
        self.script("check", '#!/bin/sh\ntest "$PAM_RHOST" = 192.0.2.7\n')
        assert (await self.login()).user == "alice"

    async def test_a_known_user_is_asked_for_the_password_alone(self) -> None:
        dialogue = ScriptedDialogue(answers=({"password": PASSWORD},), identity=Identity("alice"))
        assert (await self.make().authenticate(dialogue)).user == "alice"


class ConversationTests(PAMCase):
    async def test_further_questions_are_asked_and_told(self) -> None:
        """pam_stress asks with words of its own, pam_echo says something."""
        (self.directory / "said").write_text("Hello from PAM\n")
        made = self.make(
            "PASSWORD",
            f"auth required pam_echo.so file={self.directory}/said",
            "auth required pam_stress.so",
            "account required pam_permit.so",
        )
        dialogue = ScriptedDialogue(answers=(ALICE, {"answer": "whatever"}))
        assert (await made.authenticate(dialogue)).user == "alice"
        _, form = dialogue.asked
        assert isinstance(form, Form)
        assert form.message == "Hello from PAM"
        assert "STRESS" in getattr(form.fields[1], "label", "")


class FailureTests(PAMCase):
    async def failure(self, *rules: str, **settings: Any) -> str:
        return str(await error_of(self.login(*rules, **settings), BackendFailed))

    async def test_a_module_that_hangs_costs_its_time(self) -> None:
        self.script("check", "#!/bin/sh\nsleep 60\n")
        assert await self.failure(time_s=0.5) == "PAM (anyvpn) said nothing for 0.5 s"

    async def test_a_module_that_crashes_costs_its_login(self) -> None:
        self.script("check", "#!/bin/sh\nkill -SEGV $PPID\n")
        assert "was ended by signal" in await self.failure()

    async def test_a_module_that_is_not_there_is_a_failure_of_ours(self) -> None:
        assert "PAM does not work" in await self.failure("auth required pam_nonsense.so")

    async def test_others_wait_for_their_turn(self) -> None:
        made = self.make(max_parallel=1)
        logins = [
            Deferred.fromCoroutine(made.authenticate(ScriptedDialogue(answers=(ALICE,))))
            for _ in range(3)
        ]
        for each in logins:
            assert (await each).user == "alice"

    async def test_whoever_thinks_about_a_question_keeps_nobody_waiting(self) -> None:
        rules = ("PASSWORD", "auth required pam_stress.so", "account required pam_permit.so")
        made = self.make(*rules, max_parallel=1)
        thinking: Deferred[Answer] = Deferred()

        class Slow(ScriptedDialogue):
            async def ask(self, step: Question) -> Answer:
                return await thinking if len(self.asked) else await super().ask(step)

        first = Deferred.fromCoroutine(made.authenticate(Slow(answers=(ALICE,))))
        answers = (ALICE, {"answer": "whatever"})
        second = Deferred.fromCoroutine(made.authenticate(ScriptedDialogue(answers=answers)))
        assert (await second.addTimeout(5, reactor)).user == "alice"  # type: ignore[arg-type]
        thinking.callback({"answer": "whatever"})
        assert (await first).user == "alice"

    async def test_too_many_who_think_are_a_failure(self) -> None:
        self.patch(authenticator_pam, "MOST_HELPERS", 0)  # type: ignore[no-untyped-call]  # trial's
        assert "0 users are being asked" in await self.failure()

    async def test_what_a_module_prints_is_no_verdict(self) -> None:
        forged = '{"code": 0, "text": "", "user": "root", "groups": []}'
        self.script("check", f"#!/bin/sh\necho '{forged}' > /proc/$PPID/fd/1\nexit 1\n")
        await error_of(self.login(), LoginRejected)

    async def test_a_module_that_leaves_something_running_holds_nobody_up(self) -> None:
        for how in ("", "setsid "):
            self.script("check", f"#!/bin/sh\n{how}sleep 10 > /proc/$PPID/fd/1 &\nexit 0\n")
            made = self.make(max_parallel=1)
            for _ in range(2):
                login = Deferred.fromCoroutine(
                    made.authenticate(ScriptedDialogue(answers=(ALICE,)))
                )
                assert (await login.addTimeout(5, reactor)).user == "alice"  # type: ignore[arg-type]

    async def test_a_client_that_goes_away_leaves_no_process(self) -> None:
        marker = self.directory / "pid"
        self.script(
            "check", f"#!/bin/sh\necho $PPID > {marker}.new; mv {marker}.new {marker}\nsleep 60\n"
        )
        made = self.make()
        login = Deferred.fromCoroutine(made.authenticate(ScriptedDialogue(answers=(ALICE,))))
        login.addErrback(lambda _: None)
        while not marker.exists():
            await pause(0.02)
        login.cancel()
        await pause(0.2)
        for each in marker.read_text().split():
            with pytest.raises(ProcessLookupError):
                os.kill(int(each), 0)


async def pause(seconds: float) -> None:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)  # type: ignore[attr-defined]
    await waiting


class SettingsTests:
    def test_wrong_settings_are_refused_in_words(self, tmp_path: Path) -> None:
        for settings, why in (
            ({"service": "../x"}, "service must be the name of a file"),
            ({"time_s": 0.0}, "time_s must be"),
            ({"max_parallel": 0}, "max_parallel must lie"),
        ):
            with pytest.raises(ValueError, match=why):
                Settings(**settings)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"service: there is no .*/anyvpn"):
            build(Settings(directory=tmp_path), reactor)  # type: ignore[arg-type]
