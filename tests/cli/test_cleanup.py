"""`anyvpn cleanup`: where it looks."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from anyvpn.cli import cleanup
from anyvpn.cli.main import main


class CleanupTests:
    def test_a_directory_that_was_named_must_be_there(self, tmp_path: Path) -> None:
        done = CliRunner().invoke(main, ["cleanup", "--state-directory", str(tmp_path / "none")])
        assert (done.exit_code, done.output) == (
            1,
            f"anyvpn: {tmp_path}/none: cannot be read: No such file or directory\n",
        )

    @pytest.mark.parametrize("words", [(), ("--state-directory",)])
    def test_one_without_notes_has_nothing_to_undo(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
    ) -> None:
        """Nor has the usual one, if no client has made it."""
        monkeypatch.setattr(cleanup, "clean_up", lambda _: [])
        done = CliRunner().invoke(main, ["cleanup", *words, *([str(tmp_path)] if words else [])])
        assert (done.exit_code, done.output) == (0, "nothing to undo\n")
