"""Credentials that nobody should have, for every authenticator; and what each leaves behind."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.task import deferLater

from anyvpn.errors import LoginRejected
from anyvpn.model.authentication import Answer, SignedCertificates
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import ScriptedDialogue

if TYPE_CHECKING:
    _Contract = AuthenticatorContract
else:
    _Contract = object

PAUSE_S = 0.05
PLANES = tuple(chr(plane * 0x10000 + 0x41) * 3 for plane in range(17))
MEGABYTE = "x" * (1 << 20)
FIXED = (
    *("", "\0", "alice\0", "\0alice", "a\nb", "a\r\nb: c", "\x7f", "\u2028", MEGABYTE, *PLANES),
    *(
        "*",
        "al*",
        "alice)(uid=*",
        "(|(uid=*))",
        "\\2a",
        "\\00",
        "alice,dc=example",
        "#61",
        '"',
        "+;<>",
    ),
    *("%{User-Name}", "%{sql:SELECT 1}", "`id`", "$(id)", "alice@realm", "REALM\\alice", "é" * 64),
    *("x" * 127, "x" * 128, "x" * 129, "x" * 253, "x" * 254, "é" * 1024, "\udcff", "\ud800\udc00"),
    *("%s%n", "{0}", "{user}", "../../etc/passwd", "' OR '1'='1", "<!DOCTYPE a>", "&a;", "]]>"),
)
TAILS = ("\0", "\0x", "*", "x")
TEXTS = st.sampled_from(FIXED) | st.text(max_size=60)


class HostileCredentials(_Contract):
    """Mix it into a case of the authenticator's contract."""

    hostile_logins = 80

    async def test_no_credentials_break_it_and_nothing_is_left_behind(self) -> None:
        authenticator = self.make_authenticator()

        async def log_in(answers: tuple[Answer, ...]) -> str:
            dialogue = ScriptedDialogue(self.request, answers=answers)
            return (await authenticator.authenticate(dialogue)).user

        right = self.right_answers()
        before = await _left_behind()
        for answers in (*_near(right), *_examples(right, self.hostile_logins)):
            if self._is_right(answers, right):
                continue
            try:
                user = await log_in(answers)
            except LoginRejected as error:
                assert "\n" not in str(error), error
            else:
                raise AssertionError(f"{user!r} got in by {answers!r}"[:500])
        self.begin_again()
        assert await log_in(right) == self.user
        close = getattr(authenticator, "close", None)
        if close is not None:
            close()
        after = await _left_behind()
        assert after[0] <= before[0] and after[1] <= before[1], (before, after)

    def begin_again(self) -> None:
        """Called before the right answers are given once more."""

    def _is_right(self, answers: tuple[Answer, ...], right: tuple[Answer, ...]) -> bool:
        for given_, wanted in zip(answers, right, strict=True):
            if not isinstance(given_, Mapping) or not isinstance(wanted, Mapping):
                if given_ != wanted:
                    return False
                continue
            for name, text in given_.items():
                is_name = name == "username"
                if _plain(text) != _plain(wanted[name]) and not (self.any_name and is_name):
                    return False
        return True


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).casefold()


def _near(right: tuple[Answer, ...]) -> Iterator[tuple[Answer, ...]]:
    """All that is right but for the end of one text, which C's strings would not have."""
    for number, answer in enumerate(right):
        for name in answer if isinstance(answer, Mapping) else ():
            for tail in TAILS:
                near = {**answer, name: f"{answer[name]}{tail}"}
                yield (*right[:number], near, *right[number + 1 :])


def _examples(right: tuple[Answer, ...], count: int) -> list[tuple[Answer, ...]]:
    """What hypothesis makes of the right answers; it knows no coroutines itself."""
    found: list[tuple[Answer, ...]] = []

    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*map(_spoiled, right)))
    def collect(answers: tuple[Answer, ...]) -> None:
        found.append(answers)

    collect()
    return found


def _spoiled(answer: Answer) -> st.SearchStrategy[Any]:
    if isinstance(answer, Mapping):
        fields = {name: st.just(text) | TEXTS for name, text in answer.items()}
        return st.fixed_dictionaries(cast(Any, fields))
    if isinstance(answer, SignedCertificates):
        return st.builds(
            lambda chain, signature: replace(answer, chain_pkcs7=chain, signature=signature),
            st.just(answer.chain_pkcs7) | st.binary(max_size=200),
            st.just(answer.signature) | st.binary(max_size=200),
        )
    return st.sampled_from((answer, ()))  # TLS has verified what comes


async def _left_behind() -> tuple[int, int]:
    """Descriptors and threads, the reactor's own aside, when everything has come to rest."""
    await deferLater(cast(Any, reactor), PAUSE_S)
    names = [each.name for each in threading.enumerate()]
    threads = [each for each in names if "twisted.internet.reactor" not in each]
    return len(list(Path("/proc/self/fd").iterdir())), len(threads)
