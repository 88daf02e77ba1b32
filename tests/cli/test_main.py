"""The command as an operator types it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import click
from click.testing import CliRunner, Result

from anyvpn import __version__
from anyvpn.backends.authenticator_password_file_users import matches, read_users
from anyvpn.cli.main import main
from anyvpn.plugins import backends
from tests.tap.set_up import PASSWORD, SetUp


class CommandCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def run_command(self, *arguments: str | Path, stdin: str | bytes = "") -> Result:
        return CliRunner().invoke(main, [str(each) for each in arguments], input=stdin)

    def succeed(self, *arguments: str | Path, stdin: str | bytes = "") -> str:
        result = self.run_command(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def fail_with(self, *arguments: str | Path, stdin: str | bytes = "") -> str:
        """Exit status 1, one line on stderr, nothing on stdout; gives the line."""
        result = self.run_command(*arguments, stdin=stdin)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        [line] = result.stderr.splitlines()
        return line


class GeneralTests(CommandCase):
    def test_version_is_shown(self) -> None:
        assert self.succeed("--version") == f"anyvpn {__version__}\n"

    def test_every_command_and_option_has_help(self) -> None:
        context = click.Context(main)
        names = main.list_commands(context)
        assert {"check", "connect", "init", "status"} < set(names)
        for name in names:
            command = main.get_command(context, name)
            assert command is not None and command.name == name
            assert command.help
            for each in [command, *getattr(command, "commands", {}).values()]:
                assert each.help, each.name
                for parameter in each.params:
                    if isinstance(parameter, click.Option):
                        assert parameter.help, (each.name, parameter.name)

    def test_nothing_is_imported_for_what_was_not_typed(self) -> None:
        code = "import sys, anyvpn.cli.main; print('twisted' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "False\n"

    def test_an_interrupted_command_ends_as_shells_tell_it(self) -> None:
        with patch("anyvpn.cli.main.import_module", side_effect=KeyboardInterrupt):
            result = self.run_command("run", "vpn.test", "--", "true")
        assert (result.exit_code, result.output) == (130, "")

    def test_module_can_be_run(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "anyvpn.cli.main", "--version"],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"anyvpn {__version__}\n"

    def test_backends_are_listed_one_a_line(self) -> None:
        lines = self.succeed("backends").splitlines()[1:]
        assert [line.split()[:2] for line in lines] == [
            [each.kind, each.name] for each in backends()
        ]

    def test_what_stands_in_brackets_is_shown(self) -> None:
        said = " ".join(self.succeed("backends", "authenticator", "certificate_pair").split())
        assert "the machines' are in [tls]." in said


class StreamTests(CommandCase):
    """What becomes of a broken output, or of streams that are closed from the start."""

    def setUp(self) -> None:
        super().setUp()
        self.set_up = SetUp(self.directory)
        config = f"--config {self.set_up.file}"
        self.printing = [
            "--help",
            "backends",
            f"check {self.set_up.file}",
            f"user list {config}",
            f"explain alice {config}",
        ]
        self.program = f"{sys.executable} -m anyvpn.cli.main"
        self.passwd = f"user passwd alice {config} --password-file -"

    def in_shell(self, words: str) -> tuple[int, str]:
        """The exit status of the first command of a pipe, and what is on stderr."""
        done = subprocess.run(
            ["bash", "-c", f'{self.program} {words}; exit "${{PIPESTATUS[0]}}"'],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    def test_a_full_disk_is_told_in_a_line(self) -> None:
        for words in self.printing:
            said = self.in_shell(f"{words} >/dev/full")
            assert said == (1, "anyvpn: the output cannot be written: No space left on device\n"), (
                words
            )

    def test_a_closed_output_is_told_in_a_line(self) -> None:
        for words in ("backends", self.printing[-1]):
            said = self.in_shell(f"{words} >&-")
            assert said == (1, "anyvpn: the output cannot be written: Bad file descriptor\n"), words

    def test_of_a_broken_pipe_nothing_is_said(self) -> None:
        for words in self.printing:
            assert self.in_shell(f"{words} | exec <&-") == (1, ""), words

    def test_a_closed_input_has_nothing_in_it(self) -> None:
        said = self.in_shell(f"{self.passwd} <&-")
        assert said == (1, "anyvpn: standard input: has no password in its first line\n")

    def test_without_any_stream_the_status_remains(self) -> None:
        assert self.in_shell(f"{self.passwd} <&- >&- 2>&-") == (1, "")
        assert self.in_shell("user list --file /none <&- >&- 2>&-") == (1, "")


class CheckTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_up = SetUp(self.directory)

    def test_good_file_is_summed_up(self) -> None:
        said = self.succeed("check", self.set_up.file)
        assert said.startswith(f"{self.set_up.file}: correct\n")
        for word in ("vpn.test", "UDP port 4433", "default (default)", "10.9.8.0/24", "sqlite"):
            assert word in said

    def test_all_errors_are_shown_and_the_exit_status_is_one(self) -> None:
        self.set_up.change('name = "vpn.test"', "name = 5")
        self.set_up.change("#psk = true", 'psk = "yes"')
        result = self.run_command("check", self.set_up.file)
        assert result.exit_code == 1
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert all(line.startswith(f"{self.set_up.file}:") for line in lines)
        assert [line.split(": ")[1] for line in lines] == ["gateway.name", "dtls.psk"]

    def test_missing_file_is_named(self) -> None:
        assert "no.toml: cannot be read" in self.fail_with("check", self.directory / "no.toml")

    def test_nothing_is_changed(self) -> None:
        before = sorted(each.name for each in self.set_up.directory.iterdir())
        self.succeed("check", self.set_up.file)
        assert sorted(each.name for each in self.set_up.directory.iterdir()) == before


class UserCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_up = SetUp(self.directory)
        self.set_up.change("#memory_kib = 65536", "memory_kib = 64")
        self.set_up.change("#passes = 3", "passes = 1")
        self.users = self.set_up.directory / "users"
        self.config = ("--config", str(self.set_up.file))


class UserTests(UserCase):
    def test_added_user_has_password_groups_and_the_configured_cost(self) -> None:
        self.succeed(
            *("user", "add", "bob", "--group", "staff", "--group", "dev", *self.config),
            *("--password-file", "-"),
            stdin="pass word\r\nsecond line\n",
        )
        bob = read_users(self.users)["bob"]
        assert bob.groups == ("staff", "dev")
        assert matches(bob.password_hash, "pass word")
        assert "$m=64,t=1," in bob.password_hash

    def test_users_are_listed_with_their_groups(self) -> None:
        self.succeed(
            *("user", "add", "bob", "--group", "staff", *self.config, "--password-file", "-"),
            stdin="x\n",
        )
        assert self.succeed("user", "list", *self.config) == "alice\nbob\tstaff\n"

    def test_password_is_changed_and_groups_stay(self) -> None:
        self.succeed(
            *("user", "add", "bob", "--group", "staff", *self.config, "--password-file", "-"),
            stdin="old\n",
        )
        password = self.directory / "password"
        password.write_text("new\n")
        self.succeed("user", "passwd", "bob", *self.config, "--password-file", password)
        bob = read_users(self.users)["bob"]
        assert matches(bob.password_hash, "new")
        assert bob.groups == ("staff",)

    def test_removed_user_is_gone(self) -> None:
        self.succeed("user", "remove", "alice", *self.config)
        assert read_users(self.users) == {}

    def test_user_file_can_be_named_itself_and_is_made(self) -> None:
        file = self.directory / "new-users"
        self.succeed(*("user", "add", "bob", "--file", file, "--password-file", "-"), stdin="x\n")
        assert self.succeed("user", "list", "--file", file) == "bob\n"
        assert file.stat().st_mode & 0o777 == 0o600

    def test_errors_are_one_line(self) -> None:
        before = self.users.read_bytes()
        add = ("user", "add", "alice", *self.config, "--password-file", "-")
        assert 'has a user "alice" already' in self.fail_with(*add, stdin="x\n")
        assert 'did you mean "alice"?' in self.fail_with("user", "remove", "alise", *self.config)
        assert "no user" in self.fail_with("user", "passwd", "bob", *self.config)
        assert "user name must" in self.fail_with(
            "user", "add", "a:b", *self.config, "--password-file", "-", stdin="x\n"
        )
        assert "group name must" in self.fail_with(
            *("user", "add", "bob", "--group", "a,b", *self.config, "--password-file", "-"),
            stdin="x\n",
        )
        assert "no authenticator" in self.fail_with(
            "user", "list", *self.config, "--authenticator", "x"
        )
        assert "leave --config" in self.fail_with(
            "user", "list", *self.config, "--file", self.users
        )
        assert self.users.read_bytes() == before

    def test_one_of_several_user_files_must_be_chosen(self) -> None:
        self.set_up.change(
            "[dtls]",
            "[authenticators.other]\nbackend = 'password_file'\nfile = 'others'\n[dtls]",
        )
        assert "choose one of" in self.fail_with("user", "list", *self.config)
        assert (
            self.succeed("user", "list", *self.config, "--authenticator", "password") == "alice\n"
        )

    def test_problems_elsewhere_in_the_configuration_do_not_matter(self) -> None:
        self.set_up.change('name = "vpn.test"', "name = 5")
        assert self.succeed("user", "list", *self.config) == "alice\n"


class PasswordSourceTests(UserCase):
    def add(self, source: str | Path, stdin: str | bytes = "") -> str:
        return self.fail_with(
            "user", "add", "bob", *self.config, "--password-file", source, stdin=stdin
        )

    def test_password_that_cannot_be_read_is_one_line(self) -> None:
        assert "standard input: has no password" in self.add("-")
        assert "standard input: has no password" in self.add("-", "\nsecond\n")
        assert "not UTF-8" in self.add("-", b"\xff\n")
        assert "too long" in self.add("-", "x" * 5000)
        assert "1 to 1024 characters" in self.add("-", "x" * 1025)
        assert "nowhere: cannot be read" in self.add(self.directory / "nowhere")

    def test_password_is_never_shown(self) -> None:
        result = self.run_command(
            *("user", "add", "bob", *self.config, "--password-file", "-"), stdin="hunter2\0\n"
        )
        assert result.exit_code == 1
        assert "hunter2" not in result.output

    def test_without_a_terminal_it_must_be_given(self) -> None:
        assert "--password-file" in self.fail_with("user", "add", "bob", *self.config)

    def test_password_of_the_set_up_is_the_first_user_s(self) -> None:
        assert matches(read_users(self.users)["alice"].password_hash, PASSWORD)
