"""Writes the figures of committed results into README and docs: none is typed by hand.

python -m bench.pages writes them, with the plot; the tests compare.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.report import number, target_text
from bench.results import Figures, Results, read_results
from bench.rows import COMPILED, OCSERV, PYTHON, ROWS, TITLES, Row

REPOSITORY = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
UNCOMMITTED = "last.json"
PAGE = REPOSITORY / "docs" / "performance.md"
README = REPOSITORY / "README.md"
PLOT = REPOSITORY / "docs" / "performance.png"
_PLACE = re.compile(r"(<!-- figures:[^>]*-->\n).*?(<!-- end of figures -->)", re.DOTALL)
_NOTHING_YET = "No result is committed yet; `make bench` shows the figures of your machine.\n"
_HEADLINES = (("dtls.down.1.cpu", "to"), ("dtls.up.1.cpu", "from"))


def shown_results() -> list[Results]:
    """The committed ones that README and docs show."""
    files = [file for file in RESULTS.glob("*.json") if file.name != UNCOMMITTED]
    return worth_showing([read_results(file) for file in files])


def worth_showing(results: Sequence[Results]) -> list[Results]:
    """The newest run of all rows, or simply the newest, then those of some rows that came later."""
    in_order = sorted(results, key=lambda each: each.date)
    all_rows = {row.key for row in ROWS}
    whole = [at for at, each in enumerate(in_order) if all_rows <= each.figures.keys()]
    return in_order[whole[-1] if whole else -1 :]


def with_figures(text: str, figures: str) -> str:
    """A document with other figures. Raises: ValueError: it has no place for them."""
    filled, count = _PLACE.subn(lambda place: f"{place[1]}{figures}{place[2]}", text)
    if count != 1:
        raise ValueError("the document needs one place between the comments for figures")
    return filled


def page_figures(results: Sequence[Results]) -> str:
    """What docs/performance.md shows: the first one, then what the others show beside it."""
    if not results:
        return _NOTHING_YET
    lines = [*_page_lines(results[0])]
    for each in results[1:]:
        lines += [f"\n### Of some rows, on {each.date[:10]}\n\n", *_run_lines(each)]
    return "".join(lines)


def readme_figures(results: Results) -> str:
    """What README shows: one sentence, or nothing."""
    for subject, name in ((COMPILED, "the compiled engine"), (PYTHON, "the Python engine")):
        costs = [
            f"{verdict.reached:.2f} times {direction} the client"
            for key, direction in _HEADLINES
            for row in ROWS
            if row.key == key
            for verdict in results.verdicts(row)
            if (verdict.target.subject, verdict.target.against) == (subject, OCSERV)
        ]
        if len(costs) == len(_HEADLINES):
            return (
                f"For a GB over DTLS, {name} takes the CPU time of Debian's ocserv "
                f"{' and '.join(costs)} ({_machine(results)}). "
                "[All figures, and how they were measured](docs/performance.md)\n"
            )
    return ""


def outdated() -> list[Path]:
    """The documents that show other figures than they should."""
    return [file for file, text in _documents() if file.read_text() != text]


def _documents() -> Iterator[tuple[Path, str]]:
    results = shown_results()
    sentence = readme_figures(results[0]) if results else ""
    for file, figures in ((PAGE, page_figures(results)), (README, sentence)):
        yield file, with_figures(file.read_text(), figures)


def _page_lines(results: Results) -> Iterator[str]:
    yield f"![CPU time beside ocserv's]({PLOT.name})\n\n"
    yield from _run_lines(results)
    yield "\nThe tunnels, as the two sides have agreed on them:\n\n"
    yield from (f"- {name}: {text}\n" for name, text in results.tunnels.items())
    if results.profiles:
        yield "\n### Where the time goes in rows that are missed, and in a login\n\n"
        yield from _profile_lines(results)
    if results.skipped:
        yield "\nNot in this run:\n\n"
        yield from (f"- {name}: {why}\n" for name, why in results.skipped.items())


def _run_lines(results: Results) -> Iterator[str]:
    versions = ", ".join(f"{name} {text}" for name, text in results.versions.items())
    yield f"Measured on {results.date[:10]}: {_machine(results)}. {versions}.\n\n"
    yield "| row | subject | median | lowest to highest | target | reached | |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for row in ROWS:
        if row.key in results.figures:
            yield from _table_lines(results, row, results.figures[row.key])


def _table_lines(results: Results, row: Row, figures: dict[str, Figures]) -> Iterator[str]:
    title = row.measured
    for subject, figure in figures.items():
        own = [each for each in results.verdicts(row) if each.target.subject == subject]
        cells = [
            title,
            TITLES[subject],
            number(figure.median),
            f"{number(min(figure.samples))} to {number(max(figure.samples))}",
            "<br>".join(target_text(row, each.target) for each in own),
            "<br>".join(number(each.reached) for each in own),
            "<br>".join("met" if each.met else "**missed**" for each in own),
        ]
        yield f"| {' | '.join(cells)} |\n"
        title = ""


def _profile_lines(results: Results) -> Iterator[str]:
    for row in ROWS:
        for subject, profile in results.profiles.get(row.key, {}).items():
            functions = ", ".join(f"`{name}` {share:.0f} %" for name, share in profile)
            yield f"- {row.title}, {TITLES[subject]}: {functions}\n"


def _machine(results: Results) -> str:
    machine = results.machine
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['kernel']}, {machine['system']}"
    )


def main() -> None:
    """Write all of them."""
    argparse.ArgumentParser("python -m bench.pages", description=__doc__).parse_args()
    from bench.plot import draw  # noqa: PLC0415 - matplotlib is for whoever draws

    for file, text in _documents():
        file.write_text(text)
    for whole in shown_results()[:1]:
        draw(whole, PLOT)


if __name__ == "__main__":
    main()
