"""The floors of the architecture: imports point downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from anyvpn.plugins import backends

REPOSITORY = Path(__file__).parents[1]

FLOORS = {
    "errors": 0,
    "model": 1,
    "interfaces": 2,
    "wire": 2,
    "dtls": 2,
    "tun": 2,
    "plugins": 3,
    "packets": 3,
    "backends": 3,
    "testing": 4,
    "gateway": 4,
    "client": 4,
    "control": 5,
    "load": 5,
    "tap": 6,
    "cli": 7,
}
"""What a module is part of, by the first name below the package; higher floors know lower ones."""

ONLY = {
    "backends": {"errors", "model", "interfaces", "tun", "backends"},
    "interfaces": {"model"},
}
"""What these may import of the package at all."""

PURE = ("errors", "model", "wire", "dtls", "interfaces")
IMPURE = ("twisted", "socket", "time", "asyncio", "threading", "subprocess")
DROPIN_IMPORTS = {"anyvpn.plugins", "twisted.application.service", "__future__"}
MOST_LINES = 400


def imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, type checking included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield node.lineno, module
            # `from anyvpn.dtls import psk` names a module as well
            yield from ((node.lineno, f"{module}.{each.name}") for each in node.names)


def problems_in(root: Path) -> list[str]:
    """Every import that the table forbids, one line each."""
    package = root / "anyvpn"
    found: list[str] = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        part = parts[0]
        if part == "__init__":
            continue
        where = file.relative_to(root)
        if part not in FLOORS:
            found.append(f"{where}: {part} has no floor; give it one in the table")
            continue
        for line, name in imports_of(file):
            if part in PURE and name.split(".")[0] in IMPURE:
                found.append(f"{where}:{line}: {part} must not know {name.split('.')[0]}")
            if not name.startswith("anyvpn."):
                continue
            other = name.split(".")[1]
            if other == part or other not in FLOORS:
                continue
            if part in ONLY and other not in ONLY[part]:
                found.append(f"{where}:{line}: {part} may import {sorted(ONLY[part])}, not {other}")
            elif FLOORS[other] > FLOORS[part]:
                found.append(f"{where}:{line}: {part} is below {other}")
            elif FLOORS[other] == FLOORS[part] and "interfaces" not in {part, other}:
                found.append(f"{where}:{line}: {part} and {other} are neighbours")
    return sorted(set(found))


def shape_problems_in(root: Path) -> list[str]:
    """Modules that are too long, and package files that hold more than a docstring."""
    found: list[str] = []
    for file in sorted((root / "anyvpn").rglob("*.py")):
        where = file.relative_to(root)
        text = file.read_text()
        if len(text.splitlines()) > MOST_LINES:
            found.append(f"{where}: more than {MOST_LINES} lines")
        tree = ast.parse(text)
        if ast.get_docstring(tree) is None:
            found.append(f"{where}: no docstring")
        is_root = where == Path("anyvpn/__init__.py")
        if file.name == "__init__.py" and len(tree.body) > (2 if is_root else 1):
            found.append(f"{where}: holds more than a docstring")
    return found


class ArchitectureTests:
    def test_imports_point_downwards_only(self) -> None:
        assert problems_in(REPOSITORY) == []

    def test_modules_are_short_and_packages_are_empty(self) -> None:
        assert shape_problems_in(REPOSITORY) == []

    def test_a_backend_knows_no_other_backend(self) -> None:
        """Its modules begin with its name; those that begin with no backend's are for all."""
        announced = {getattr(each, "module", "").rpartition(".")[2] for each in backends()}

        def owners(module: str) -> set[str]:
            return {each for each in announced if each and module.startswith(each)}

        for file in (REPOSITORY / "anyvpn" / "backends").glob("*.py"):
            for line, name in imports_of(file):
                other = name.removeprefix("anyvpn.backends.").split(".")[0]
                if name.startswith("anyvpn.backends.") and owners(other):
                    assert owners(file.stem) & owners(other), f"{file.name}:{line} imports {other}"

    def test_dropins_import_nothing_heavy(self) -> None:
        folder = REPOSITORY / "twisted"
        assert not list(folder.rglob("__init__.py")), "it would hide Twisted itself"
        for file in folder.rglob("*.py"):
            for line, name in imports_of(file):
                assert any(name.startswith(each) for each in DROPIN_IMPORTS), f"{file}:{line}"


class CheckerTests:
    def tree(self, root: Path, **files: str) -> Path:
        for name, text in files.items():
            file = root / "anyvpn" / name.replace("__", "/")
            file = file.with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return root

    def test_an_import_upwards_is_found(self, tmp_path: Path) -> None:
        root = self.tree(tmp_path, model__a="from anyvpn.gateway.b import c\n")
        assert problems_in(root) == ["anyvpn/model/a.py:1: model is below gateway"]

    def test_neighbours_are_found(self, tmp_path: Path) -> None:
        root = self.tree(tmp_path, gateway__a="import anyvpn.client.b\n")
        assert problems_in(root) == ["anyvpn/gateway/a.py:1: gateway and client are neighbours"]

    def test_an_import_for_types_counts(self, tmp_path: Path) -> None:
        text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from anyvpn.tap import b\n"
        root = self.tree(tmp_path, wire__a=text)
        assert problems_in(root) == ["anyvpn/wire/a.py:3: wire is below tap"]

    def test_the_clock_and_the_network_are_found(self, tmp_path: Path) -> None:
        root = self.tree(tmp_path, dtls__a="import time\nfrom twisted.internet import defer\n")
        assert problems_in(root) == [
            "anyvpn/dtls/a.py:1: dtls must not know time",
            "anyvpn/dtls/a.py:2: dtls must not know twisted",
        ]

    def test_a_backend_with_a_private_door_is_found(self, tmp_path: Path) -> None:
        root = self.tree(tmp_path, backends__a="from anyvpn.wire.cstp import frame_data\n")
        [problem] = problems_in(root)
        assert "backends may import" in problem

    def test_a_folder_without_a_floor_is_found(self, tmp_path: Path) -> None:
        root = self.tree(tmp_path, utils__a='"""Odds and ends."""\n')
        assert problems_in(root) == [
            "anyvpn/utils/a.py: utils has no floor; give it one in the table"
        ]

    def test_long_modules_are_found(self, tmp_path: Path) -> None:
        root = self.tree(tmp_path, model__a='"""Long."""\n' + "x = 1\n" * MOST_LINES)
        assert shape_problems_in(root) == ["anyvpn/model/a.py: more than 400 lines"]

    def test_full_packages_are_found(self, tmp_path: Path) -> None:
        folder = tmp_path / "anyvpn" / "model"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text('"""The model."""\nx = 1\n')
        assert shape_problems_in(tmp_path) == [
            "anyvpn/model/__init__.py: holds more than a docstring"
        ]
