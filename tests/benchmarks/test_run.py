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

    def test_a_row_has_its_unit_and_its_targets(self, unbuffered: str) -> None:
        listed = _run(LISTING, subprocess.PIPE, unbuffered).stdout
        by_key = dict(line.split(maxsplit=1) for line in listed.splitlines())
        assert by_key["dtls.ping.idle.p50"] == "ping, median, ms"
        assert by_key["crowd.share"] == "clients at once: smallest share over largest"
        assert by_key["idle.rss"] == (
            "memory of the process that holds them, MB; python ≤ 1,000; compiled ≤ 1,000"
        )
        assert by_key["dtls.down.1.rate"] == (
            "DTLS, 1 TCP stream down, Gbit/s; compiled-own ≥ 3 × ocserv; "
            "compiled-own ≥ 1.5 × wireguard-go"
        )

    def test_others_see_where_results_are(self, unbuffered: str) -> None:
        said = _run(("-c", REPORT), subprocess.PIPE, unbuffered).stdout
        assert said.endswith("Written to last.json\n")


class UsageTests:
    def test_it_can_be_typed_so(self) -> None:
        done = _run(("-m", "bench.run", "--no-such-option"), subprocess.PIPE, "")
        assert done.returncode == 2
        assert done.stderr.startswith('usage: make bench ARGS="[OPTION]..."\n')
        assert "--no-such-option" in done.stderr


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
