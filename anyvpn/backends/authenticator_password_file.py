"""Checks passwords against a user file, in threads of its own."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes
from threading import Lock

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.backends.authenticator_password_file_users import (
    HashCost,
    StoredUser,
    cost_of,
    hash_of_nothing,
    matches,
    read_users,
)
from anyvpn.backends.file_stamps import stamp_of
from anyvpn.backends.worker_threads import ThreadsReactor, WorkerThreads
from anyvpn.errors import ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Identity
from anyvpn.model.credentials import password_form, read_credentials

log = Logger()

# Ours
MOST_WAITING = 1024  # passwords to be checked; more means an attack, or far too few threads
MOST_THREADS = 64


@attrs.frozen
class Settings:
    """The file, what a new hash costs, and how many are computed at a time."""

    file: Path = attrs.field(
        metadata={"help": "The user file; `anyvpn user` edits it, a change is noticed by itself."}
    )
    memory_kib: int = attrs.field(
        default=65536, metadata={"help": "Memory that a new password hash takes, in KiB."}
    )
    passes: int = attrs.field(
        default=3, metadata={"help": "Passes over this memory for a new password hash."}
    )
    lanes: int = attrs.field(
        default=4, metadata={"help": "Lanes of this memory that are computed at a time."}
    )
    max_parallel: int = attrs.field(
        default=2, metadata={"help": "Passwords checked at a time, each taking its memory."}
    )

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.max_parallel <= MOST_THREADS:
            raise ValueError(f"max_parallel must lie between 1 and {MOST_THREADS}")
        HashCost(self.memory_kib, self.passes, self.lanes)

    @property
    def cost(self) -> HashCost:
        """What new hashes cost."""
        return HashCost(self.memory_kib, self.passes, self.lanes)


def build(settings: Settings, reactor: ThreadsReactor) -> PasswordFile:
    """What the configuration `backend = "password_file"` makes. Raises ConfigurationError."""
    return PasswordFile(settings, reactor)


@implementer(IAuthenticator)
class PasswordFile:
    """Asks for name and password; hashes are computed in threads of its own."""

    def __init__(self, settings: Settings, reactor: ThreadsReactor) -> None:
        self._users = _WatchedUsers(settings.file, settings.cost)
        self._threads = WorkerThreads(
            "passwords", reactor, most=settings.max_parallel, most_waiting=MOST_WAITING
        )

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """Ask for name and password.

        Raises: LoginRejected: unknown user or wrong password; both take the same time.
        Raises: BackendFailed: too many passwords wait to be checked.
        """
        answer = await dialogue.ask(password_form(dialogue.identity))
        said = read_credentials(answer, dialogue.identity)
        return await self._threads.run(
            lambda: self._users.current().identify(said.username, said.password)
        )

    def close(self) -> None:
        """End the threads, after the passwords that they are at; nobody can log in any more."""
        self._threads.close()


class _Users:
    """All users as the file had them at one moment."""

    def __init__(self, users: Mapping[str, StoredUser], cost: HashCost) -> None:
        self._users = users
        self._secret = token_bytes(32)
        self._costs = [cost_of(user.password_hash) for user in users.values()] or [cost]

    def weaker_than(self, cost: HashCost) -> int:
        """How many hashes are cheaper to guess than new ones."""
        return sum(1 for each in self._costs if each.is_weaker_than(cost))

    def identify(self, name: str, password: str) -> Identity:
        """Who it is. Raises LoginRejected."""
        user = self._users.get(name)
        stored = user.password_hash if user is not None else self._hash_of_nobody(name)
        right = matches(stored, password)
        if user is None:
            raise LoginRejected("unknown user")
        if not right:
            raise LoginRejected("wrong password")
        return Identity(user.name, frozenset(user.groups))

    def _hash_of_nobody(self, name: str) -> str:
        """A hash that nothing matches, as costly as one of the users': always the same one's."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=self._secret).digest()
        cost = self._costs[int.from_bytes(digest[:8], "big") % len(self._costs)]
        return hash_of_nothing(cost)


class _WatchedUsers:
    """The users of a file, read again when it has changed; used by several threads."""

    def __init__(self, path: Path, cost: HashCost) -> None:
        self._path = path
        self._cost = cost
        self._lock = Lock()
        self._stamp = stamp_of(path)
        self._users = self._read()

    def current(self) -> _Users:
        """The users as they are now; when the file has become unusable, as they were before."""
        with self._lock:
            stamp = stamp_of(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._users = self._read()
                    log.info("User file {path} has changed and is read again", path=self._path)
                except ConfigurationError as error:
                    log.error(
                        "User file {path} has changed but cannot be used, "
                        "the users stay as they were: {problems}",
                        path=self._path,
                        problems=str(error),
                    )
            return self._users

    def _read(self) -> _Users:
        users = _Users(read_users(self._path), self._cost)
        weaker = users.weaker_than(self._cost)
        if weaker:
            log.warn(
                "{count} password hashes in {path} are cheaper to guess than the configuration "
                "asks for; `anyvpn user passwd` makes new ones",
                count=weaker,
                path=self._path,
            )
        with suppress(OSError):  # gone again already, which the next look will notice
            if self._path.stat().st_mode & stat.S_IRWXO:
                log.warn("User file {path} is open to every user of this machine", path=self._path)
        return users
