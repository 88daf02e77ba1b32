"""The authenticator of one-time codes, whatever they are made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from zope.interface import implementer

from anyvpn.backends.one_time_code_dialogue import (
    ask_along,
    ask_for_code,
    challenge,
    without_spaces,
)
from anyvpn.backends.one_time_code_file import CodeFile
from anyvpn.backends.one_time_code_redis import CodeRedis, read_key
from anyvpn.backends.one_time_code_store import CodeStore, use_up
from anyvpn.backends.one_time_codes import ALGORITHMS, Guessing, Kind
from anyvpn.backends.redis_server import RedisServer
from anyvpn.backends.redis_settings import RedisSettings
from anyvpn.errors import LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Identity
from anyvpn.model.credentials import read_text


@attrs.frozen
class CodeSettings:
    """What both kinds of codes have in common."""

    file: Path | None = attrs.field(
        default=None,
        metadata={
            "help": "The users' secrets and used codes (SQLite), for gateways of one machine.",
            "example": "codes.sqlite",
        },
    )
    redis: RedisSettings | None = attrs.field(
        default=None,
        metadata={"help": "Or the Redis that has them, for gateways of several machines."},
    )
    secrets_key_file: Path | None = attrs.field(
        default=None,
        metadata={
            "help": "File with the key that seals the secrets in Redis, the same on each machine.",
            "example": "codes.key",
        },
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
        default=300.0, metadata={"help": "Seconds since the first of them until it need not."}
    )

    def __attrs_post_init__(self) -> None:
        if (self.file is None) == (self.redis is None):
            raise ValueError("either file or redis must be set: where secrets and used codes are")
        if (self.redis is None) != (self.secrets_key_file is None):
            raise ValueError("secrets_key_file goes together with redis, whose secrets it seals")
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
    """Asks for a code, and lets it be used up."""

    def __init__(
        self,
        kind: Kind,
        settings: CodeSettings,
        store: CodeStore,
        *,
        window: int,
        resync_window: int = 0,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._kind: Kind = kind
        self._settings = settings
        self._store = store
        self._guessing = Guessing(settings.most_failures, settings.lock_time_s)
        self._window = window
        self._resync_window = resync_window
        self._time_of_day = time_of_day

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Who is known already, whom the other authenticator finds, or who says so.

        Raises: LoginRejected: the code is wrong or used, or the user has no device.
        Raises: BackendFailed: the file or Redis cannot be used.
        """
        settings = self._settings
        if settings.inside is None:
            identity, code = await ask_for_code(dialogue, settings.message)
        else:
            digits = settings.digits if settings.appended else 0
            identity, code = await ask_along(dialogue, settings.inside, settings.message, digits)
        try:
            await self._use_up(identity.user, (code,), self._window)
        except LoginRejected:
            if not self._resync_window:
                raise
            # Whatever was wrong with it: a question would tell which codes are still to come
            form = challenge("Please enter the next code of your device.", identity)
            answer = await dialogue.ask(form)
            codes = (code, without_spaces(read_text(answer, "answer")))
            await self._use_up(identity.user, codes, self._resync_window)
        return identity

    def close(self) -> None:
        """Let go of the file or of Redis."""
        self._store.close()

    async def _use_up(self, user: str, codes: tuple[str, ...], window: int) -> None:
        await use_up(
            *(self._store, user, self._kind, codes, self._guessing),
            window=window,
            now_s=self._time_of_day(),
        )


def open_store(settings: CodeSettings, reactor: Any) -> CodeStore:
    """The file or the Redis that the settings name.

    Raises: ConfigurationError: it cannot hold codes, as far as that can be seen from here.
    """
    if settings.file is not None:
        file = CodeFile(settings.file, reactor)
        file.check()
        return file
    assert settings.redis is not None and settings.secrets_key_file is not None
    server = RedisServer(settings.redis, reactor)
    return CodeRedis(server, settings.redis.prefix, read_key(settings.secrets_key_file))


def check_window(name: str, value: int, most: int) -> None:
    """Raises: ValueError: so many codes would be good at a time that one can be guessed."""
    if not 0 <= value <= most:
        raise ValueError(f"{name} must lie between 0 and {most}")
