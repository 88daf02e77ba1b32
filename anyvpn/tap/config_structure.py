"""Reads TOML tables into attrs classes, strictly; finds every problem at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from types import GenericAlias
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from zope.interface.interface import InterfaceClass

from anyvpn.errors import ConfigurationError
from anyvpn.plugins import KINDS
from anyvpn.tap.config_positions import KeyPath

Table = TypeVar("Table")
_Parser = Callable[[str], object]
_Reader = Callable[[Any, Any], Any]

_ADDRESS_KINDS: tuple[tuple[frozenset[type], _Parser, str], ...] = (
    (frozenset({IPv4Address, IPv6Address}), ip_address, "an IP address"),
    (frozenset({IPv4Address}), IPv4Address, "an IPv4 address"),
    (frozenset({IPv6Address}), IPv6Address, "an IPv6 address"),
    (frozenset({IPv4Network, IPv6Network}), ip_network, "an IP network"),
    (frozenset({IPv4Network}), IPv4Network, "an IPv4 network"),
    (frozenset({IPv6Network}), IPv6Network, "an IPv6 network"),
    (frozenset({IPv4Interface, IPv6Interface}), ip_interface, "an IP address with its prefix"),
    (frozenset({IPv4Interface}), IPv4Interface, "an IPv4 address with its prefix"),
    (frozenset({IPv6Interface}), IPv6Interface, "an IPv6 address with its prefix"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a value, and what would be right."""

    path: KeyPath
    text: str
    is_unknown_key: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """Another backend of the file, by its kind and the name of its table; not made yet."""

    kind: str
    name: str


class WrongValues(ConfigurationError):
    """A table that cannot be used, with each of its problems."""

    def __init__(self, found: tuple[Problem, ...]) -> None:
        super().__init__(*(each.text for each in found))
        self.found = found


def structure(
    content: Mapping[str, object], table: type[Table], directory: Path, path: KeyPath
) -> Table:
    """Read a table at `path` of the document; relative file names begin in `directory`.

    Raises: WrongValues: every unknown key, missing key and wrong value.
    """
    found: list[Problem] = []
    removed: set[str | int] = set()
    while True:
        left = {name: value for name, value in content.items() if name not in removed}
        try:
            made = _converter(directory).structure(left, table)
        except (ClassValidationError, IterableValidationError, ForbiddenExtraKeysError) as errors:
            problems = list(_problems(errors, table, path))
        except (ValueError, TypeError) as error:
            problems = [_own_problem(error, table, path)]
        else:
            if not found:
                return made
            problems = []
        # A table's own check comes last, so look again without what is wrong already
        names = [each.path[len(path)] if len(each.path) > len(path) else None for each in problems]
        found += (each for each, name in zip(problems, names, strict=True) if name not in removed)
        wrong = {name for name in names if name is not None and name in left}
        if not wrong:
            raise WrongValues(tuple(found)) from None
        removed |= wrong


def describe_type(kind: object) -> str:
    """A type in the words of operators; None as one of several is not mentioned."""
    kinds = _alternatives(kind)
    for classes, _, words in _ADDRESS_KINDS:
        if frozenset(kinds) == classes:
            return words
    if len(kinds) > 1:
        return " or ".join(map(describe_type, kinds))
    [only] = kinds
    if isinstance(only, InterfaceClass):
        return f"the name of one of [{_kind_of(only)}s]"
    origin = _origin(only)
    if origin is tuple:
        return f"a list, each {describe_type(get_args(only)[0])}"
    if origin is dict:
        return f"a table, each value {describe_type(get_args(only)[1])}"
    if origin is Literal:
        return "one of " + ", ".join(f'"{each}"' for each in get_args(only))
    names = {
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        Path: "a file name",
    }
    return names.get(only, "a table") if isinstance(only, type) else str(only)


def keys_of(table: type) -> dict[str, tuple[attrs.Attribute[Any], object]]:
    """The keys of a table: their attributes and their types."""
    hints = get_type_hints(table)
    return {each.name: (each, hints[each.name]) for each in attrs.fields(table)}


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint that ends a problem: the name that is like it, or all there are."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"there are {', '.join(known)}" if known else "there are none"


def _alternatives(kind: object) -> tuple[Any, ...]:
    arguments = get_args(kind)
    if type(None) in arguments:
        return tuple(each for each in arguments if each is not type(None))
    return arguments if _is_union(kind) else (kind,)


def _origin(kind: object) -> object:
    return get_origin(kind)


def _kind_of(interface: object) -> str:
    return next(kind for kind, each in KINDS.items() if each is interface)


def _is_union(kind: object) -> bool:
    return type(kind).__name__ in ("UnionType", "_UnionGenericAlias", "Union")


# --- reading -------------------------------------------------------------------------------


