"""Writes the TOML that the tests need: tomllib reads only."""

from __future__ import annotations

import json
from collections.abc import Mapping

Value = object
Table = Mapping[str, Value]


def merge(base: Table, changes: Table) -> dict[str, Value]:
    """`base` with `changes` laid over it: tables are merged, everything else is replaced.

    So is a table that names another backend than before, whose keys it could not have.
    """
    merged = dict(base)
    for key, value in changes.items():
        before = merged.get(key)
        is_table = isinstance(before, Mapping) and isinstance(value, Mapping)
        if is_table and value.get("backend", before.get("backend")) == before.get("backend"):
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged


def write(table: Table) -> str:
    """A document; every nested table is written inline."""
    return "".join(
        f"[{_write_key(key)}]\n" + "".join(_write_pairs(value)) + "\n"
        if isinstance(value, Mapping)
        else ""
        for key, value in table.items()
    ) + "".join(
        f"[[{_write_key(key)}]]\n" + "".join(_write_pairs(each)) + "\n"
        for key, value in table.items()
        if isinstance(value, list)
        for each in value
    )


def _write_pairs(table: Table) -> list[str]:
    return [f"{_write_key(key)} = {_write_value(value)}\n" for key, value in table.items()]


def _write_key(key: str) -> str:
    return json.dumps(key)


def _write_value(value: Value) -> str:
    match value:
        case bool() | int() | float() | str():
            return json.dumps(value)
        case Mapping():
            pairs = (f"{_write_key(key)} = {_write_value(each)}" for key, each in value.items())
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_write_value, value)) + "]"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")
