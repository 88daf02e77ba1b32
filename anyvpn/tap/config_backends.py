"""Makes the backends that a file chooses; one that another names is made before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from traceback import extract_tb
from typing import Any

import attrs

from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IPublisher
from anyvpn.model.downloads import Download
from anyvpn.tap.config import ChosenBackend, Draft
from anyvpn.tap.config_positions import KeyPath
from anyvpn.tap.config_structure import Problem, Reference, did_you_mean
from anyvpn.tap.config_tables import Shape


def make_backends(draft: Draft, reactor: object) -> dict[KeyPath, Any]:
    """All of them that can be made, in the order of the file; the draft gets the problems."""
    maker = _Maker(draft, reactor)
    for path in draft.chosen:
        maker.make(path)
    return {path: maker.made[path] for path in draft.chosen if maker.made.get(path) is not None}


def published_documents(draft: Draft, built: Mapping[KeyPath, Any]) -> dict[str, Download]:
    """What backends have for everybody to read; the draft gets what stands in the same place."""
    found: dict[str, tuple[KeyPath, Download]] = {}
    for path, backend in built.items():
        publisher = IPublisher(backend, None)
        for where, document in publisher.documents.items() if publisher is not None else ():
            first, there = found.setdefault(where, (path, document))
            if there != document:
                text = f"publishes {where}, where {'.'.join(map(str, first))} publishes another"
                draft.problems.append(Problem(path, text))
    return {where: document for where, (_, document) in found.items()}


class _Maker:
    """Goes from each backend to those that it names, and makes these first."""

    def __init__(self, draft: Draft, reactor: object) -> None:
        self.made: dict[KeyPath, object | None] = {}
        self._draft = draft
        self._reactor = reactor
        self._under_way: list[KeyPath] = []

    def make(self, path: KeyPath) -> object | None:
        """The backend; None when it, or one that it names, has problems."""
        if path not in self.made:
            self._under_way.append(path)
            self.made[path] = self._make(self._draft.chosen[path])
            self._under_way.pop()
        return self.made[path]

    def _make(self, chosen: ChosenBackend) -> object | None:
        missing: list[str] = []

        def find(where: KeyPath, reference: Reference) -> object | None:
            found = self._find(where, reference)
            if found is None:
                missing.append(reference.name)
            return found

        settings = _with_backends(chosen.settings, chosen.path, find)
        if missing:
            return None
        try:
            return chosen.backend.build(settings, self._reactor)
        except ConfigurationError as error:
            self._draft.problems += (self._placed(chosen, text) for text in error.problems)
        except Exception as error:  # whatever foreign code raises
            self._draft.problems.append(Problem(chosen.path, _broken(chosen, error)))
        return None

    def _find(self, where: KeyPath, reference: Reference) -> object | None:
        key = next(
            each.key
            for each in self._draft.sections
            if each.kind == reference.kind and each.shape is Shape.NAMED
        )
        path: KeyPath = (key, reference.name)
        if path in self._under_way:
            way = [str(each[-1]) for each in self._under_way[self._under_way.index(path) :]]
            text = f"{' names '.join([*way, reference.name])}: none of them can be the first"
            self._draft.problems.append(Problem(where, text))
            return None
        if path in self._draft.chosen:
            return self.make(path)
        written = self._draft.document.tables.get(key)
        names = list(written) if isinstance(written, dict) else []
        if reference.name not in names:  # or it has problems of its own
            hint = did_you_mean(reference.name, names)
            text = f'there is no {reference.kind} "{reference.name}"; {hint}'
            self._draft.problems.append(Problem(where, text))
        return None

    def _placed(self, chosen: ChosenBackend, text: str) -> Problem:
        """A backend's problem may begin with the name of one of its keys, which is told once."""
        name = text.partition(":")[0].partition(" ")[0]
        path = (*chosen.path, name)
        if not self._draft.document.positions.knows(path):
            return Problem(chosen.path, text)
        return Problem(path, text.removeprefix(f"{name}: "))


def _broken(chosen: ChosenBackend, error: Exception) -> str:
    """What its author needs to know: which one it is, what it raised, and in which line."""
    *_, last = extract_tb(error.__traceback__)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        f'the {chosen.backend.kind} backend "{chosen.backend.name}" cannot be built: {said} '
        f"({last.filename}:{last.lineno})"
    )


def _with_backends(
    value: Any, path: KeyPath, find: Callable[[KeyPath, Reference], object | None]
) -> Any:
    """The same settings, with what they name in the place of the names."""
    match value:
        case Reference():
            return find(path, value)
        case tuple():
            return tuple(
                _with_backends(each, (*path, number), find) for number, each in enumerate(value)
            )
        case dict():
            return {key: _with_backends(each, (*path, key), find) for key, each in value.items()}
    if not attrs.has(type(value)):
        return value
    own = {each.name: getattr(value, each.name) for each in attrs.fields(type(value)) if each.init}
    new = {name: _with_backends(each, (*path, name), find) for name, each in own.items()}
    changed = {name: each for name, each in new.items() if each != own[name]}
    return attrs.evolve(value, **changed) if changed else value
