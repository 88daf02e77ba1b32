"""Keeps users' devices in an SQLite file, for all gateways of one machine."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import TypeVar

from anyvpn.backends.one_time_codes import CodeMaker, Kind
from anyvpn.backends.worker_threads import ThreadsReactor, WorkerThreads
from anyvpn.errors import BackendFailed, ConfigurationError

Result = TypeVar("Result")

# Ours
BUSY_TIME_S = 5.0  # another gateway may be writing
APPLICATION_ID = 0x4156504F  # "AVPO": tells our files from those of other programs
_CREATE = """
CREATE TABLE IF NOT EXISTS codes (
    user TEXT NOT NULL,
    kind TEXT NOT NULL,
    secret BLOB NOT NULL,
    algorithm TEXT NOT NULL,
    digits INTEGER NOT NULL,
    period_s INTEGER NOT NULL,
    next_counter INTEGER NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since_s REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (user, kind)
)"""
_COLUMNS = ", ".join(each.name for each in fields(CodeMaker))
_ALL = f"SELECT {_COLUMNS} FROM codes ORDER BY user, kind"  # noqa: S608 - our own columns
_FIND = f"SELECT {_COLUMNS} FROM codes WHERE user = ? AND kind = ?"  # noqa: S608 - likewise
_PUT = f"INSERT OR REPLACE INTO codes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_REMOVE = "DELETE FROM codes WHERE user = ? AND kind = ?"


class CodeFile:
    """The file; with a reactor it is read and written in a thread of its own, else at once.

    It is opened for each piece of work.
    """

    def __init__(self, path: Path, reactor: ThreadsReactor | None = None) -> None:
        self.path = path
        self._thread = None if reactor is None else WorkerThreads("codes", reactor)
        self._is_closed = False

    def __str__(self) -> str:
        return str(self.path)

    def check(self) -> None:
        """Raises: ConfigurationError: it cannot hold codes; that it is not there yet is no harm."""
        if not self.path.parent.is_dir():
            raise ConfigurationError(
                f"file: {self.path}: the directory {self.path.parent} does not exist"
            )
        try:
            self._devices()
        except BackendFailed as error:
            raise ConfigurationError(f"file: {error}") from None

    async def devices(self) -> tuple[CodeMaker, ...]:
        """All of them, by user and kind. Raises: BackendFailed."""
        return await self._do(self._devices)

    async def prepare(self) -> None:
        """Make the file if it is not there. Raises: BackendFailed: it cannot be written."""
        await self._do(self._prepare)

    async def find(self, user: str, kind: Kind) -> CodeMaker | None:
        """A user's device, if it has one. Raises: BackendFailed."""
        return await self._do(lambda: self._find(user, kind))

    async def put(self, maker: CodeMaker) -> None:
        """Give a user this device, in the place of the one before. Raises: BackendFailed."""
        await self._do(lambda: self._put(maker))

    async def exchange(self, before: CodeMaker, after: CodeMaker) -> bool:
        """Let a device be `after` if it still is `before`; gives whether it was.

        Raises: BackendFailed.
        """
        return await self._do(lambda: self._exchange(before, after))

    async def remove(self, user: str, kind: Kind) -> bool:
        """Forget a user's device; gives whether there was one. Raises: BackendFailed."""
        return await self._do(lambda: self._remove(user, kind))

    def close(self) -> None:
        """End the thread, after what it is at."""
        self._is_closed = True
        if self._thread is not None:
            self._thread.close()

    # --- in the thread ------------------------------------------------------------------------

    async def _do(self, work: Callable[[], Result]) -> Result:
        if self._is_closed:
            raise BackendFailed(f"{self.path} is closed")
        return work() if self._thread is None else await self._thread.run(work)

    def _devices(self) -> tuple[CodeMaker, ...]:
        if not self.path.exists():
            return ()
        with self._transaction("DEFERRED") as rows:
            return tuple(CodeMaker(*each) for each in rows.execute(_ALL))

    def _find(self, user: str, kind: Kind) -> CodeMaker | None:
        if not self.path.exists():
            return None
        with self._transaction("DEFERRED") as rows:
            found = rows.execute(_FIND, (user, kind)).fetchone()
            return None if found is None else CodeMaker(*found)

    def _prepare(self) -> None:
        with self._written() as rows:
            # writing what is there already takes all that writing takes
            rows.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _put(self, maker: CodeMaker) -> None:
        with self._written() as rows:
            rows.execute(_PUT, astuple(maker))

    def _exchange(self, before: CodeMaker, after: CodeMaker) -> bool:
        if not self.path.exists():
            return False
        with self._transaction() as rows:
            if rows.execute(_FIND, (before.user, before.kind)).fetchone() != astuple(before):
                return False
            rows.execute(_PUT, astuple(after))
            return True

    def _remove(self, user: str, kind: Kind) -> bool:
        if not self.path.exists():
            return False
        with self._transaction() as rows:
            return rows.execute(_REMOVE, (user, kind)).rowcount > 0

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """A transaction in the file, which is made for it."""
        try:
            if not self.path.exists():
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise self._unusable(error.strerror) from None
        with self._transaction() as rows:
            yield rows

    @contextmanager
    def _transaction(self, how: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self.path, timeout=BUSY_TIME_S, isolation_level=None)
            ) as connection:
                self._check_kind(connection)
                connection.execute(f"BEGIN {how}")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._unusable(error) from None

    def _unusable(self, why: object) -> BackendFailed:
        return BackendFailed(f"{self.path} cannot be used for codes: {why}")

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA application_id").fetchone()
        if found == APPLICATION_ID:
            return
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise BackendFailed(f"{self.path} is a file of another program")
        connection.execute(_CREATE)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
