"""`anyvpn user totp` and `hotp`: as it is typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from base64 import b32decode, b32encode, b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner

from anyvpn.backends.one_time_code_file import CodeFile
from anyvpn.backends.one_time_codes import CodeMaker
from anyvpn.cli import codes
from anyvpn.cli.main import main
from anyvpn.testing.outcomes import completed

SECRET = b"12345678901234567890"


def devices_in(file: Path) -> tuple[CodeMaker, ...]:
    return completed(CodeFile(file).devices())


class DeviceTests:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.file = tmp_path / "codes.sqlite"

    def type(self, *words: str, stdin: str = "", status: int = 0) -> str:
        done = CliRunner().invoke(main, ["user", *words], input=stdin)
        assert done.exit_code == status, done.output
        return done.output

    def test_a_new_secret_is_shown_and_kept(self) -> None:
        said = self.type("totp", "alice", "--file", str(self.file), "--issuer", "Example")
        assert "otpauth://totp/Example:alice?" in said
        found = re.search(r"secret: +(\S+)", said)
        assert found is not None
        [kept] = devices_in(self.file)
        assert kept.secret == b32decode(found[1])
        assert "without having seen a code of it" in said

    def test_a_name_is_the_one_that_logs_in_however_it_was_composed(self) -> None:
        self.type("totp", "a\u0308lice", "--file", str(self.file))
        assert [each.user for each in devices_in(self.file)] == ["älice"]
        self.type("totp", "a\u0308lice", "--file", str(self.file), "--remove")
        assert devices_in(self.file) == ()

    def test_a_given_secret_is_not_shown(self) -> None:
        text = b32encode(SECRET).decode().lower()
        said = self.type(
            *("hotp", "alice", "--file", str(self.file), "--secret-file", "-", "--counter", "7"),
            stdin=f"{text[:4]} {text[4:]}\n",
        )
        assert text not in said.lower()
        assert devices_in(self.file) == (CodeMaker("alice", "hotp", SECRET, next_counter=7),)

    @pytest.mark.parametrize("right", [True, False])
    def test_at_a_terminal_a_code_is_asked_for_first(
        self, monkeypatch: pytest.MonkeyPatch, right: bool
    ) -> None:
        monkeypatch.setattr(codes, "at_terminal", lambda: True)
        monkeypatch.setattr(codes.secrets, "token_bytes", lambda _: SECRET)
        period = int(time.time() // 30)
        code = CodeMaker("alice", "totp", SECRET).code(period if right else period + 100)
        said = self.type(
            *("totp", "alice", "--file", str(self.file)), stdin=f"{code}\n", status=int(not right)
        )
        assert "█" in said
        kept = devices_in(self.file)
        if right:
            assert kept[0].next_counter > period - 1  # the code that was shown is used up
        else:
            assert "not the device's code; nothing was changed" in said
            assert kept == ()

    def test_another_device_is_replaced_on_demand_alone(self) -> None:
        words = ("totp", "alice", "--file", str(self.file))
        self.type(*words)
        [first] = devices_in(self.file)
        assert "--replace puts this one" in self.type(*words, status=1)
        assert devices_in(self.file) == (first,)
        self.type(*words, "--replace")
        assert devices_in(self.file) != (first,)

    def test_devices_are_listed_and_removed(self) -> None:
        for words in (("totp", "alice"), ("hotp", "bob")):
            self.type(*words, "--file", str(self.file))
        assert self.type("devices", str(self.file)) == (
            "alice\ttotp\t6 digits, sha1\nbob\thotp\t6 digits, sha1\n"
        )
        self.type("totp", "alice", "--remove", "--file", str(self.file))
        assert "alice" not in self.type("devices", str(self.file))
        again = self.type("totp", "alice", "--remove", "--file", str(self.file), status=1)
        assert '"alice" has no totp device' in again

    def test_only_a_file_that_was_named_must_be_there(self, tmp_path: Path) -> None:
        assert self.type("devices", str(self.file), status=1) == (
            f"anyvpn: {self.file}: cannot be read: No such file or directory\n"
        )
        configuration = tmp_path / "gateway.toml"
        configuration.write_text('[authenticators.one]\nbackend = "totp"\nfile = "one.sqlite"\n')
        assert self.type("devices", "--config", str(configuration)) == ""

    def test_the_configuration_names_the_file_and_how_devices_are(self, tmp_path: Path) -> None:
        configuration = tmp_path / "gateway.toml"
        table = '[authenticators.{0}]\nbackend = "totp"\nfile = "{0}.sqlite"\ndigits = 8\n'
        configuration.write_text(table.format("one"))
        self.type("totp", "alice", "--config", str(configuration))
        [kept] = devices_in(tmp_path / "one.sqlite")
        assert kept.digits == 8
        configuration.write_text(table.format("one") + table.format("two"))
        said = self.type("totp", "bob", "--config", str(configuration), status=1)
        assert "choose one of one, two by --authenticator" in said
        self.type("totp", "bob", "--config", str(configuration), "--authenticator", "two")
        assert devices_in(tmp_path / "two.sqlite")
        said = self.type("hotp", "bob", "--config", str(configuration), status=1)
        assert "no authenticator that is hotp" in said

    @pytest.mark.parametrize(
        ("words", "stdin", "why"),
        [
            (("totp", "a\nb"), "", "control characters"),
            (("totp", "alice", "--secret-file", "-"), "not base32!\n", "is not base32 text"),
            (("totp", "alice", "--secret-file", "-"), "AAAA\n", "a secret has 16 to 128 bytes"),
            (("totp", "alice", "--secret-file", "-"), "", "has no secret in its first line"),
        ],
    )
    def test_what_cannot_be_is_refused_in_words(
        self, words: tuple[str, ...], stdin: str, why: str
    ) -> None:
        assert why in self.type(*words, "--file", str(self.file), stdin=stdin, status=1)
        assert not self.file.exists()

    @pytest.mark.parametrize("counter", [-1, 2**63])
    def test_a_counter_that_cannot_be_is_told_by_its_option(self, counter: int) -> None:
        words = ("hotp", "alice", f"--counter={counter}", "--file", str(self.file))
        assert f"Invalid value for '--counter': {counter} is not" in self.type(*words, status=2)
        assert not self.file.exists()

    @pytest.mark.parametrize("words", [(), ("--no-check",), ("--replace",)])
    @pytest.mark.parametrize("kind", ["totp", "hotp"])
    def test_no_secret_is_shown_that_cannot_be_kept(
        self, tmp_path: Path, kind: str, words: tuple[str, ...]
    ) -> None:
        nowhere = tmp_path / "none" / "codes"
        said = self.type(kind, "alice", "--file", str(nowhere), *words, status=1)
        assert said == f"anyvpn: {nowhere} cannot be used for codes: No such file or directory\n"

    def test_a_redis_that_is_away_is_told_in_a_line(self, tmp_path: Path) -> None:
        (tmp_path / "codes.key").write_bytes(b64encode(SECRET * 2))
        (tmp_path / "gateway.toml").write_text(
            '[authenticators.phone]\nbackend = "totp"\nsecrets_key_file = "codes.key"\n'
            f'[authenticators.phone.redis]\nurl = "unix://{tmp_path}/redis.sock"\n'
        )
        done = subprocess.run(
            [sys.executable, "-m", "anyvpn.cli.main", "user", "totp", "alice"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"anyvpn: Redis at unix://{tmp_path}/redis.sock cannot be reached: "
            "No such file or directory\n"
        )
