"""The results as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench.results import Figures, Results, Verdict
from bench.rows import ROWS, TITLES, Row, Target


def show(results: Results, console: Console) -> None:
    """The machine, then a line for each row and subject, then what could not be had."""
    machine = ", ".join(f"{name}: {text}" for name, text in results.machine.items())
    versions = ", ".join(f"{name} {text}" for name, text in results.versions.items())
    console.print(f"{results.date}  {machine}\n{versions}\n")
    for name, text in results.tunnels.items():
        console.print(f"  {name}: {text}")
    table = Table("row", "unit", "subject", "median", "min", "max", "target", "reached", "")
    for row in ROWS:
        if row.key in results.figures:
            _add_row(table, row, results.figures[row.key], results.verdicts(row))
    console.print(table)
    for name, why in results.skipped.items():
        console.print(f"Skipped {name}: {why}")


def _add_row(
    table: Table, row: Row, figures: dict[str, Figures], verdicts: tuple[Verdict, ...]
) -> None:
    title, unit = row.title, row.unit
    for subject, figure in figures.items():
        samples = (figure.median, min(figure.samples), max(figure.samples))
        cells = [title, unit, TITLES[subject], *map(number, samples)]
        own = [each for each in verdicts if each.target.subject == subject]
        table.add_row(
            *cells,
            "\n".join(target_text(row, each.target) for each in own),
            "\n".join(number(each.reached) for each in own),
            "\n".join("[green]met" if each.met else "[red]missed" for each in own),
        )
        title = unit = ""
    table.add_section()


def target_text(row: Row, target: Target) -> str:
    """A target in words."""
    sign = "≥" if row.more_is_better else "≤"
    against = f" × {target.against}" if target.against else ""
    return f"{sign} {number(target.limit)}{against}"


def number(figure: float) -> str:
    """Three digits that count, and no more."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
