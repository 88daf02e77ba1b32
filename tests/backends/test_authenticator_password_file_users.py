from __future__ import annotations

import multiprocessing
import os
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.backends.authenticator_password_file_users import (
    HashCost,
    StoredUser,
    check_name,
    cost_of,
    edit_users,
    hash_of_nothing,
    hash_password,
    matches,
    read_users,
    write_users,
)
from anyvpn.errors import ConfigurationError

CHEAP = HashCost(64, 1, 1)
HASH = hash_password("test-pass", CHEAP)
NAMES = st.text(min_size=1, max_size=20).filter(
    lambda name: name.isprintable() and not set(name) & set(" :,#")
)


DIRECTORY = TemporaryDirectory()
"""Of all files here, until the process ends."""


def new_file(text: str = "") -> Path:
    path = Path(mkdtemp(dir=DIRECTORY.name)) / "users"
    if text:
        path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_users(path)
    return list(caught.value.problems)


def add_one(path: Path, name: str) -> None:
    with edit_users(path) as users:
        users[name] = StoredUser(name, HASH)


class PasswordTests(unittest.TestCase):
    def test_hash_matches_its_password_alone(self) -> None:
        assert matches(HASH, "test-pass")
        assert not matches(HASH, "test-pas")

    def test_hash_carries_its_cost_and_another_salt_each_time(self) -> None:
        cost = HashCost(128, 2, 3)
        first, second = hash_password("x", cost), hash_password("x", cost)
        assert cost_of(first) == cost
        assert first != second

    def test_hash_of_nothing_is_a_whole_hash_that_nothing_matches(self) -> None:
        stored = hash_of_nothing(CHEAP)
        assert cost_of(stored) == CHEAP
        assert len(stored) == len(HASH)
        for password in ("", "-", "test-pass"):
            assert not matches(stored, password)

    def test_passwords_that_cannot_be_typed_in_are_refused(self) -> None:
        for password in ("", "a\0b", "x" * 1025, "\udcff"):
            with pytest.raises(ValueError, match="a password must have"):
                hash_password(password, CHEAP)

    def test_cost_is_weaker_by_memory_or_passes(self) -> None:
        cost = HashCost(1024, 3, 1)
        assert HashCost(512, 9, 1).is_weaker_than(cost)
        assert HashCost(4096, 2, 1).is_weaker_than(cost)
        assert not HashCost(1024, 3, 4).is_weaker_than(cost)


class ReadTests(unittest.TestCase):
    def test_names_groups_comments_and_order(self) -> None:
        path = new_file(f"# users\n\nbob:{HASH}:staff,lab\n  # more\nalice:{HASH}\ncarol:{HASH}:\n")
        users = read_users(path)
        assert list(users) == ["bob", "alice", "carol"]
        assert users["bob"] == StoredUser("bob", HASH, ("staff", "lab"))
        assert users["alice"].groups == users["carol"].groups == ()

    def test_every_bad_line_is_named(self) -> None:
        salt, result = HASH.split("$")[4:]
        lines = {
            "alice": "must be name:hash",
            f"alice:{HASH}:a:b": "must be name:hash",
            f":{HASH}": "a user name must have",
            f"a b:{HASH}": "no space",
            f"alice:{HASH}:staff,": "a group name must have",
            "alice:": "is not an argon2id hash",
            "alice:test-pass": "is not an argon2id hash",
            f"alice:$argon2i$v=19$m=64,t=1,p=1${salt}${result}": "is not an argon2id hash",
            f"alice:{HASH} ": "",
            f"bob:$argon2id$v=19$m=9999999,t=1,p=1${salt}${result}": "memory_kib must lie",
            f"bob:$argon2id$v=19$m=64,t=0,p=1${salt}${result}": "passes must lie",
            f"bob:$argon2id$v=19$m=64,t=1,p=9999${salt}${result}": "lanes must lie",
            f"bob:$argon2id$v=19$m=64,t=1,p=1$abc${result}": "too short or too long",
            f"bob:$argon2id$v=19$m=64,t=1,p=1${salt}${result}{'A' * 80}": "too short or",
            f"bob:$argon2id$v=19$m=64,t=1,p=1${salt}a${result}a": "is damaged",
            f"alice:{HASH}:x": "again",
        }
        path = new_file("\n".join(lines))
        expected = [
            (f"{path}:{number}: ", words) for number, words in enumerate(lines.values(), 1) if words
        ]
        problems = problems_of(path)
        assert len(problems) == len(expected)
        for problem, (where, words) in zip(problems, expected, strict=True):
            assert problem.startswith(where)
            assert words in problem

    def test_problem_tells_no_hash(self) -> None:
        assert HASH[-10:] not in "".join(problems_of(new_file(f"alice:{HASH}:a:b\nbob:x{HASH}\n")))

    def test_unreadable_files_are_named(self) -> None:
        path = new_file()
        assert "does not exist; `anyvpn user add`" in problems_of(path)[0]
        path.write_bytes(b"\xff\xfe")
        assert "is not UTF-8" in problems_of(path)[0]
        path.unlink()
        path.mkdir()
        assert "cannot be read" in problems_of(path)[0]

    @settings(max_examples=200)
    @given(st.text(st.characters(codec="utf-8"), max_size=200))
    def test_no_text_raises_anything_else(self, text: str) -> None:
        path = new_file(text or "\n")
        try:
            users = read_users(path)
        except ConfigurationError:
            return
        assert not users

    @settings(max_examples=50)
    @given(st.integers(0, len(HASH) - 1))
    def test_hash_cut_off_anywhere_matches_nothing(self, length: int) -> None:
        path = new_file(f"alice:{HASH[:length]}\n")
        try:
            users = read_users(path)
        except ConfigurationError:
            return
        assert not matches(users["alice"].password_hash, "test-pass")


