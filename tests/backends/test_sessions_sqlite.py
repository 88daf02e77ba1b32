from __future__ import annotations

import json
import sqlite3
import threading
import time
import unittest
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import MappingProxyType
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from anyvpn.backends import sessions_sqlite
from anyvpn.backends.sessions_sqlite import (
    MOST_POLICIES,
    SCHEMA_VERSION,
    Settings,
    SQLiteSessions,
    build,
    from_row,
    to_text,
)
from anyvpn.errors import BackendFailed, ConfigurationError
from anyvpn.interfaces import ISessionStore
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import PROXY_SETTINGS, GroupPolicy
from anyvpn.model.session import Connected, Dormant, Ended, EndReason, Granted, SessionRecord
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.outcomes import error_of
from anyvpn.testing.sessions_contract import FULL, PLAIN, STATES, PersistentSessionsContract


def open_store(path: Path) -> SQLiteSessions:
    return build(Settings(path), cast(Any, reactor))


DIRECTORY = TemporaryDirectory()
"""Of all stores here, until the process ends."""


def new_path() -> Path:
    return Path(mkdtemp(dir=DIRECTORY.name)) / "sessions.sqlite"


class SQLiteSessionsContractTests(PersistentSessionsContract, TestCase):
    def setUp(self) -> None:
        self.path = new_path()

    def make_sessions(self) -> ISessionStore:
        return open_store(self.path)

    def reopen(self) -> ISessionStore:
        return open_store(self.path)


class FileTests(TestCase):
    def setUp(self) -> None:
        self.path = new_path()

    async def write_one(self, record: SessionRecord = PLAIN) -> None:
        store = open_store(self.path)
        await store.save(record)
        await store.close()

    def change(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    def refusal(self) -> str:
        with pytest.raises(ConfigurationError) as caught:
            open_store(self.path)
        return str(caught.value)

    async def test_building_makes_no_file_and_no_thread(self) -> None:
        """twistd builds everything before it forks and changes its user."""
        threads = threading.active_count()
        store = open_store(self.path)
        assert not self.path.exists()
        assert threading.active_count() == threads
        await store.close()

    async def test_files_are_for_their_owner_alone(self) -> None:
        store = open_store(self.path)
        await store.save(PLAIN)
        modes = {each.name: each.stat().st_mode & 0o777 for each in self.path.parent.iterdir()}
        await store.close()
        assert "sessions.sqlite-wal" in modes
        assert set(modes.values()) == {0o600}, modes

    async def test_no_token_digest_of_a_session_is_shown(self) -> None:
        assert PLAIN.token_digest.hex() not in repr(PLAIN)

    async def test_existing_file_is_looked_at_without_a_change(self) -> None:
        await self.write_one()
        before = self.path.read_bytes()
        store = open_store(self.path)
        assert self.path.read_bytes() == before
        assert [each.name for each in self.path.parent.iterdir()] == [self.path.name]
        await store.close()

    async def test_file_of_a_killed_process_is_taken_with_its_journal(self) -> None:
        killed = open_store(self.path)
        await killed.save(FULL)
        copies = new_path().parent
        for file in self.path.parent.iterdir():
            if not file.name.endswith("-shm"):
                (copies / file.name).write_bytes(file.read_bytes())
        await killed.close()
        assert (copies / "sessions.sqlite-wal").stat().st_size
        store = open_store(copies / "sessions.sqlite")
        assert await store.sessions() == (FULL,)
        await store.close()

    def test_missing_directory_is_refused(self) -> None:
        self.path = self.path.parent / "missing" / "sessions.sqlite"
        assert f"the directory {self.path.parent} does not exist" in self.refusal()

    def test_empty_file_is_taken(self) -> None:
        self.path.touch()
        open_store(self.path)

    def test_other_kind_of_file_is_refused(self) -> None:
        self.path.write_bytes(b"[gateway]\n" * 200)
        text = self.refusal()
        assert text.startswith(f"{self.path}: cannot be used as a session store: ")
        assert "move it away" in text

    async def test_sessions_that_cannot_be_read_are_not_to_be_moved_away(self) -> None:
        self.path.mkdir()
        assert self.refusal() == f"{self.path}: cannot be read: Is a directory"
        self.path.rmdir()
        with patch.object(Path, "stat", side_effect=PermissionError(13, "Permission denied")):
            assert self.refusal() == f"{self.path}: cannot be read: Permission denied"
        await self.write_one()
        locked = sqlite3.OperationalError("database is locked")
        with patch.object(sessions_sqlite, "_check_schema", side_effect=locked):
            assert self.refusal().endswith("as a session store: database is locked")

    def test_database_of_another_program_is_refused(self) -> None:
        self.change("CREATE TABLE bookmarks (url)")
        assert "is an SQLite file of another program" in self.refusal()

    async def test_newer_schema_is_refused(self) -> None:
        await self.write_one()
        self.change(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        text = self.refusal()
        assert f"newer anyvpn (schema {SCHEMA_VERSION + 1}, this one knows" in text

    async def test_damaged_file_is_refused(self) -> None:
        store = open_store(self.path)
        for number in range(200):
            await store.save(replace(FULL, token_digest=number.to_bytes(32)))
        await store.close()
        content = bytearray(self.path.read_bytes())
        content[8192:-4096] = b"\xa5" * (len(content) - 8192 - 4096)
        self.path.write_bytes(content)
        assert "move it away" in self.refusal()

    async def test_file_that_becomes_unusable_fails_the_request_alone(self) -> None:
        store = open_store(self.path)
        self.path.mkdir()
        error = await error_of(store.save(PLAIN), BackendFailed)
        assert str(self.path) in str(error)
        self.path.rmdir()
        await store.save(PLAIN)
        assert await store.find(PLAIN.token_digest) == PLAIN
        await store.close()

    async def test_unreadable_record_is_left_out_and_the_others_stay(self) -> None:
        await self.write_one(PLAIN)
        await self.write_one(FULL)
        for text in ("'{'", "'[]'", "'{}'", "'null'", "x'ff'", "7"):
            self.change(f"UPDATE sessions SET record = {text} WHERE session_id = 1")
            store = open_store(self.path)
            assert await store.sessions() == (FULL,)
            assert await store.find(PLAIN.token_digest) is None
            await store.close()

    async def test_oldest_session_comes_first_however_often_it_is_saved(self) -> None:
        await self.write_one(PLAIN)
        await self.write_one(FULL)
        await self.write_one(PLAIN)
        store = open_store(self.path)
        assert await store.sessions() == (PLAIN, FULL)
        await store.close()


class ThreadTests(TestCase):
    async def test_slow_disk_does_not_block_the_reactor(self) -> None:
        path = new_path()
        store = open_store(path)
        await store.save(PLAIN)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            started_s = time.monotonic()
            saved = Deferred.fromCoroutine(store.save(FULL))
            assert time.monotonic() - started_s < 0.1
            assert not saved.called
            connection.execute("COMMIT")
        await saved
        assert await store.find(FULL.token_digest) == FULL
        await store.close()

    async def test_waiting_jobs_are_bounded(self) -> None:
        path = new_path()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sessions_sqlite, "MOST_WAITING", 2)
            store = open_store(path)
        await store.save(PLAIN)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            saved = [Deferred.fromCoroutine(store.save(PLAIN)) for _ in range(3)]
            await error_of(saved[2], BackendFailed)
            connection.execute("COMMIT")
        await saved[0]
        await saved[1]
        await store.save(PLAIN)
        await store.close()

    async def test_closing_ends_the_thread(self) -> None:
        threads = threading.active_count()
        store = open_store(new_path())
        await store.save(PLAIN)
        assert threading.active_count() > threads
        await store.close()
        assert threading.active_count() == threads


TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
TIMES = st.floats(allow_nan=False)
RECORDS: st.SearchStrategy[SessionRecord] = st.builds(
    SessionRecord,
    token_digest=st.binary(max_size=32),
    session_id=st.integers(0, 2**31 - 1),
    identity=st.builds(
        Identity,
        st.text(st.characters(exclude_categories=()), min_size=1, max_size=20),
        st.frozensets(TEXTS, max_size=3),
        st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2).map(tuple), max_size=2).map(
            MappingProxyType
        ),
    ),
    profile=TEXTS,
    policy=st.builds(
        GroupPolicy,
        name=TEXTS,
        dns=st.lists(st.ip_addresses(), max_size=2).map(tuple),
        ipv4=st.booleans(),
        banner=TEXTS,
        proxy=st.dictionaries(st.sampled_from(PROXY_SETTINGS), TEXTS, max_size=2).map(
            MappingProxyType
        ),
    ),
    granted_at_s=TIMES,
    state=st.one_of(
        st.builds(Granted, TIMES),
        st.builds(Connected, TIMES),
        st.builds(Dormant, TIMES),
        st.builds(Ended, st.sampled_from(EndReason)),
    ),
    lease=st.none()
    | st.builds(
        Lease,
        st.from_regex(r"10\.[0-9]\.[0-9]\.[0-9]/(8|24)", fullmatch=True).map(IPv4Interface),
    ),
    peer_address=TEXTS,
    hostname=TEXTS,
)


