"""`anyvpn backends`: what a configuration can name, and what each of them can be told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

import attrs
import click

from anyvpn.cli.tables import print_table
from anyvpn.errors import BackendUnavailable, ConfigurationError
from anyvpn.interfaces import IBackend
from anyvpn.plugins import KINDS, backends, find_backend
from anyvpn.tap.config_structure import describe_type, did_you_mean, keys_of
from anyvpn.tap.config_write import write_value


@click.command("backends")
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it for programs.")
def show_backends(*, kind: str | None, name: str | None, as_json: bool) -> None:
    """List the backends that a configuration can name: all, or those of one KIND.

    With KIND and NAME, say what one of them can be told, and where it comes from.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigurationError(
            f'there is no backend kind "{kind}"; {did_you_mean(kind, list(KINDS))}'
        )
    if kind is not None and name is not None:
        _show_one(_facts(find_backend(kind, name), strict=True), as_json)
        return
    found = [_facts(each) for each in backends() if kind in (None, each.kind)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = []
    for each in found:
        problem = f" (cannot be used: {each['problem']})" if each["problem"] else ""
        rows.append((each["kind"], each["name"], each["package"], each["summary"] + problem))
    titles = ("kind", "name", "from", "what it is")
    print_table(titles, rows, unbroken=titles[:3])


def _show_one(facts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"{facts['kind']} {facts['name']}: {facts['summary']}")
    click.echo(f"from {facts['package']}, module {facts['module']}\n")
    if not facts["settings"]:
        click.echo("It has no settings.")
        return
    titles = ("key", "what it must be", "default", "meaning")
    rows = (
        [each[word] for word in ("key", "type", "default", "help")] for each in facts["settings"]
    )
    print_table(titles, rows, unbroken=titles[:1])


def _facts(backend: IBackend, *, strict: bool = False) -> dict[str, Any]:
    """Everything about a backend. Raises: BackendUnavailable: with `strict`, it cannot be used."""
    module = str(getattr(backend, "module", type(backend).__module__))
    settings: list[dict[str, str]] = []
    problem = ""
    try:
        settings = list(_settings(backend.settings_class()))
    except Exception as error:  # of its module, or of foreign code
        problem = str(error)
        if strict:
            raise BackendUnavailable(problem) from None
    return {
        "kind": backend.kind,
        "name": backend.name,
        "summary": backend.summary,
        "module": module,
        "package": _package(module),
        "problem": problem,
        "settings": settings,
    }


def _settings(table: type, below: str = "") -> Iterator[dict[str, str]]:
    for name, (attribute, kind) in keys_of(table).items():
        yield {
            "key": f"{below}{name}",
            "type": describe_type(kind),
            "default": _default(attribute),
            "help": str(attribute.metadata.get("help", "")),
        }


def _default(attribute: attrs.Attribute[Any]) -> str:
    default = attribute.default
    if default is attrs.NOTHING:
        return "must be set"
    if default is None or getattr(default, "factory", None) is not None:
        return "not set"
    return write_value(default)


def _package(module: str) -> str:
    """The installed package that a module comes from, with its version."""
    top = module.partition(".")[0]
    for name in _packages().get(top, [top]):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return top


@cache
def _packages() -> Mapping[str, list[str]]:
    """By module, what is installed: to find out takes a tenth of a second."""
    return packages_distributions()
