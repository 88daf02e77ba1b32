"""Keeps sessions in an SQLite file, so that they outlive the process."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.backends.sqlite_thread import Job, SQLiteThread, ThreadReactor
from anyvpn.errors import BackendFailed, ConfigurationError
from anyvpn.interfaces import ISessionStore
from anyvpn.model.group_policy import Address, GroupPolicy, Network
from anyvpn.model.session import SessionRecord, SessionState

log = Logger()

# From SQLite
_PRIMARY_CODE = 0xFF  # of a result code; the rest says where it came from
_BEYOND_USE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)

# Ours
SCHEMA_VERSION = 1
APPLICATION_ID = 0x41565053  # "AVPS": tells our files from those of other programs
BUSY_TIME_S = 5.0  # another process may be writing
MOST_WAITING = 10_000  # jobs; a disk that is behind by more does not work
MOST_POLICIES = 64  # whose text is kept
_MOVE_AWAY = "move it away to begin with an empty one"

_CREATE = """
CREATE TABLE sessions (
    token_digest BLOB PRIMARY KEY,
    session_id INTEGER NOT NULL,
    record TEXT NOT NULL
)"""
_SAVE = """
INSERT INTO sessions (token_digest, session_id, record) VALUES (?, ?, ?)
ON CONFLICT (token_digest) DO UPDATE SET session_id = excluded.session_id, record = excluded.record
"""
_REMOVE = "DELETE FROM sessions WHERE token_digest = ?"

Result = TypeVar("Result")


@attrs.frozen
class Settings:
    """Where sessions are kept."""

    file: Path = attrs.field(
        metadata={"help": "The SQLite file; it is made when it is not there."},
    )


def build(settings: Settings, reactor: ThreadReactor) -> SQLiteSessions:
    """What the configuration `backend = "sqlite"` makes.

    The file is looked at, but not made nor kept open: the process may yet fork and change its
    user. Raises: ConfigurationError: the file cannot be used.
    """
    check_file(settings.file)
    return SQLiteSessions(settings.file, reactor)


def check_file(path: Path) -> None:
    """Raises: ConfigurationError: this file cannot hold sessions; the text says why."""
    try:
        if not path.parent.is_dir():
            raise ConfigurationError(f"{path}: the directory {path.parent} does not exist")
        if not path.exists():
            return
        path.open("rb").close()  # of this SQLite says nothing but that it cannot
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    # without a journal nobody writes, and SQLite may be told so: it then leaves no files behind
    # that belong to root when the gateway is somebody else
    file = path.resolve()
    journal = file.with_name(file.name + "-wal")
    how = "?mode=ro" if journal.exists() else "?mode=ro&immutable=1"
    try:
        with closing(
            sqlite3.connect(file.as_uri() + how, uri=True, timeout=BUSY_TIME_S)
        ) as connection:
            _check_schema(path, connection)
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
        advice = f"; {_MOVE_AWAY}" if code in _BEYOND_USE else ""
        raise ConfigurationError(
            f"{path}: cannot be used as a session store: {error}{advice}"
        ) from error
    if found != "ok":
        raise ConfigurationError(f"{path}: is damaged: {found}; {_MOVE_AWAY}")


@implementer(ISessionStore)
class SQLiteSessions:
    """All work is done by one thread, in the order in which it was asked for."""

    def __init__(self, path: Path, reactor: ThreadReactor) -> None:
        self._path = path
        self._most_waiting = MOST_WAITING
        self._thread = SQLiteThread("sessions", reactor, partial(_connect, path))

    async def save(self, record: SessionRecord) -> None:
        """Insert or replace. Raises BackendFailed."""
        row = (record.token_digest, record.session_id, to_text(record))
        await self._do(lambda connection: _write(connection, _SAVE, row))

    async def find(self, token_digest: bytes) -> SessionRecord | None:
        """The session with this digest, if there is one that can be read. Raises BackendFailed."""
        rows = await self._do(
            lambda connection: connection.execute(
                "SELECT session_id, record FROM sessions WHERE token_digest = ?", (token_digest,)
            ).fetchall()
        )
        return from_row(*rows[0]) if rows else None

    async def remove(self, token_digest: bytes) -> None:
        """Forget it, if it is there. Raises BackendFailed."""
        await self._do(lambda connection: _write(connection, _REMOVE, (token_digest,)))

    async def sessions(self) -> tuple[SessionRecord, ...]:
        """All that can be read, oldest first; the others are logged. Raises BackendFailed."""
        rows = await self._do(
            lambda connection: connection.execute(
                "SELECT session_id, record FROM sessions ORDER BY rowid"
            ).fetchall()
        )
        records = (from_row(*row) for row in rows)
        return tuple(record for record in records if record is not None)

    async def close(self) -> None:
        """Wait for everything that was asked for before, then let go of file and thread."""
        await self._thread.close()

    async def _do(self, job: Job[Result]) -> Result:
        if self._thread.is_closed:
            raise BackendFailed(f"{self._path}: the session store is closed")
        if self._thread.waiting >= self._most_waiting:
            raise BackendFailed(f"{self._path}: {self._most_waiting} jobs wait for the disk")
        try:
            return await self._thread.do(job)
        except (sqlite3.Error, OSError) as error:
            raise BackendFailed(f"{self._path}: {error}") from error
        except ConfigurationError as error:
            raise BackendFailed(str(error)) from error


def _write(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> None:
    """The cursor stays in the thread: whoever lets go of it waits for what SQLite does."""
    connection.execute(statement, values)


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_TIME_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        if not _check_schema(path, connection):
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether our tables are there; no tables at all is fine too. Raises ConfigurationError."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if not tables and not application:
        return False
    if application != APPLICATION_ID:
        raise ConfigurationError(f"{path}: is an SQLite file of another program")
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{path}: was written by a newer anyvpn (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); {_MOVE_AWAY}"
        )
    return True


# --- records as text -----------------------------------------------------------------------


def _make_converter() -> cattrs.Converter:
    converter = make_converter()
    for address_class in (
        IPv4Address,
        IPv6Address,
        IPv4Interface,
        IPv6Interface,
        IPv4Network,
        IPv6Network,
    ):
        converter.register_structure_hook(address_class, lambda text, kind: kind(text))
        converter.register_unstructure_hook(address_class, str)
    converter.register_structure_hook(Address, lambda text, _: ip_address(text))
    converter.register_structure_hook(Network, lambda text, _: ip_network(text))
    _register_mapping(converter, Mapping[str, str], dict[str, str])
    _register_mapping(converter, Mapping[str, tuple[str, ...]], dict[str, tuple[str, ...]])
    configure_tagged_union(SessionState, converter, tag_name="state")
    return converter


def _register_mapping(converter: cattrs.Converter, mapping: object, table: Any) -> None:
    def structure(content: Any, _: object) -> Mapping[str, object]:
        return MappingProxyType(converter.structure(content, table))

    def unstructure(content: Mapping[str, object]) -> object:
        return converter.unstructure(dict(content), table)

    converter.register_structure_hook_func(lambda kind: kind == mapping, structure)
    converter.register_unstructure_hook_func(lambda kind: kind == mapping, unstructure)


def _without_policies() -> cattrs.Converter:
    converter = _make_converter()
    converter.register_unstructure_hook(GroupPolicy, lambda _: None)
    return converter


_CONVERTER = _make_converter()
_RECORD_CONVERTER = _without_policies()
_POLICY_TEXTS: dict[int, tuple[GroupPolicy, str]] = {}
"""By the identity of each policy, which is kept along with its text, so that no other gets it."""


def to_text(record: SessionRecord) -> str:
    """A record as JSON."""
    content = _RECORD_CONVERTER.unstructure(record)
    del content["policy"]
    text = json.dumps(content, ensure_ascii=True)
    return f'{text[:-1]}, "policy": {_policy_text(record.policy)}}}'


def _policy_text(policy: GroupPolicy) -> str:
    """Most of a record, and the same for all sessions that the same rules have granted."""
    known = _POLICY_TEXTS.get(id(policy))
    if known is None:
        if len(_POLICY_TEXTS) >= MOST_POLICIES:
            _POLICY_TEXTS.clear()
        text = json.dumps(_CONVERTER.unstructure(policy), ensure_ascii=True)
        known = _POLICY_TEXTS[id(policy)] = policy, text
    return known[1]


def from_row(session_id: int, text: str) -> SessionRecord | None:
    """The record of a row; None, and a log line, when it cannot be read."""
    try:
        content: Any = json.loads(text)
        return _CONVERTER.structure(content, SessionRecord)
    except (
        cattrs.BaseValidationError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
    ) as error:
        # the content itself stays out of the log: it is a user's
        log.error(
            "The stored session {session} cannot be read and is left out: {problem}",
            session=session_id,
            problem=type(error).__name__,
        )
        return None
