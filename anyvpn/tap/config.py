"""Reads the configuration file into tables, and keeps every problem that it finds."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from anyvpn.errors import BackendUnavailable, ConfigurationError
from anyvpn.interfaces import IBackend
from anyvpn.plugins import backends, find_backend
from anyvpn.tap.config_positions import KeyPath, Positions, find_positions, format_path
from anyvpn.tap.config_structure import Problem, WrongValues, did_you_mean, keys_of, structure
from anyvpn.tap.config_tables import SECTIONS, Section, Shape

Table = TypeVar("Table")

# Ours
LARGEST_FILE_BYTES = 10_000_000
BACKEND_KEY = "backend"

_SYNTAX_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)

_DECLARED_TWICE = re.compile(r"Cannot declare (\(.*\)) twice", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """A file that is TOML, and where each of its keys stands."""

    file: Path
    tables: Mapping[str, object]
    positions: Positions

    def describe(self, problem: Problem) -> str:
        """A problem as one line: file, line, key path, what is wrong."""
        where = f"{self.file}:{self.positions.line(problem.path)}: "
        path = format_path(problem.path)
        return where + (f"{path}: " if path else "") + " ".join(problem.text.split())

    def error(self, problems: Iterable[Problem]) -> ConfigurationError:
        """All problems in the order of the file, each once."""
        ordered = sorted(problems, key=lambda each: self.positions.line(each.path))
        return ConfigurationError(*dict.fromkeys(map(self.describe, ordered)))


@dataclass(frozen=True, slots=True)
class ChosenBackend:
    """A backend as the file chooses it, with its settings; not made yet."""

    path: KeyPath
    backend: IBackend
    settings: object


@dataclass(slots=True)
class Draft:
    """What could be read of a file, and what could not."""

    document: Document
    problems: list[Problem] = field(default_factory=list)
    sections: tuple[Section, ...] = SECTIONS
    tables: dict[KeyPath, object] = field(default_factory=dict)
    chosen: dict[KeyPath, ChosenBackend] = field(default_factory=dict)

    def table(self, key: str, kind: type[Table]) -> Table | None:
        """One of our own tables; None when it has problems."""
        found = self.tables.get((key,))
        return found if isinstance(found, kind) else None

    def tables_below(self, key: str, kind: type[Table]) -> dict[KeyPath, Table]:
        """The elements of an array of our own tables, in the order of the file."""
        return {
            path: found
            for path, found in self.tables.items()
            if path[0] == key and len(path) > 1 and isinstance(found, kind)
        }

    def backend(self, key: str) -> ChosenBackend | None:
        """The backend of a section that has one; None when it has problems."""
        return self.chosen.get((key,))

    def backends_below(self, key: str) -> dict[KeyPath, ChosenBackend]:
        """The backends of a section that has several, in the order of the file."""
        return {path: found for path, found in self.chosen.items() if path[0] == key}


def read_document(file: Path) -> Document:
    """A TOML file. Raises: ConfigurationError: it cannot be read or is no TOML."""
    file = file.absolute()
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE_BYTES + 1)
        if len(content) > LARGEST_FILE_BYTES:
            raise ConfigurationError(f"{file}: is larger than {LARGEST_FILE_BYTES} bytes")
        text = content.decode("utf-8")
        tables = tomllib.loads(text)
        return Document(file, tables, find_positions(text))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{file}:{line}: is not UTF-8 text") from error
    except RecursionError as error:
        raise ConfigurationError(f"{file}: is nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_syntax_problem(file, text, str(error))) from error


def read_draft(file: Path, sections: tuple[Section, ...] = SECTIONS) -> Draft:
    """Everything in the file that can be read by itself; `sections` is what may be in it.

    Raises: ConfigurationError: the file cannot be read or is no TOML.
    """
    draft = Draft(read_document(file), sections=sections)
    known = {section.key: section for section in sections}
    for key in draft.document.tables:
        if key not in known:
            hint = _belongs(sections, key) or did_you_mean(key, list(known))
            draft.problems.append(Problem((key,), f"unknown table; {hint}"))
    for section in sections:
        _read_section(draft, section)
    return draft


def read_section(file: Path, key: str) -> dict[KeyPath, ChosenBackend]:
    """The backends of one section alone; other sections may have problems.

    Raises: ConfigurationError: the file cannot be read, or this section has problems.
    """
    draft = Draft(read_document(file))
    _read_section(draft, next(section for section in SECTIONS if section.key == key))
    if draft.problems:
        raise draft.document.error(draft.problems)
    return draft.backends_below(key)


def read_table(file: Path, key: str, kind: type[Table]) -> Table:
    """One of our own tables alone; others may have problems.

    Raises: ConfigurationError: the file cannot be read, or this table has problems.
    """
    draft = Draft(read_document(file))
    _read_section(draft, next(section for section in SECTIONS if section.key == key))
    found = draft.table(key, kind)
    if found is None:
        raise draft.document.error(draft.problems)
    return found


def _read_section(draft: Draft, section: Section) -> None:
    content = draft.document.tables.get(section.key, section.default)
    header = section.shape.value.format(section.key)
    path: KeyPath = (section.key,)
    if content is None:
        draft.problems.append(Problem(path, f"is missing; a table {header} is needed"))
        return
    match section.shape, content:
        case Shape.TABLE, dict():
            _read_table(draft, section, content, path)
        case Shape.ARRAY, list():
            for number, each in enumerate(content):
                _read_table(draft, section, each, (*path, number))
        case Shape.NAMED, dict():
            for name, each in content.items():
                _read_table(draft, section, each, (*path, name))
        case _:
            draft.problems.append(Problem(path, f"must be a table {header}"))
            return
    if not content and section.default is None and section.shape is not Shape.TABLE:
        draft.problems.append(Problem(path, f"is empty; at least one table {header} is needed"))


def _read_table(draft: Draft, section: Section, content: object, path: KeyPath) -> None:
    if not isinstance(content, dict):
        header = section.shape.value.format(section.key)
        draft.problems.append(Problem(path, f"must be a table {header}"))
        return
    directory = draft.document.file.parent
    own = content
    try:
        if section.kind:
            names = keys_of(section.table) if section.table is not None else {}
            own = {key: value for key, value in content.items() if key in names}
            rest = {key: value for key, value in content.items() if key not in names}
            draft.chosen[path] = choose_backend(section, rest, directory, path)
    except WrongValues as wrong:
        draft.problems += _with_better_hints(draft.sections, section, wrong.found)
    if section.table is None:
        return
    try:
        draft.tables[path] = structure(own, section.table, directory, path)
    except WrongValues as wrong:
        draft.problems += _with_better_hints(draft.sections, section, wrong.found)


def choose_backend(
    section: Section, content: Mapping[str, object], directory: Path, path: KeyPath
) -> ChosenBackend:
    """Find the backend that a table names, and read its settings. Raises: WrongValues."""
    name = content.get(BACKEND_KEY, section.default_backend)
    where: KeyPath = (*path, BACKEND_KEY)
    if not isinstance(name, str) or not name:
        names = ", ".join(f'"{each.name}"' for each in backends() if each.kind == section.kind)
        what = "is missing; it" if BACKEND_KEY not in content else "must be text: it"
        raise WrongValues((Problem(where, f"{what} must name one of {names}"),))
    try:
        backend = find_backend(section.kind, name)
        settings_class = backend.settings_class()
    except BackendUnavailable as error:
        raise WrongValues((Problem(where, str(error)),)) from None
    except Exception as error:  # whatever a foreign backend raises
        text = f'the {section.kind} backend "{name}" cannot tell its settings: {error!r}'
        raise WrongValues((Problem(where, text),)) from None
    settings = {key: value for key, value in content.items() if key != BACKEND_KEY}
    return ChosenBackend(path, backend, structure(settings, settings_class, directory, path))


def _with_better_hints(
    sections: Iterable[Section], section: Section, found: Iterable[Problem]
) -> Iterator[Problem]:
    """A key under a header that is still commented out is found in the table above it."""
    for problem in found:
        name = problem.path[-1]
        hint = _belongs(sections, name, section) if problem.is_unknown_key else ""
        yield Problem(problem.path, f"unknown key; {hint}") if hint else problem


def _belongs(sections: Iterable[Section], name: str | int, but: Section | None = None) -> str:
    for section in sections:
        if section is not but and section.table is not None and name in keys_of(section.table):
            header = section.shape.value.format(section.key)
            return f"it belongs into {header}: this line must stand above it, without #"
    return ""


def _syntax_problem(file: Path, text: str, said: str) -> str:
    found = _SYNTAX_ERROR.fullmatch(said)
    if found is None:
        return f"{file}: is not TOML: {said}"
    lines = text.split("\n")
    line, column = int(found[2] or len(lines)), found[3] or len(lines[-1]) + 1
    twice = _DECLARED_TWICE.fullmatch(found[1])
    if twice is not None:
        return f"{file}:{line}: {_told_twice(lines[: line - 1], twice[1])}"
    return f"{file}:{line}:{column}: is not TOML: {found[1]}"


def _told_twice(before: list[str], table: str) -> str:
    """What is wrong with a second table, written as Python writes a tuple, after these lines."""
    path: KeyPath = ast.literal_eval(table)
    positions = find_positions("\n".join(before))
    first = f", first in line {positions.line(path)}" if positions.knows(path) else ""
    return f"[{format_path(path)}] is there twice{first}"
