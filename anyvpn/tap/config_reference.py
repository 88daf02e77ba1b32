"""The configuration reference as Markdown, made from the tables themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import attrs

from anyvpn.plugins import backends
from anyvpn.tap.config import BACKEND_KEY
from anyvpn.tap.config_structure import describe_type, keys_of
from anyvpn.tap.config_tables import SECTIONS, Section
from anyvpn.tap.config_write import write_value

HEAD = ("| key | what it must be | default | meaning |", "|---|---|---|---|")


def write_reference() -> str:
    """All tables and keys, those of every installed backend included."""
    return "\n".join(line for section in SECTIONS for line in _section(section))


def _section(section: Section) -> Iterator[str]:
    header = section.shape.value.format(section.key)
    yield from (f"## `{header}`", "", section.summary, "")
    if section.default is None:
        yield from ("A file must have it.", "")
    if section.table is not None:
        yield from _table(section.table)
    if not section.kind:
        return
    default = f"`{section.default_backend}`" if section.default_backend else "none"
    yield from (
        f"The key `{BACKEND_KEY}` chooses one of these (default: {default}); its keys stand "
        "beside it.",
        "",
    )
    for backend in backends():
        if backend.kind == section.kind:
            yield from (f'### `{header}` with `{BACKEND_KEY} = "{backend.name}"`', "")
            yield from (f"{backend.summary[:1].upper()}{backend.summary[1:]}.", "")
            yield from _table(backend.settings_class())


def _table(table: type, below: str = "") -> Iterator[str]:
    keys = keys_of(table)
    if not keys:
        yield from ("It has no keys.", "")
        return
    yield from HEAD
    for name, (attribute, kind) in keys.items():
        yield (
            f"| `{below}{name}` | {_cell(describe_type(kind))} | {_default(attribute)} "
            f"| {_cell(attribute.metadata.get('help', ''))} |"
        )
    yield ""
    for name, (_, kind) in keys.items():
        nested = _nested(kind)
        if nested is not None:
            inner = f"{below}{name}" + (".NAME" if "table, each" in describe_type(kind) else "")
            yield from (f"In each `{inner}`:", "")
            yield from _table(nested, f"{inner}.")


def _nested(kind: Any) -> type | None:
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and attrs.has(each):
            return each
    return None


def _default(attribute: attrs.Attribute[Any]) -> str:
    default = attribute.default
    if default is attrs.NOTHING:
        return "must be set"
    if default is None or getattr(default, "factory", None) is not None:
        return "not set"
    return f"`{_cell(write_value(default))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
