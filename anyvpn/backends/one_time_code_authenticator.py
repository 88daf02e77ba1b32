"""The authenticator of one-time codes, whatever they are made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import BoundedSemaphore
from typing import ParamSpec, TypeVar

import attrs
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from anyvpn.backends.one_time_code_dialogue import (
    ask_along,
    ask_for_code,
    challenge,
    without_spaces,
)
from anyvpn.backends.one_time_codes import ALGORITHMS, CodeFile, Guessing, Kind
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Identity
from anyvpn.model.credentials import read_text

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Ours
MOST_WAITING = 1024


class _Reactor(IReactorCore, IReactorFromThreads):
    """What the authenticator needs of a reactor."""


@attrs.frozen
class CodeSettings:
    """What both kinds of codes have in common."""

    file: Path = attrs.field(
        metadata={
            "help": "The users' secrets and used codes (SQLite); `anyvpn user` keeps it.",
            "example": "codes.sqlite",
        }
    )
    inside: IAuthenticator | None = attrs.field(
        default=None,
        metadata={
            "help": "Authenticator whose form gets a field for the code; none: a form of its own."
        },
    )
    appended: bool = attrs.field(
        default=False,
        metadata={"help": "Whether the code stands right behind the password of `inside`."},
    )
    message: str = attrs.field(
        default="Please enter your one-time code.",
        metadata={"help": "What users read above the field of the code."},
    )
    digits: int = attrs.field(
        default=6, metadata={"help": "How long codes of new devices are: 6, 7 or 8."}
    )
    algorithm: str = attrs.field(
        default="sha1", metadata={"help": "Of new devices: sha1, sha256 or sha512."}
    )
    most_failures: int = attrs.field(
        default=10, metadata={"help": "Wrong codes of a user in a row until it must wait."}
    )
    lock_time_s: float = attrs.field(
        default=300.0, metadata={"help": "How long it must wait then, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        if self.appended and self.inside is None:
            raise ValueError("appended needs `inside`, whose password it stands behind")
        if self.digits not in (6, 7, 8):
            raise ValueError("digits must be 6, 7 or 8")
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}")
        if self.most_failures < 1:
            raise ValueError("most_failures must be at least 1")
        if self.lock_time_s <= 0:
            raise ValueError("lock_time_s must be more than 0")


@implementer(IAuthenticator)
class CodeAuthenticator:
    """Asks for a code; the file is read and written in a thread of its own."""

    def __init__(
        self,
        kind: Kind,
        settings: CodeSettings,
        reactor: _Reactor,
        *,
        window: int,
        resync_window: int = 0,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        """Raises: ConfigurationError: the file cannot hold codes."""
        self._kind: Kind = kind
        self._settings = settings
        self._file = CodeFile(settings.file, Guessing(settings.most_failures, settings.lock_time_s))
        self._file.check()
        self._window = window
        self._resync_window = resync_window
        self._time_of_day = time_of_day
        self._reactor = reactor
        self._room = BoundedSemaphore(MOST_WAITING)
        self._closed = False
        # the thread begins with the first login, which is after the process has forked
        self._pool = ThreadPool(0, 1, f"{kind} codes")
        self._pool.start()
        reactor.addSystemEventTrigger("during", "shutdown", self.close)

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who is known already, whom the other authenticator finds, or who says so.

        Raises: LoginRejected: the code is wrong or used, or the user has no device.
        Raises: BackendFailed: the file cannot be used.
        """
        settings = self._settings
        if settings.inside is None:
            identity, code = await ask_for_code(dialogue, settings.message)
        else:
            digits = settings.digits if settings.appended else 0
            identity, code = await ask_along(dialogue, settings.inside, settings.message, digits)
        try:
            await self._in_thread(self._use_up, identity.user, (code,), self._window)
        except LoginRejected:
            if not await self._in_thread(self._is_far, identity.user, code):
                raise
            form = challenge("Please enter the next code of your device.", identity)
            answer = await dialogue.ask(form)
            codes = (code, without_spaces(read_text(answer, "answer")))
            await self._in_thread(self._use_up, identity.user, codes, self._resync_window)
        return identity

    def close(self) -> None:
        """End the thread, after what it is at."""
        self._closed = True
        if self._pool.started:
            self._pool.stop()

    async def _in_thread(
        self,
        work: Callable[Parameters, Result],
        *arguments: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Result:
        if self._closed:
            raise BackendFailed("the authenticator is closed")
        if not self._room.acquire(blocking=False):
            raise BackendFailed(f"{MOST_WAITING} codes wait to be checked")
        try:
            return await deferToThreadPool(self._reactor, self._pool, work, *arguments, **options)
        finally:
            self._room.release()

    def _use_up(self, user: str, codes: tuple[str, ...], window: int) -> None:
        self._file.use_up(user, self._kind, codes, window=window, now_s=self._time_of_day())

    def _is_far(self, user: str, code: str) -> bool:
        """Whether the code is one that the device shows after many others that nobody used."""
        maker = self._file.find(user, self._kind) if self._resync_window else None
        if maker is None:
            return False
        near = maker.next_counter + self._window + 1
        far = range(near, maker.next_counter + self._resync_window + 1)
        return maker.find(code, far) is not None


def check_window(name: str, value: int, most: int) -> None:
    """Raises: ValueError: so many codes would be good at a time that one can be guessed."""
    if not 0 <= value <= most:
        raise ValueError(f"{name} must lie between 0 and {most}")
