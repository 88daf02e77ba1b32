"""Draws what each subject costs beside ocserv, row by row, as PNG."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from bench.results import Results
from bench.rows import OCSERV, ROWS, TITLES, Row

# Ours
INCHES_PER_BAR, WIDTH_INCHES, MARGIN_INCHES = 0.22, 9.0, 1.2
DATE_KEY = "Description"
"""What the picture says of itself, so that it can be told from one of an older run."""


def draw(results: Results, file: Path) -> None:
    """A group of bars for each row of costs in which ocserv took part; its own cost is 1."""
    rows = [row for row in ROWS if _is_comparable(results, row)]
    subjects = [
        each
        for each in TITLES
        if each != OCSERV and any(each in results.figures[row.key] for row in rows)
    ]
    height = MARGIN_INCHES + INCHES_PER_BAR * len(rows) * (len(subjects) + 1)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.add_subplot()
    share = 1 / (len(subjects) + 1)
    for number, subject in enumerate(subjects):
        places, ratios = [], []
        for place, row in enumerate(rows):
            shown = results.figures[row.key]
            if subject in shown:
                places.append(place + number * share)
                ratios.append(shown[subject].median / shown[OCSERV].median)
        axes.barh(places, ratios, height=share, align="edge", label=TITLES[subject])
    axes.axvline(1, color="black", linewidth=1, label=TITLES[OCSERV])
    axes.set_yticks(
        [place + (1 - share) / 2 for place in range(len(rows))],
        [f"{row.title}\n{row.unit}" for row in rows],
        fontsize="small",
    )
    axes.invert_yaxis()
    axes.set_xlabel("times what ocserv takes; less is better")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120, metadata={DATE_KEY: results.date})


def _is_comparable(results: Results, row: Row) -> bool:
    figures = results.figures.get(row.key, {})
    return not row.more_is_better and len(figures) > 1 and OCSERV in figures
