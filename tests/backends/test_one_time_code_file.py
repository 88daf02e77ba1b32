"""Tests of anyvpn.backends.one_time_code_file, with a thread and without one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from anyvpn.backends.one_time_code_file import CodeFile
from anyvpn.backends.one_time_code_store import CodeStore
from anyvpn.errors import BackendFailed, ConfigurationError
from anyvpn.testing.outcomes import completed
from tests.backends.code_store_contract import CodeStoreContract
from tests.backends.test_one_time_codes import timed

ONE_OF_MANY = """
import sys
from pathlib import Path
from anyvpn.backends.one_time_code_file import CodeFile
from anyvpn.backends.one_time_code_store import use_up
from anyvpn.backends.one_time_codes import Guessing
from anyvpn.errors import LoginRejected
from anyvpn.testing.outcomes import completed
sys.stdin.readline()
work = use_up(CodeFile(Path(sys.argv[1])), "alice", "totp", ("287082",), Guessing(),
    window=1, now_s=59)
try:
    completed(work)
    print("in")
except LoginRejected as error:
    print(error)
"""


class InThreadTests(TestCase, CodeStoreContract):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())

    def make_store(self) -> CodeStore:
        store = CodeFile(self.file, reactor)  # type: ignore[arg-type]  # trial's
        self.addCleanup(store.close)
        return store


class AtOnceTests(TestCase, CodeStoreContract):
    def setUp(self) -> None:
        self.file = Path(self.mktemp())

    def make_store(self) -> CodeStore:
        return CodeFile(self.file)


class FileTests:
    @pytest.fixture
    def file(self, tmp_path: Path) -> CodeFile:
        return CodeFile(tmp_path / "codes.sqlite")

    def test_nobody_else_can_read_it(self, file: CodeFile) -> None:
        completed(file.put(timed()))
        assert file.path.stat().st_mode & 0o777 == 0o600

    def test_of_many_processes_one_gets_in(self, file: CodeFile) -> None:
        """As with several gateways on one file."""
        completed(file.put(timed()))
        running = [
            subprocess.Popen(
                [sys.executable, "-c", ONE_OF_MANY, str(file.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for _ in range(3)
        ]
        for each in running:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        said = sorted(each.communicate(timeout=30)[0].strip() for each in running)
        assert said == ["in", "the code was used before", "the code was used before"]

    def test_files_of_others_are_refused(self, file: CodeFile, tmp_path: Path) -> None:
        with sqlite3.connect(file.path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        with pytest.raises(ConfigurationError, match="is a file of another program"):
            file.check()
        file.path.write_bytes(b"not SQLite at all" * 100)
        with pytest.raises(ConfigurationError, match=r"file: .* cannot be used for codes"):
            file.check()
        with pytest.raises(BackendFailed):
            completed(file.find("alice", "totp"))
        with pytest.raises(ConfigurationError, match=r"file: .* does not exist"):
            CodeFile(tmp_path / "none" / "codes").check()

    def test_what_cannot_be_written_is_told(self, file: CodeFile, tmp_path: Path) -> None:
        for nowhere, why in (("none", "No such file"), ("codes.sqlite", "Not a directory")):
            elsewhere = CodeFile(tmp_path / nowhere / "codes")
            for work in (elsewhere.prepare(), elsewhere.put(timed())):
                with pytest.raises(BackendFailed, match=f"codes cannot be used for codes: {why}"):
                    completed(work)
            completed(file.prepare())
        # where nothing beside the file can be made, no journal can: root may everywhere
        file.path.with_name("codes.sqlite-journal").mkdir()
        with pytest.raises(BackendFailed, match="codes: disk I/O error"):
            completed(file.prepare())

    def test_a_row_that_is_no_device_is_told(self, file: CodeFile) -> None:
        completed(file.put(timed()))
        with sqlite3.connect(file.path) as connection:
            connection.execute("UPDATE codes SET digits = 4")
        with pytest.raises(BackendFailed, match="cannot be used for codes: digits must be"):
            completed(file.find("alice", "totp"))
