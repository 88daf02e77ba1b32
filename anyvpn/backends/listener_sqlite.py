"""Keeps a table of sessions in an SQLite file, for reports and for billing."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import attrs
from twisted.internet.interfaces import IReactorCore
from zope.interface import implementer

from anyvpn.backends.accounting import SessionFacts, Writer, session_facts, utc
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IEventListener
from anyvpn.model.events import Event, EventKind

# Ours
BUSY_TIME_S = 5.0
APPLICATION_ID = 0x41565041  # "AVPA": tells our files from those of other programs
_CREATE = """
CREATE TABLE sessions (
    accounting_id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    user_groups TEXT NOT NULL,
    profile TEXT NOT NULL,
    policy TEXT NOT NULL,
    peer TEXT NOT NULL,
    addresses TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    started TEXT NOT NULL,
    last_seen TEXT NOT NULL,
    ended TEXT,
    reason TEXT,
    duration_s REAL NOT NULL,
    received_bytes INTEGER NOT NULL,
    sent_bytes INTEGER NOT NULL,
    received_packets INTEGER NOT NULL,
    sent_packets INTEGER NOT NULL
)"""
_INDEX = "CREATE INDEX sessions_by_user ON sessions (user, started)"
_SAVE = """
INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (accounting_id) DO UPDATE SET
    peer = excluded.peer, addresses = excluded.addresses, last_seen = excluded.last_seen,
    ended = excluded.ended, reason = excluded.reason, duration_s = excluded.duration_s,
    received_bytes = excluded.received_bytes, sent_bytes = excluded.sent_bytes,
    received_packets = excluded.received_packets, sent_packets = excluded.sent_packets
WHERE sessions.ended IS NULL
"""


@attrs.frozen
class Settings:
    """Which file."""

    file: Path = attrs.field(
        metadata={
            "help": "The SQLite file; it is made when it is not there.",
            "example": "/var/lib/anyvpn/accounting.sqlite",
        }
    )


def build(settings: Settings, reactor: IReactorCore) -> SQLiteAccounting:
    """What the configuration `backend = "sqlite"` makes. Raises: ConfigurationError."""
    if not settings.file.parent.is_dir():
        raise ConfigurationError(f"file: the directory {settings.file.parent} does not exist")
    if settings.file.exists():
        try:
            connection = sqlite3.connect(settings.file, timeout=BUSY_TIME_S)
            try:
                _is_ours(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise ConfigurationError(f"file: {settings.file} cannot be used: {error}") from None
    return SQLiteAccounting(settings.file, reactor)


@implementer(IEventListener)
class SQLiteAccounting:
    """One row for each session, written when it starts, reports and ends."""

    def __init__(self, path: Path, reactor: IReactorCore) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._writer = Writer(str(path), reactor, ends=self._disconnect)

    def event_happened(self, event: Event) -> None:
        """Write the row of its session soon."""
        facts = session_facts(event)
        if facts is not None:
            reason = event.reason.name.lower() if event.reason is not None else None
            self._writer.put(self._save, row_of(facts, reason))

    def close(self) -> None:
        """Write what waits, and end."""
        self._writer.close()

    def _save(self, row: tuple[object, ...]) -> None:
        try:
            connection = self._connected()
            connection.execute(_SAVE, row)
        except sqlite3.Error:
            self._disconnect()  # the next one may find another file, or room on the disk
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIME_S, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if not _is_ours(connection):
                connection.execute(_CREATE)
                connection.execute(_INDEX)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def row_of(facts: SessionFacts, reason: str | None) -> tuple[object, ...]:
    """The row of a session, in the order of the columns."""
    record, counters = facts.record, facts.record.counters
    now = utc(facts.at_s)
    texts = (
        record.accounting_id,
        record.identity.user,
        ",".join(sorted(record.identity.groups)),
        record.profile,
        record.policy.name,
        record.peer_address,
        " ".join(facts.addresses),
        record.user_agent,
    )
    return (
        *(each.encode("utf-8", "replace").decode("utf-8") for each in texts),
        utc(record.started_at_s),
        now,
        now if facts.kind is EventKind.SESSION_ENDED else None,
        reason,
        round(facts.duration_s, 3),
        counters.received_bytes,
        counters.sent_bytes,
        counters.received_packets,
        counters.sent_packets,
    )


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether our table is there; an empty file is fine. Raises: sqlite3.Error: another's."""
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    if found == APPLICATION_ID:
        return True
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        raise sqlite3.DatabaseError("it is a file of another program")
    return False
