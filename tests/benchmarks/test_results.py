"""Figures, verdicts on them, and the file that keeps both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.results import Results, read_results
from bench.rows import COMPILED, COMPILED_OWN, OCSERV, PYTHON, ROWS, WIREGUARD, Row

_BY_KEY = {row.key: row for row in ROWS}
CPU, RATE = _BY_KEY["dtls.down.1.cpu"], _BY_KEY["dtls.down.1.rate"]
HELD, RSS = _BY_KEY["idle.held"], _BY_KEY["idle.rss"]


def results(row: Row, **figures: tuple[float, ...]) -> Results:
    made = Results("2026-01-01T00:00:00+00:00", {"cores": "2"}, {"Python": "3.13"})
    for subject, samples in figures.items():
        for sample in samples:
            made.add(row.key, subject.replace("_", "-"), sample)
    return made


class VerdictTests:
    def test_medians_are_compared(self) -> None:
        made = results(CPU, ocserv=(4.0, 100.0, 3.0), python=(9.0, 2.0, 0.1))
        [verdict] = made.verdicts(CPU)
        assert (verdict.target.subject, verdict.target.against) == (PYTHON, OCSERV)
        assert verdict.reached == 0.5
        assert verdict.met

    def test_costs_must_not_be_above_the_limit(self) -> None:
        assert results(CPU, ocserv=(4.0,), python=(3.0,)).verdicts(CPU)[0].met
        assert not results(CPU, ocserv=(4.0,), python=(3.01,)).verdicts(CPU)[0].met

    def test_rates_must_not_be_below_the_limit(self) -> None:
        made = results(RATE, ocserv=(1.0,), wireguard_go=(2.0,), compiled_own=(2.99,))
        verdicts = {each.target.against: each.met for each in made.verdicts(RATE)}
        assert verdicts == {OCSERV: False, WIREGUARD: False}
        assert results(RATE, ocserv=(1.0,), compiled_own=(3.0,)).verdicts(RATE)[0].met

    def test_a_limit_holds_for_each_run(self) -> None:
        made = results(HELD, python=(10_000.0, 10_000.0, 9_999.0))
        assert [(each.reached, each.met) for each in made.verdicts(HELD)] == [(9_999.0, False)]
        made = results(RSS, python=(999.0, 998.0, 1001.0))
        assert [(each.reached, each.met) for each in made.verdicts(RSS)] == [(1001.0, False)]

    def test_rows_of_a_measure_are_missed_by_one_and_not_by_another(self) -> None:
        made = results(CPU, ocserv=(4.0,), python=(3.1,), compiled=(1.0,))
        made.add(RATE.key, PYTHON, 1.0)
        assert made.missed("dtls.down.1", PYTHON) == (CPU.key,)
        assert made.missed("dtls.down.1", COMPILED) == ()
        assert made.missed("dtls.down", OCSERV) == made.missed("dtls.up.1", PYTHON) == ()

    def test_without_both_sides_nothing_is_said(self) -> None:
        assert results(CPU, python=(1.0,)).verdicts(CPU) == ()
        assert results(CPU, ocserv=(1.0,)).verdicts(CPU) == ()


class FileTests:
    def test_what_is_written_can_be_read(self, tmp_path: Path) -> None:
        made = results(CPU, ocserv=(4.0, 5.0, 4.5), compiled_own=(1.0, 1.1, 0.9))
        made.tunnels["a tunnel"] = "AES-256-GCM, MTU 1434"
        made.skipped["openvpn"] = "is not there"
        made.profiles[CPU.key] = {COMPILED_OWN: (("veth_xmit (kernel)", 12.5), ("seal", 3.0))}
        made.write(tmp_path / "results" / "one.json")
        assert read_results(tmp_path / "results" / "one.json") == made

    def test_it_tells_strangers_what_was_reached(self) -> None:
        made = results(CPU, ocserv=(4.0, 5.0, 3.0), compiled_own=(2.0,)).as_json()
        [row] = json.loads(json.dumps(made))["rows"]
        assert row["unit"] == "CPU-s/GB"
        assert row["figures"][OCSERV] == {
            "median": 4.0,
            "minimum": 3.0,
            "maximum": 5.0,
            "samples": [4.0, 5.0, 3.0],
        }
        [target] = row["targets"]
        assert target["subject"] == COMPILED_OWN
        assert (target["at_most"], target["reached"], target["met"]) == (0.25, 0.5, False)

    def test_another_format_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "other.json"
        file.write_text('{"format": 99}')
        with pytest.raises(ValueError, match=r"other\.json"):
            read_results(file)


class RowTests:
    def test_names_are_unique(self) -> None:
        keys = [row.key for row in ROWS]
        assert len(set(keys)) == len(keys)
