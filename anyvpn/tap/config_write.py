"""Writes a configuration file in which every key is explained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import attrs

from anyvpn.plugins import find_backend
from anyvpn.tap.config import BACKEND_KEY
from anyvpn.tap.config_structure import describe_type, keys_of
from anyvpn.tap.config_tables import SECTIONS, Section, Shape

Values = Mapping[str, Any]

# From the protocol: TOML's bare keys
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

HEAD = """\
# The configuration of an anyvpn gateway, in TOML.
#
# "# text" says what a key means. "#key = value" is a key that is not set, with its default or an
# example: to set it, remove its #, and that of the "#[table]" above it. File names are relative
# to this file. After a change: anyvpn check gateway.toml
"""


def write_configuration(values: Values) -> str:
    """A file with these values set, and everything else there is as comments."""
    return "\n".join([HEAD, *(_section(each, values.get(each.key)) for each in SECTIONS)])


def _section(section: Section, values: Any) -> str:
    head = [f"# {section.summary}"]
    match section.shape:
        case Shape.TABLE:
            tables: list[tuple[tuple[str, ...], Values | None]] = [((section.key,), values)]
        case Shape.ARRAY:
            tables = [((section.key,), each) for each in values or [None]]
        case Shape.NAMED:
            tables = [((section.key, name), each) for name, each in (values or {}).items()]
    texts = []
    for path, table in tables:
        writer = _Writer()
        writer.write(path, _keys(section, table), table, is_element=section.shape is Shape.ARRAY)
        texts.append("\n".join(writer.lines))
    return "\n".join([*head, "\n".join(texts)])


def _keys(section: Section, values: Values | None) -> dict[str, _Key]:
    keys: dict[str, _Key] = {}
    if section.kind:
        given = values or {}
        name = str(given.get(BACKEND_KEY) or section.default_backend or "log")
        backend = find_backend(section.kind, name)
        keys[BACKEND_KEY] = _Key("Which backend; `anyvpn backends` lists them.", str, name, "")
        keys |= _keys_of_class(backend.settings_class())
    if section.table is not None:
        keys |= _keys_of_class(section.table)
    return keys


@attrs.frozen
class _Key:
    """One key: its help, its type, its default (NOTHING: there is none) and a sample value."""

    help: str
    kind: Any
    default: Any
    example: Any

    @property
    def nested(self) -> type | None:
        """The attrs class of the tables that stand below it, if any do."""
        for each in (self.kind, *get_args(self.kind)):
            if isinstance(each, type) and attrs.has(each):
                return each
        return None

    @property
    def is_array(self) -> bool:
        """Whether it is a list."""
        return get_origin(self.kind) is tuple

    @property
    def is_mapping(self) -> bool:
        """Whether it is a table with names of the operator's choice."""
        return any(get_origin(each) is dict for each in (self.kind, *get_args(self.kind)))


def _keys_of_class(table: type) -> dict[str, _Key]:
    return {
        name: _Key(
            attribute.metadata.get("help", ""),
            kind,
            _default(attribute),
            attribute.metadata.get("example"),
        )
        for name, (attribute, kind) in keys_of(table).items()
    }


def _default(attribute: attrs.Attribute[Any]) -> Any:
    """A class may tell in `metadata` what None, which stands for "not set", comes to."""
    factory = getattr(attribute.default, "factory", None)
    default = factory() if callable(factory) else attribute.default
    return attribute.metadata.get("default") if default is None else default


class _Writer:
    """Collects the lines of one table and of those below it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(
        self,
        path: tuple[str, ...],
        keys: Mapping[str, _Key],
        values: Values | None,
        *,
        is_element: bool = False,
    ) -> None:
        """One table; `values` of None: all of it is a comment."""
        set_here = values or {}
        plain = {name: key for name, key in keys.items() if not _is_table(key)}
        tables = {name: key for name, key in keys.items() if _is_table(key)}
        header = ".".join(map(_key, path))
        header = f"[[{header}]]" if is_element else f"[{header}]"
        self.lines.append(header if values is not None else f"#{header}")
        for name, key in plain.items():
            self._help(key)
            if name in set_here:
                self.lines.append(f"{_key(name)} = {write_value(set_here[name])}")
            else:
                self.lines.append(f"#{_key(name)} = {_sample(key)}")
        self.lines.append("")
        for name, key in tables.items():
            self._tables((*path, name), key, set_here.get(name))

    def _tables(self, path: tuple[str, ...], key: _Key, values: Any) -> None:
        self._help(key)
        if key.nested is None:
            self._mapping(path, key, values)
            return
        keys = _keys_of_class(key.nested)
        if key.is_array:
            for each in values or [None]:
                self.write(path, keys, each, is_element=True)
        elif key.is_mapping:
            for name, each in (values or {"NAME": None}).items():
                self.write((*path, name), keys, each)
        else:
            self.write(path, keys, values)

    def _mapping(self, path: tuple[str, ...], key: _Key, values: Values | None) -> None:
        header = f"[{'.'.join(map(_key, path))}]"
        if values:
            self.lines += [
                header,
                *(f"{_key(n)} = {write_value(v)}" for n, v in values.items()),
                "",
            ]
            return
        value_kind = next(
            get_args(each)[1]
            for each in (key.kind, *get_args(key.kind))
            if get_origin(each) is dict
        )
        self.lines += [f"#{header}", f"#NAME = {_placeholder(value_kind)}", ""]

    def _help(self, key: _Key) -> None:
        if key.help:
            self.lines.append(f"# {key.help}")


def _is_table(key: _Key) -> bool:
    return key.nested is not None or key.is_mapping


def _sample(key: _Key) -> str:
    """What stands in the comment: the default, or else something of the right type."""
    if key.default is not attrs.NOTHING and key.default is not None:
        return write_value(key.default)
    return write_value(key.example) if key.example is not None else _placeholder(key.kind)


def _placeholder(kind: object) -> str:
    words = describe_type(kind)
    if words.startswith("a list"):
        return "[]"
    if words.startswith("true"):
        return "true"
    return "0" if "number" in words else '""'


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def write_value(value: Any) -> str:
    """A value as TOML has it."""
    match value:
        case bool() | int():
            return json.dumps(value)
        case float():
            return str(int(value)) if value.is_integer() else json.dumps(value)
        case list() | tuple():
            return "[" + ", ".join(map(write_value, value)) + "]"
        case _:
            return _text(str(value))


def _text(text: str) -> str:
    if "\\" in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
