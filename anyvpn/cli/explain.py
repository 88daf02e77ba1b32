"""`anyvpn explain`: what a user would get, and which rule gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from anyvpn.errors import AccessDenied, AnyvpnError, ConfigurationError
from anyvpn.interfaces import IAuthorizer, ILayeredAuthorizer
from anyvpn.model.authentication import UNKNOWN_CLIENT, Identity, LoginRequest
from anyvpn.model.group_policy import GroupPolicy, origins
from anyvpn.tap.config import read_section

# Ours
DEFAULT_CONFIGURATION = Path("gateway.toml")
BY_DEFAULT = "default of every policy"
ANY_ADDRESS = "192.0.2.1"  # of documentation: who asks has no address


@click.command()
@click.argument("user")
@click.option("--profile", default="", help="The connection profile that the user has chosen.")
@click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="A group; may be given several times."
)
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="KEY=VALUE",
    help="What an authenticator has found, as of LDAP or RADIUS; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it for programs.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIGURATION,
    help="The configuration.  [default: gateway.toml]",
)
def explain(
    *,
    user: str,
    profile: str,
    groups: tuple[str, ...],
    attributes: tuple[str, ...],
    as_json: bool,
    config: Path,
) -> None:
    """Say what USER would get, and which rule gives each value.

    Nobody logs in for it: groups and attributes are those that you give. Exit status 3 means that
    the user would be denied.
    """
    identity = Identity(user, frozenset(groups), _attributes(attributes))
    request = LoginRequest(profile, UNKNOWN_CLIENT, ANY_ADDRESS)

    def run(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(_explain(reactor, config, identity, request, as_json))

    react(run)


async def _explain(
    reactor: Any, config: Path, identity: Identity, request: LoginRequest, as_json: bool
) -> None:
    try:
        policy, why = await _policy(reactor, config, identity, request)
    except ConfigurationError as error:
        for line in error.problems:
            click.echo(f"anyvpn: {line}", err=True)
        raise SystemExit(1) from None
    except AccessDenied as error:
        click.echo(f"denied: {error}", err=True)
        raise SystemExit(3) from None
    except AnyvpnError as error:
        click.echo(f"anyvpn: {error}", err=True)
        raise SystemExit(1) from None
    if as_json:
        values = {name: {"value": value, "rule": rule} for name, value, rule in _rows(policy, why)}
        click.echo(json.dumps({"policy": policy.name, "values": values}, indent=2))
        return
    table = Table("key", "value", "rule", box=None, pad_edge=False)
    for name, value, rule in _rows(policy, why):
        dim = "dim" if rule == BY_DEFAULT else ""
        table.add_row(name, _shown(value), rule, style=dim)
    click.echo(f"policy {policy.name}\n")
    Console().print(table)


async def _policy(
    reactor: Any, config: Path, identity: Identity, request: LoginRequest
) -> tuple[GroupPolicy, Mapping[str, str]]:
    [chosen] = read_section(config, "authorizer").values()
    authorizer = chosen.backend.build(chosen.settings, reactor)
    layered = ILayeredAuthorizer(authorizer, None)
    if layered is not None:
        _, layers = await layered.layers(identity, request)
        return await layered.authorize(identity, request), origins(layers)
    policy = await cast(IAuthorizer, authorizer).authorize(identity, request)
    default = GroupPolicy()
    changed = [
        each.name
        for each in fields(GroupPolicy)
        if getattr(policy, each.name) != getattr(default, each.name)
    ]
    return policy, MappingProxyType(dict.fromkeys(changed, f"authorizer {chosen.backend.name}"))


def _rows(policy: GroupPolicy, why: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    for each in fields(GroupPolicy):
        if each.name != "name":
            value = _plain(getattr(policy, each.name))
            yield each.name, value, why.get(each.name, BY_DEFAULT)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


def _shown(value: object) -> str:
    match value:
        case None | [] | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{key}={each}" for key, each in value.items()) or "-"
    return str(value)


def _attributes(given: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not key or not equals:
            raise click.BadParameter(f'"{each}" is not KEY=VALUE', param_hint="--attribute")
        found[key] = (*found.get(key, ()), value)
    return MappingProxyType(found)
