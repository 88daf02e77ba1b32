"""README and docs show the newest committed results, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.pages import (
    PAGE,
    PLOT,
    outdated,
    page_figures,
    readme_figures,
    shown_results,
    with_figures,
    worth_showing,
)
from bench.plot import draw
from bench.results import Results
from bench.rows import ROWS

PLACE = "before\n<!-- figures: of a test -->\nold\n<!-- end of figures -->\nafter\n"


def results(date: str = "2026-01-02T03:04:05+00:00") -> Results:
    made = Results(
        date,
        {
            "processor": "Example CPU",
            "cores": "2",
            "memory": "4 GiB",
            "kernel": "Linux 6",
            "system": "Debian",
        },
        {"Python": "3.13", "ocserv": "1.1.6"},
    )
    for subject, down, up in (("ocserv", 6.0, 4.0), ("python", 4.2, 4.4)):
        for factor in (1.0, 1.1, 0.9):
            made.add("dtls.down.1.cpu", subject, down * factor)
            made.add("dtls.up.1.cpu", subject, up * factor)
    made.tunnels["anyvpn, dtls"] = "AES-256-GCM, MTU 1434"
    made.skipped["OpenVPN"] = "openvpn not installed"
    return made


class CommittedFiguresTests:
    def test_documents_show_the_newest_result(self) -> None:
        assert outdated() == [], "run `python -m bench.pages`"

    def test_the_plot_is_that_of_the_newest_result(self) -> None:
        shown = shown_results()
        if shown:
            assert shown[0].date.encode() in PLOT.read_bytes(), "run `python -m bench.pages`"
        else:
            assert not PLOT.exists()


class DocumentTests:
    def test_figures_replace_those_that_were_there(self) -> None:
        filled = with_figures(PLACE, "new\n")
        assert filled == PLACE.replace("old", "new")
        assert with_figures(filled, "") == PLACE.replace("old\n", "")

    def test_a_document_without_a_place_is_found(self) -> None:
        with pytest.raises(ValueError, match="place"):
            with_figures("no comments", "new")

    def test_the_page_has_every_row_with_its_verdict(self) -> None:
        page = page_figures([results()])
        assert "Example CPU, 2 cores, 4 GiB, Linux 6, Debian" in page
        assert "Python 3.13, ocserv 1.1.6" in page
        assert (
            "| DTLS, 1 TCP stream down, CPU-s/GB | ocserv × openconnect | 6 | 5.4 to 6.6 |" in page
        )
        assert "| 4.2 | 3.78 to 4.62 | ≤ 0.75 × ocserv | 0.7 | met |" in page
        assert "| 4.4 | 3.96 to 4.84 | ≤ 1 × ocserv | 1.1 | **missed** |" in page
        assert "- anyvpn, dtls: AES-256-GCM, MTU 1434" in page
        assert "- OpenVPN: openvpn not installed" in page

    def test_the_page_says_where_the_time_goes_where_it_is_too_much(self) -> None:
        made = results()
        assert "Where the time goes" not in page_figures([made])
        made.profiles["dtls.up.1.cpu"] = {"python": (("open_records (records.py)", 20.4),)}
        title = "DTLS, 1 TCP stream up, anyvpn, Python engine × openconnect"
        assert f"- {title}: `open_records (records.py)` 20 %\n" in page_figures([made])

    def test_what_came_after_the_newest_run_of_all_rows_is_shown_beside_it(self) -> None:
        old, whole, later, newest = (results(f"2026-01-0{day}T00:00:00+00:00") for day in "1234")
        assert worth_showing([old, newest, later]) == [newest]
        for row in ROWS:
            for made in (old, whole):
                made.add(row.key, "ocserv", 1.0)
        assert worth_showing([newest, old, later, whole]) == [whole, later, newest]
        assert worth_showing([]) == []
        later.versions = {"wireguard-go": "7"}
        page = page_figures([whole, later])
        assert page.count("Measured on") == page.count("| DTLS, 1 TCP stream up, CPU-s/GB |") == 2
        assert "### Of some rows, on 2026-01-03\n\nMeasured on 2026-01-03" in page
        assert page.count("The tunnels") == 1
        assert page.endswith("| **missed** |\n")

    def test_readme_has_a_sentence_of_the_best_engine_there_is(self) -> None:
        made = results()
        assert "the Python engine takes" in readme_figures(made)
        assert "0.70 times to the client and 1.10 times from the client" in readme_figures(made)
        made.add("dtls.down.1.cpu", "compiled", 1.5)
        assert "the Python engine takes" in readme_figures(made)
        made.add("dtls.up.1.cpu", "compiled", 1.6)
        assert "0.25 times to the client and 0.40 times from the client" in readme_figures(made)

    def test_without_a_result_nothing_is_claimed(self) -> None:
        assert "No result is committed yet" in page_figures([])


class PlotTests:
    def test_it_is_a_picture_that_says_of_which_run(self, tmp_path: Path) -> None:
        file = tmp_path / "plot.png"
        draw(results(), file)
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert b"2026-01-02T03:04:05+00:00" in content


class CommandTests:
    @pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--outdated", 2)])
    def test_nothing_is_written_by_whoever_asks_how(self, argument: str, status: int) -> None:
        written_at = PAGE.stat().st_mtime_ns
        done = subprocess.run(
            (sys.executable, "-m", "bench.pages", argument),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == status
        assert "usage: python -m bench.pages" in done.stdout + done.stderr
        assert PAGE.stat().st_mtime_ns == written_at
