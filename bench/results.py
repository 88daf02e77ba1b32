"""The figures of a run, as a value and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.profiler import Profile
from bench.rows import ROWS, Row, Target

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Figures:
    """What one subject showed in one row, run by run."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return median(self.samples)

    def as_json(self) -> dict[str, Any]:
        """With what anybody would compute from it."""
        return {
            "median": self.median,
            "minimum": min(self.samples),
            "maximum": max(self.samples),
            "samples": list(self.samples),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what was reached.

    That is the ratio of medians, or the worst figure where nobody is compared with.
    """

    target: Target
    reached: float
    met: bool


@dataclass(slots=True)
class Results:
    """A run so far; `skipped` says what could not be had, and why."""

    date: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    tunnels: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Profile]] = field(default_factory=dict)
    """By row and subject: where the time goes where a target was missed, and in logins."""

    def add(self, row: str, subject: str, figure: float) -> None:
        """One sample more."""
        of_row = self.figures.setdefault(row, {})
        before = of_row[subject].samples if subject in of_row else ()
        of_row[subject] = Figures((*before, figure))

    def verdicts(self, row: Row) -> tuple[Verdict, ...]:
        """The targets of a row about which something can be said."""
        of_row = self.figures.get(row.key, {})
        found = []
        for target in row.targets:
            if target.subject not in of_row or (target.against and target.against not in of_row):
                continue
            figures = of_row[target.subject]
            if target.against:
                reached = figures.median / of_row[target.against].median
            else:
                reached = min(figures.samples) if row.more_is_better else max(figures.samples)
            met = reached >= target.limit if row.more_is_better else reached <= target.limit
            found.append(Verdict(target, reached, met))
        return tuple(found)

    def missed(self, measure: str, subject: str) -> tuple[str, ...]:
        """The rows of a measure whose targets that subject has missed."""
        return tuple(
            row.key
            for row in ROWS
            if row.key.startswith(f"{measure}.")
            and any(each.target.subject == subject and not each.met for each in self.verdicts(row))
        )

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.as_json(), indent=2) + "\n")

    def as_json(self) -> dict[str, Any]:
        """Everything, with the verdicts on it."""
        return {
            "format": FORMAT,
            "date": self.date,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "tunnels": self.tunnels,
            "skipped": self.skipped,
            "profiles": {
                row: {subject: dict(profile) for subject, profile in of_row.items()}
                for row, of_row in self.profiles.items()
            },
            "rows": [self._row_as_json(row) for row in ROWS if row.key in self.figures],
        }

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        return {
            "row": row.key,
            "title": row.title,
            "unit": row.unit,
            "figures": {name: each.as_json() for name, each in self.figures[row.key].items()},
            "targets": [
                {
                    "subject": each.target.subject,
                    "against": each.target.against,
                    "at_least" if row.more_is_better else "at_most": each.target.limit,
                    "reached": each.reached,
                    "met": each.met,
                }
                for each in self.verdicts(row)
            ],
        }


def read_results(file: Path) -> Results:
    """What `Results.write` has written. Raises: ValueError: it is of another format."""
    content = json.loads(file.read_text())
    if content.get("format") != FORMAT:
        raise ValueError(f"{file}: no result of format {FORMAT}")
    return Results(
        date=content["date"],
        machine=content["machine"],
        versions=content["versions"],
        tunnels=content["tunnels"],
        skipped=content["skipped"],
        profiles={
            row: {subject: tuple(profile.items()) for subject, profile in of_row.items()}
            for row, of_row in content["profiles"].items()
        },
        figures={
            row["row"]: {
                name: Figures(tuple(each["samples"])) for name, each in row["figures"].items()
            }
            for row in content["rows"]
        },
    )