class NameTests(unittest.TestCase):
    def test_usual_names_are_taken(self) -> None:
        for name in ("alice", "alice@example.com", "EXAMPLE\\alice", "ren\u00e9", "x" * 256, "李"):
            assert check_name(name) == name

    def test_names_that_break_the_file_are_refused(self) -> None:
        for name in ("", "a:b", "a b", "a\nb", "a\0", "#a", "a,b", "\u202ea", "\udcff", "x" * 257):
            with pytest.raises(ValueError, match="a user name must have"):
                check_name(name)


class WriteTests(unittest.TestCase):
    @settings(max_examples=50)
    @given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=5))
    def test_what_was_written_is_read(self, groups: dict[str, list[str]]) -> None:
        path = new_file()
        users = {
            check_name(name): StoredUser(check_name(name), HASH, tuple(map(check_name, each)))
            for name, each in groups.items()
        }
        write_users(path, users)
        assert read_users(path) == users

    def test_new_file_is_for_its_owner_alone(self) -> None:
        path = new_file()
        write_users(path, {})
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().startswith("# ")

    def test_comments_order_group_and_owner_stay(self) -> None:
        path = new_file(f"# first\nbob:{HASH}\n\n# second\nalice:{HASH}:x\ncarol:{HASH}\n")
        path.chmod(0o644)
        if os.geteuid() == 0:
            os.chown(path, 1, 2)
        before = path.stat()
        with edit_users(path) as users:
            del users["bob"]
            users["alice"] = StoredUser("alice", HASH, ("y",))
            users["dave"] = StoredUser("dave", HASH)
        assert path.read_text() == (
            f"# first\n\n# second\nalice:{HASH}:y\ncarol:{HASH}\ndave:{HASH}\n"
        )
        after = path.stat()
        assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
        assert after.st_mode & 0o777 == 0o640
        assert after.st_ino != before.st_ino

    def test_link_stays_a_link(self) -> None:
        target = new_file(f"bob:{HASH}\n")
        link = new_file()
        link.symlink_to(target)
        add_one(link, "alice")
        assert link.is_symlink()
        assert list(read_users(target)) == ["bob", "alice"]

    def test_failure_leaves_the_file_and_nothing_beside_it(self) -> None:
        path = new_file(f"bob:{HASH}\n")
        before = path.read_bytes()
        with pytest.raises(ValueError, match="user name"):
            write_users(path, {"a:b": StoredUser("a:b", HASH)})
        with pytest.raises(KeyError), edit_users(path) as users:
            del users["bob"]
            raise KeyError
        path.write_bytes(b"broken\n")
        with pytest.raises(ConfigurationError), edit_users(path):
            raise AssertionError("a broken file must not be edited")
        path.write_bytes(before)
        assert [each.name for each in path.parent.iterdir()] == [path.name]

    def test_missing_directory_is_named(self) -> None:
        path = new_file() / "elsewhere" / "users"
        with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
            write_users(path, {})

    def test_editors_at_the_same_time_lose_nothing(self) -> None:
        path = new_file()
        context = multiprocessing.get_context("fork")
        editors = [context.Process(target=add_one, args=(path, f"user{n}")) for n in range(8)]
        for editor in editors:
            editor.start()
        for editor in editors:
            editor.join()
        assert set(read_users(path)) == {f"user{n}" for n in range(8)}
