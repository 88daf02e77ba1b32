"""`make bench`, a few short rows of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from anyvpn.testing.programs import Program
from tests.interop.gateway import REPOSITORY, environment

QUICK_TIME_S = 240.0


def run_quickly(directory: Path, *options: str) -> tuple[Program, dict[str, Any]]:
    """Of ours and of ocserv; gives the program that has ended, and its results."""
    file = directory / "result.json"
    program = Program(
        "make bench",
        [
            *(sys.executable, "-m", "bench.run", "--quick", "--json", str(file)),
            *("--subjects", "ocserv,python", *options),
        ],
        environment=environment(),
        directory=REPOSITORY,
    )
    assert program.wait_for_end(QUICK_TIME_S) == 0, program.output()
    return program, json.loads(file.read_text())


class QuickRunTests:
    def test_logins_and_pings_are_looked_at(self, tmp_path: Path) -> None:
        patterns = ("--rows", "login.*", "--rows", "idle.*", "--rows", "dtls.ping.idle.*")
        _, result = run_quickly(tmp_path, *patterns)
        figures = {row["row"]: row["figures"] for row in result["rows"]}
        assert figures["idle.held"]["python"]["samples"] == [20]
        targets = {row["row"]: row["targets"] for row in result["rows"]}
        [ping] = targets["dtls.ping.idle.p99"]
        wanted = {"login.cpu"} if ping["met"] else {"login.cpu", "dtls.ping.idle.p99"}
        assert set(result["profiles"]) == wanted, result["skipped"]
        for profile in result["profiles"].values():
            assert set(profile) == {"python"}
            assert all(1 <= share <= 100 for share in profile["python"].values()), profile
        assert result["profiles"]["login.cpu"]["python"]

    def test_a_row_is_measured_of_ours_and_of_ocserv(self, tmp_path: Path) -> None:
        program, result = run_quickly(tmp_path)
        assert program.find(r"DTLS, 1 TCP stream down .*CPU-s/GB.*ocserv × openconnect")
        rows = {row["row"]: row for row in result["rows"]}
        assert set(rows) == {"dtls.down.1.cpu", "dtls.down.1.rate"}
        for row in rows.values():
            assert set(row["figures"]) == {"ocserv", "python"}
            assert all(0.05 < each["median"] < 100 for each in row["figures"].values())
        [target] = rows["dtls.down.1.cpu"]["targets"]
        assert target["met"] == (target["reached"] <= target["at_most"])
        assert all("AES-256-GCM" in text for text in result["tunnels"].values())
        assert {"ocserv", "openconnect", "OpenSSL", "anyvpn"} <= set(result["versions"])
        assert int(result["machine"]["cores"]) > 0
