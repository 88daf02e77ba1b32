"""What `make bench` says to those who do not listen to the end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.rows import ROWS

LIMIT_S = 30


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at the end", "line by line"])
class ListTests:
    def test_a_reader_that_leaves_early_is_no_failure(self, unbuffered: str) -> None:
        theirs, ours = os.pipe()
        os.close(theirs)
        listing = _list(ours, unbuffered)
        os.close(ours)
        assert (listing.returncode, listing.stderr) == (0, "")

    def test_others_see_all_rows(self, unbuffered: str) -> None:
        names = [line.split()[0] for line in _list(subprocess.PIPE, unbuffered).stdout.splitlines()]
        assert names == [row.key for row in ROWS]


def _list(stdout: int, unbuffered: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "bench.run", "--list"),
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
