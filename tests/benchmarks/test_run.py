"""What `make bench` says to those who do not listen to the end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.rows import ROWS

LIMIT_S = 30
LISTING = ("-m", "bench.run", "--list")
REPORT = """
from pathlib import Path
from bench.results import Results
from bench.run import print_results
print_results(Results("", {"cores": "2"}, {}), Path("last.json"))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at the end", "line by line"])
class PrintTests:
    @pytest.mark.parametrize("what", [LISTING, ("-c", REPORT)], ids=["rows", "results"])
    def test_a_reader_that_leaves_early_is_no_failure(
        self, what: tuple[str, ...], unbuffered: str
    ) -> None:
        theirs, ours = os.pipe()
        os.close(theirs)
        done = _run(what, ours, unbuffered)
        os.close(ours)
        assert (done.returncode, done.stderr) == (0, "")

    def test_others_see_all_rows(self, unbuffered: str) -> None:
        listed = _run(LISTING, subprocess.PIPE, unbuffered).stdout
        assert [line.split()[0] for line in listed.splitlines()] == [row.key for row in ROWS]

    def test_others_see_where_results_are(self, unbuffered: str) -> None:
        said = _run(("-c", REPORT), subprocess.PIPE, unbuffered).stdout
        assert said.endswith("Written to last.json\n")


def _run(what: tuple[str, ...], stdout: int, unbuffered: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, *what),
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
