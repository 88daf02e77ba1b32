"""Who may be asked by `anyvpn bench`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anyvpn.cli import bench as module
from anyvpn.cli.main import main

CONFIGURATION = """
[client]
url = "vpn.example.com"
profile_directory = "profiles"

[[responders]]
backend = "terminal"

[adapter]
backend = "namespace"
"""


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_client", lambda *_: 0)


def bench(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["bench", *arguments], input=typed)


class QuestionTests:
    def test_what_nobody_has_given_is_asked_for_once(self) -> None:
        done = bench("vpn.example.com", "-n", "3", typed="alice\nsecret\n")
        assert (done.exit_code, done.stderr) == (0, "Username: alice\nPassword: \n")

    def test_a_name_that_is_given_is_not_asked_for(self) -> None:
        done = bench("vpn.example.com", "-n", "3", "--user", "load-%d", typed="secret\n")
        assert (done.exit_code, done.stderr) == (0, "Password: \n")

    @pytest.mark.parametrize(
        "given",
        [
            ("--passwd-on-stdin",),
            ("--password-file", "password"),
            ("--password-command", "answer"),
            ("--non-inter",),
            ("-n", "1"),
        ],
        ids=" ".join,
    )
    def test_others_ask_nothing_ahead(
        self, given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "password").write_text("secret\n")
        done = bench("vpn.example.com", "-n", "3", *given, typed="secret\n")
        assert (done.exit_code, done.stderr) == (0, "")

    def test_a_configuration_that_asks_is_for_one_session(self, tmp_path: Path) -> None:
        file = tmp_path / "client.toml"
        file.write_text(CONFIGURATION)
        assert bench("--config", str(file), "-n", "1").exit_code == 0
        done = bench("--config", str(file), "-n", "2")
        assert done.exit_code == 1
        assert done.stderr == f"anyvpn: {file}: the terminal cannot answer for several sessions\n"
