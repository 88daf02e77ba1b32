"""Tests of the authenticators of one-time codes: `totp` and `hotp`, after a password and inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from anyvpn.backends import authenticator_hotp, authenticator_totp
from anyvpn.backends.authenticator_totp import Settings
from anyvpn.backends.one_time_code_authenticator import CodeAuthenticator, open_store
from anyvpn.backends.one_time_code_file import CodeFile
from anyvpn.backends.one_time_codes import CodeMaker
from anyvpn.backends.redis_settings import RedisSettings
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Answer, Form, Identity
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue
from anyvpn.testing.outcomes import completed, error_of
from tests.backends.hostile_credentials import HostileCredentials
from tests.backends.test_authenticator_chain import PASSWORD, Passwords
from tests.backends.test_one_time_codes import COUNTED, SECRET

ALICE = Identity("alice", frozenset(("staff",)))
NOW_S = 59.0
REDIS = RedisSettings("redis://127.0.0.1")
CODE = COUNTED[1]  # of the second 59, too


class CodeCase(TestCase):
    def setUp(self) -> None:
        self.file = CodeFile(Path(self.mktemp()))
        completed(self.file.put(CodeMaker("alice", "totp", SECRET)))
        completed(self.file.put(CodeMaker("alice", "hotp", SECRET)))
        self.now_s = NOW_S

    def totp(self, **settings: Any) -> CodeAuthenticator:
        own = Settings(file=self.file.path, **settings)
        return self.closing(
            CodeAuthenticator(
                "totp",
                own,
                open_store(own, reactor),
                window=own.window,
                time_of_day=lambda: self.now_s,
            )
        )

    def hotp(self, **settings: Any) -> CodeAuthenticator:
        own = authenticator_hotp.Settings(file=self.file.path, **settings)
        return self.closing(authenticator_hotp.build(own, reactor))

    def closing(self, made: CodeAuthenticator) -> CodeAuthenticator:
        self.addCleanup(made.close)
        return made


class ContractTests(CodeCase, HostileCredentials, AuthenticatorContract):
    """With the code as the only thing that is asked."""

    def make_authenticator(self) -> IAuthenticator:
        completed(self.file.put(CodeMaker("alice", "totp", SECRET)))
        return self.totp(most_failures=1000)

    def right_answers(self) -> tuple[Answer, ...]:
        return ({"username": "alice", "password": CODE},)

    def wrong_answers(self) -> tuple[Answer, ...]:
        return ({"username": "alice", "password": "000000"},)


class SecondStepTests(CodeCase):
    async def test_whoever_is_known_is_asked_for_the_code_alone(self) -> None:
        dialogue = ScriptedDialogue(answers=({"answer": "287 082"},), identity=ALICE)
        assert await self.totp(message="Code, please.").authenticate(dialogue) == ALICE
        [form] = dialogue.asked
        assert isinstance(form, Form)
        assert (form.kind, form.message) == ("challenge", "Code, please.")

    async def test_a_code_is_good_once(self) -> None:
        dialogue = ScriptedDialogue(answers=({"answer": CODE},) * 2, identity=ALICE)
        made = self.totp()
        await made.authenticate(dialogue)
        error = await error_of(made.authenticate(dialogue), LoginRejected)
        assert str(error) == "the code was used before"

    async def test_whoever_has_no_device_is_asked_all_the_same(self) -> None:
        dialogue = ScriptedDialogue(answers=({"answer": CODE},), identity=Identity("bob"))
        error = await error_of(self.totp().authenticate(dialogue), LoginRejected)
        assert str(error) == "bob has no TOTP device"
        assert len(dialogue.asked) == 1

    async def test_the_clock_of_the_day_counts(self) -> None:
        self.now_s += 61
        dialogue = ScriptedDialogue(answers=({"answer": CODE},), identity=ALICE)
        await error_of(self.totp().authenticate(dialogue), LoginRejected)

    async def test_a_broken_file_is_no_verdict(self) -> None:
        made = self.totp()
        self.file.path.write_bytes(b"rubbish" * 100)
        dialogue = ScriptedDialogue(answers=({"answer": CODE},), identity=ALICE)
        await error_of(made.authenticate(dialogue), BackendFailed)

    async def test_after_its_end_nobody_gets_in(self) -> None:
        made = self.totp()
        made.close()
        dialogue = ScriptedDialogue(answers=({"answer": CODE},), identity=ALICE)
        await error_of(made.authenticate(dialogue), BackendFailed)


@implementer(IAuthenticator)
class AsksNothing:
    async def authenticate(self, dialogue: IDialogue) -> Identity:
        return ALICE


class InsideTests(CodeCase):
    async def test_one_form_asks_for_both(self) -> None:
        dialogue = ScriptedDialogue(answers=({**PASSWORD, "secondary_password": CODE},))
        identity = await self.totp(inside=Passwords()).authenticate(dialogue)
        assert identity.groups == {"staff"}
        [form] = dialogue.asked
        assert isinstance(form, Form)
        assert [each.name for each in form.fields] == ["username", "password", "secondary_password"]

    async def test_the_code_may_stand_behind_the_password(self) -> None:
        dialogue = ScriptedDialogue(answers=({**PASSWORD, "password": f"secret{CODE}"},))
        made = self.totp(inside=Passwords(), appended=True)
        assert (await made.authenticate(dialogue)).user == "alice"
        for wrong in ("secret", CODE, "secret000000", f"{CODE}secret"):
            dialogue = ScriptedDialogue(answers=({**PASSWORD, "password": wrong},))
            await error_of(made.authenticate(dialogue), LoginRejected)

    async def test_both_must_be_right(self) -> None:
        made = self.totp(inside=Passwords())
        for wrong in ({"password": "no"}, {"secondary_password": "000000"}):
            answer = {**PASSWORD, "secondary_password": CODE, **wrong}
            await error_of(made.authenticate(ScriptedDialogue(answers=(answer,))), LoginRejected)
        await error_of(made.authenticate(ScriptedDialogue(answers=(PASSWORD,))), LoginRejected)

    async def test_a_wrong_password_does_not_use_the_code_up(self) -> None:
        made = self.totp(inside=Passwords())
        answer = {**PASSWORD, "secondary_password": CODE}
        wrong = ScriptedDialogue(answers=({**answer, "password": "no"},))
        await error_of(made.authenticate(wrong), LoginRejected)
        assert (await made.authenticate(ScriptedDialogue(answers=(answer,)))).user == "alice"

    async def test_one_that_asks_for_no_password_is_followed_by_the_code(self) -> None:
        dialogue = ScriptedDialogue(answers=({"answer": CODE},))
        assert await self.totp(inside=AsksNothing()).authenticate(dialogue) == ALICE


class CountedTests(CodeCase):
    async def test_codes_are_taken_in_turn(self) -> None:
        made = self.hotp()
        for code in (COUNTED[0], COUNTED[3]):
            dialogue = ScriptedDialogue(answers=({"answer": code},), identity=ALICE)
            assert await made.authenticate(dialogue) == ALICE

    async def test_far_ahead_the_next_code_is_asked_for_too(self) -> None:
        made = self.hotp(window=1, resync_window=6)
        answers = ({"answer": COUNTED[5]}, {"answer": COUNTED[6]})
        dialogue = ScriptedDialogue(answers=answers, identity=ALICE)
        assert await made.authenticate(dialogue) == ALICE
        assert "next code" in getattr(dialogue.asked[1], "message", "")

    async def test_a_wrong_next_code_is_refused_and_counted(self) -> None:
        made = self.hotp(window=1, resync_window=6, most_failures=2)
        answers = [{"answer": COUNTED[each]} for each in (5, 7, 0, 1)]
        dialogue = ScriptedDialogue(answers=answers, identity=ALICE)
        await error_of(made.authenticate(dialogue), LoginRejected)
        error = await error_of(made.authenticate(dialogue), LoginRejected)
        assert "must wait" in str(error)

    async def test_codes_to_come_are_not_told_from_wrong_ones(self) -> None:
        """Whoever learned of one could wait until the token gets there; a lock would not help."""
        made = self.hotp(window=1, resync_window=6, most_failures=2)
        for code in ("000000", COUNTED[5], "000000", COUNTED[5]):
            answers = ({"answer": code}, {"answer": "000000"})
            dialogue = ScriptedDialogue(answers=answers, identity=ALICE)
            await error_of(made.authenticate(dialogue), LoginRejected)
            assert len(dialogue.asked) == 2

    async def test_without_a_second_window_far_ones_are_wrong(self) -> None:
        dialogue = ScriptedDialogue(answers=({"answer": COUNTED[5]},), identity=ALICE)
        made = self.hotp(window=1, resync_window=0)
        error = await error_of(made.authenticate(dialogue), LoginRejected)
        assert str(error) == "the code is wrong"


class SettingsTests:
    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            ({"file": None}, "either file or redis must be set"),
            ({"redis": REDIS}, "either file or redis must be set"),
            ({"file": None, "redis": REDIS}, "secrets_key_file goes together with redis"),
            ({"secrets_key_file": Path("key")}, "secrets_key_file goes together with redis"),
            ({"appended": True}, "appended needs `inside`"),
            ({"digits": 5}, "digits must be"),
            ({"algorithm": "md5"}, "algorithm must be one of sha1"),
            ({"window": 11}, "window must lie between 0 and 10"),
            ({"period_s": 0}, "period_s must lie"),
            ({"most_failures": 0}, "most_failures must be at least 1"),
            ({"lock_time_s": 0.0}, "lock_time_s must be more than 0"),
        ],
    )
    def test_wrong_settings_are_refused_in_words(self, settings: Any, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            authenticator_totp.Settings(**{"file": Path("codes"), **settings})

    def test_windows_of_counted_codes_have_a_bound(self) -> None:
        for wrong in ({"window": 101}, {"resync_window": 1001}):
            with pytest.raises(ValueError, match="must lie between 0 and"):
                authenticator_hotp.Settings(file=Path("codes"), **wrong)  # type: ignore[arg-type]