class RecordTests(unittest.TestCase):
    @settings(max_examples=100)
    @given(RECORDS)
    def test_every_record_comes_back(self, record: SessionRecord) -> None:
        assert from_row(1, to_text(record)) == record

    def test_policies_by_the_hundred_are_told_apart(self) -> None:
        """Their texts are kept, some of them: a policy may lie where another one lay."""
        for number in range(3 * MOST_POLICIES):
            record = replace(PLAIN, policy=GroupPolicy(f"policy {number}"))
            assert from_row(1, to_text(record)) == record
            assert from_row(1, to_text(FULL)) == FULL

    def test_text_cut_off_anywhere_is_no_record(self) -> None:
        text = to_text(FULL)
        for length in range(len(text)):
            assert from_row(1, text[:length]) is None

    def test_each_missing_or_replaced_value_raises_nothing(self) -> None:
        content = json.loads(to_text(FULL))
        state = {"state": "Elsewhere"}
        values: list[object] = [None, 7, "x", [], {}, state, [[]], "10.0.0.1/99"]
        for key in content:
            for value in values:
                from_row(1, json.dumps({**content, key: value}))
            from_row(1, json.dumps({k: v for k, v in content.items() if k != key}))

    def test_records_of_an_older_program_get_the_defaults_of_new_fields(self) -> None:
        content = json.loads(to_text(PLAIN))
        del content["hostname"], content["policy"]["banner"]
        content["of a later one"] = True
        assert from_row(1, json.dumps(content)) == PLAIN

    def test_states_keep_their_kind(self) -> None:
        for state in STATES:
            record = from_row(1, to_text(replace(PLAIN, state=state)))
            assert record is not None
            assert type(record.state) is type(state)
