"""Tests of anyvpn.backends.one_time_codes, with the codes that the RFCs print."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from anyvpn.backends.one_time_codes import CodeFile, CodeMaker, Guessing
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected

SECRET = b"12345678901234567890"
# RFC 4226, appendix D
COUNTED = ("755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583")
# RFC 6238, appendix B
TIMED = (
    ("sha1", SECRET, 59, "94287082"),
    ("sha256", b"12345678901234567890123456789012", 59, "46119246"),
    ("sha512", (SECRET * 4)[:64], 59, "90693936"),
    ("sha1", SECRET, 1111111109, "07081804"),
    ("sha512", (SECRET * 4)[:64], 20000000000, "47863826"),
)


@pytest.fixture
def file(tmp_path: Path) -> CodeFile:
    return CodeFile(tmp_path / "codes.sqlite", Guessing(3, 60.0))


def timed(user: str = "alice") -> CodeMaker:
    return CodeMaker(user, "totp", SECRET)


def counted(next_counter: int = 0) -> CodeMaker:
    return CodeMaker("alice", "hotp", SECRET, next_counter=next_counter)


def use(file: CodeFile, code: str, *, now_s: float = 59.0, window: int = 1, kind: str = "") -> str:
    """What is wrong with it; empty: it passes."""
    device = "hotp" if kind == "hotp" else "totp"
    try:
        file.use_up("alice", device, (code,), window=window, now_s=now_s)  # type: ignore[arg-type]
    except LoginRejected as error:
        return str(error)
    return ""


class CodeTests:
    @pytest.mark.parametrize(("algorithm", "secret", "at_s", "code"), TIMED)
    def test_time_based_codes_are_those_of_the_rfc(
        self, algorithm: str, secret: bytes, at_s: int, code: str
    ) -> None:
        maker = CodeMaker("alice", "totp", secret, algorithm, 8)
        assert maker.code(at_s // 30) == code

    def test_counted_codes_are_those_of_the_rfc(self) -> None:
        assert tuple(counted().code(each) for each in range(len(COUNTED))) == COUNTED

    def test_the_secret_is_not_shown(self) -> None:
        assert "1234567890" not in repr(timed())

    @pytest.mark.parametrize(
        "wrong",
        [
            {"secret": b"short"},
            {"secret": b"x" * 129},
            {"algorithm": "md5"},
            {"digits": 4},
            {"period_s": 0},
        ],
    )
    def test_what_no_device_does_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"secret|algorithm|digits|period_s"):
            CodeMaker(**{"user": "alice", "kind": "totp", "secret": SECRET, **wrong})  # type: ignore[arg-type]

    def test_addresses_are_what_applications_read(self) -> None:
        assert timed().address("Example") == (
            "otpauth://totp/Example:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Example"
        )
        assert "counter=3" in counted(3).address("Example")


class TimedTests:
    def test_a_code_is_good_once(self, file: CodeFile) -> None:
        file.put(timed())
        assert use(file, "287082") == ""
        assert use(file, "287082") == "the code was used before"
        assert use(CodeFile(file.path), "287082") == "the code was used before"

    def test_the_clock_may_be_off_by_the_window(self, file: CodeFile) -> None:
        for at_s, said in ((29, ""), (89, ""), (91, "the code is wrong"), (119, "the code is wr")):
            file.put(timed())
            assert use(file, "287082", now_s=at_s).startswith(said)
        file.put(timed())
        assert use(file, "287082", now_s=89, window=0) == "the code is wrong"

    def test_an_older_code_is_not_good_after_a_newer_one(self, file: CodeFile) -> None:
        file.put(timed())
        assert use(file, timed().code(2)) == ""
        assert use(file, timed().code(1)) == "the code was used before"

    @pytest.mark.parametrize("code", ["", "28708", "2870822", "２８７０８２", "abcdef", "\0" * 6])
    def test_what_is_no_code_is_wrong(self, file: CodeFile, code: str) -> None:
        file.put(timed())
        assert use(file, code) == "the code is wrong"

    def test_nobodys_codes_are_refused(self, file: CodeFile) -> None:
        assert use(file, "287082") == "alice has no TOTP device"
        file.put(timed("bob"))
        assert use(file, "287082") == "alice has no TOTP device"
        assert use(file, "287082", kind="hotp") == "alice has no HOTP device"

    def test_guessing_is_slowed_down(self, file: CodeFile) -> None:
        file.put(timed())
        for _ in range(3):
            assert use(file, "000000", now_s=1000) == "the code is wrong"
        right = timed().code(1059 // 30)
        assert "must wait" in use(file, right, now_s=1059)
        later = timed().code(1061 // 30)
        assert use(file, later, now_s=1061) == ""

    def test_a_right_code_forgives_wrong_ones(self, file: CodeFile) -> None:
        file.put(timed())
        for period in range(3):
            for _ in range(2):
                assert use(file, "000000", now_s=period * 30) == "the code is wrong"
            assert use(file, timed().code(period), now_s=period * 30) == ""

    def test_of_many_processes_one_gets_in(self, file: CodeFile) -> None:
        """As with several gateways on one file."""
        file.put(timed())
        program = (
            "import sys; from pathlib import Path\n"
            "from anyvpn.backends.one_time_codes import CodeFile\n"
            "from anyvpn.errors import LoginRejected\n"
            "sys.stdin.readline()\n"
            "try:\n"
            "    CodeFile(Path(sys.argv[1])).use_up('alice', 'totp', ('287082',), window=1, "
            "now_s=59)\n"
            "    print('in')\n"
            "except LoginRejected as error: print(error)\n"
        )
        running = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(file.path)],
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


class CountedTests:
    def test_codes_may_be_skipped_within_the_window(self, file: CodeFile) -> None:
        file = CodeFile(file.path)
        file.put(counted())
        assert use(file, COUNTED[2], window=2, kind="hotp") == ""
        for code in COUNTED[:3]:
            assert use(file, code, window=2, kind="hotp") == "the code is wrong"
        assert use(file, COUNTED[6], window=2, kind="hotp") == "the code is wrong"
        assert use(file, COUNTED[5], window=2, kind="hotp") == ""

    def test_two_in_a_row_find_a_counter_that_is_far(self, file: CodeFile) -> None:
        file.put(counted())
        with pytest.raises(LoginRejected):
            file.use_up("alice", "hotp", (COUNTED[5], COUNTED[7]), window=10, now_s=0)
        file.use_up("alice", "hotp", (COUNTED[5], COUNTED[6]), window=10, now_s=0)
        assert use(file, COUNTED[7], window=0, kind="hotp") == ""


class FileTests:
    def test_nobody_else_can_read_it(self, file: CodeFile) -> None:
        file.put(timed())
        assert file.path.stat().st_mode & 0o777 == 0o600

    def test_users_are_kept_and_replaced_and_removed(self, file: CodeFile) -> None:
        assert file.users() == ()
        assert file.find("alice", "totp") is None
        assert not file.remove("alice", "totp")
        file.put(timed())
        file.put(counted())
        other = CodeMaker("alice", "totp", b"x" * 20, "sha256", 8, 60, 7)
        file.put(other)
        assert file.users() == (counted(), other)
        assert file.find("alice", "totp") == other
        assert file.remove("alice", "totp")
        assert file.users() == (counted(),)

    def test_strange_names_are_only_names(self, file: CodeFile) -> None:
        for name in ("' OR 1=1 --", "\U0001f511", "%"):
            file.put(CodeMaker(name, "totp", SECRET))
        assert use(file, "287082") == "alice has no TOTP device"

    def test_files_of_others_are_refused(self, file: CodeFile, tmp_path: Path) -> None:
        with sqlite3.connect(file.path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        with pytest.raises(ConfigurationError, match="is a file of another program"):
            file.check()
        file.path.write_bytes(b"not SQLite at all" * 100)
        with pytest.raises(ConfigurationError, match=r"file: .* cannot be used for codes"):
            file.check()
        with pytest.raises(BackendFailed):
            use(file, "287082")
        with pytest.raises(ConfigurationError, match=r"file: .* does not exist"):
            CodeFile(tmp_path / "none" / "codes").check()