def _converter(directory: Path) -> Converter:
    made = Converter(forbid_extra_keys=True)
    for kind in (str, bool, int, float):
        made.register_structure_hook(kind, _read_plain)
    made.register_structure_hook_func(lambda each: _origin(each) is Literal, _read_choice)
    made.register_structure_hook_func(
        lambda each: isinstance(_only(each), InterfaceClass), _read_reference
    )
    made.register_structure_hook(Path, lambda value, _: _read_path(value, directory))
    made.register_structure_hook_func(_holds_addresses, _read_address)
    for classes, _, _ in _ADDRESS_KINDS:
        if len(classes) == 1:
            made.register_structure_hook(next(iter(classes)), _read_address)
    made.register_structure_hook_factory(
        lambda each: _origin(each) is tuple, lambda each: _tuple_reader(made, each)
    )
    made.register_structure_hook_factory(
        lambda each: _origin(each) is dict,
        lambda each: _checked(dict, made.gen_structure_mapping(each)),
    )
    made.register_structure_hook_factory(
        attrs.has, lambda each: _checked(dict, made.gen_structure_attrs_fromdict(each))
    )
    return made


def _checked(plain: type, read: _Reader) -> _Reader:
    """The reader, after a look at the value: text must not be taken for a list."""

    def read_checked(value: Any, kind: Any) -> Any:
        if not isinstance(value, plain):
            raise _wrong(value, kind)
        return read(value, kind)

    return read_checked


def _tuple_reader(converter: Converter, kind: Any) -> _Reader:
    as_list: Any = GenericAlias(list, get_args(kind)[:1])
    read = converter.get_structure_hook(as_list)
    return _checked(list, lambda value, _: tuple(read(value, as_list)))


def _read_plain(value: object, kind: Any) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise _wrong(value, kind)
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(value, kind)
    return value


def _read_choice(value: object, kind: Any) -> object:
    if value not in get_args(kind) or isinstance(value, bool):
        raise _wrong(value, kind)
    return value


def _only(kind: object) -> object:
    """The type itself, or the one that may be left out."""
    kinds = _alternatives(kind)
    return kinds[0] if len(kinds) == 1 else None


def _read_reference(value: object, kind: Any) -> Reference | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise _wrong(value, kind)
    return Reference(_kind_of(_only(kind)), value)


def _read_path(value: object, directory: Path) -> Path:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _wrong(value, Path)
    return directory / value


def _holds_addresses(kind: object) -> bool:
    kinds = frozenset(_alternatives(kind))
    return any(kinds == classes for classes, _, _ in _ADDRESS_KINDS)


def _read_address(value: object, kind: object) -> object:
    kinds = frozenset(_alternatives(kind))
    parse = next(parse for classes, parse, _ in _ADDRESS_KINDS if classes == kinds)
    if not isinstance(value, str):
        raise _wrong(value, kind)
    try:
        return parse(value)
    except ValueError as error:
        if "has host bits set" in str(error):
            right = ip_interface(value).network
            raise ValueError(f'{value} has host bits set; use "{right}"') from None
        raise _wrong(value, kind) from None


def _wrong(value: object, kind: object) -> ValueError:
    return ValueError(f"must be {describe_type(kind)}, not {_shown(value)}")


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if len(value) <= 80 else f'"{value[:80]}…"'
        case dict():
            return "a table"
        case list():
            return "a list"
    return str(value)


# --- problems ------------------------------------------------------------------------------


def _problems(errors: Exception, kind: object, path: KeyPath) -> Iterator[Problem]:
    """Every problem in what the converter raised, each with the path of its key."""
    match errors:
        case ForbiddenExtraKeysError():
            known = list(keys_of(errors.cl))
            for name in sorted(errors.extra_fields):
                hint = did_you_mean(name, known)
                yield Problem((*path, name), f"unknown key; {hint}", is_unknown_key=True)
        case ClassValidationError() | IterableValidationError():
            for error in errors.exceptions:
                inner_path, inner_kind = _place(error, kind, path)
                yield from _problems(error, inner_kind, inner_path)
        case KeyError():
            text = f"is missing; it must be {describe_type(kind)}"
            yield Problem(path, text)
        case _:
            yield _own_problem(errors, kind, path)


def _place(error: Exception, kind: object, path: KeyPath) -> tuple[KeyPath, object]:
    for note in getattr(error, "__notes__", ()):
        match note:
            case AttributeValidationNote():
                return (*path, note.name), note.type
            case IterableValidationNote():
                return (*path, note.index), note.type
    return path, kind


def _own_problem(error: Exception, kind: object, path: KeyPath) -> Problem:
    """A class's own check names the key that it means first: `first must lie within ...`."""
    text = str(error)
    start = text.partition(":")[0].partition(" ")[0].strip("'\"")
    names = start.split(".")
    tables = [each for each in _alternatives(kind) if isinstance(each, type) and attrs.has(each)]
    if any(names[0] in keys_of(each) for each in tables):
        rest = text[len(start) :]
        said = rest.removeprefix(":").strip() if rest.startswith(":") else text
        return Problem((*path, *names), said if said else text)
    return Problem(path, text)
