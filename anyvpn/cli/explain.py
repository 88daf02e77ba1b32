"""`anyvpn explain`: what a user would get, and which rule gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import click
from twisted.internet.task import react

from anyvpn.cli.tables import print_table
from anyvpn.errors import AccessDenied, AnyvpnError, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthorizer, ILayeredAuthorizer
from anyvpn.model.authentication import UNKNOWN_CLIENT, Identity, LoginRequest
from anyvpn.model.connection_profile import ConnectionProfile
from anyvpn.model.credentials import read_name
from anyvpn.model.group_policy import GroupPolicy, origins
from anyvpn.tap.config import read_draft, read_section
from anyvpn.tap.config_checks import default_profile_name
from anyvpn.tap.config_structure import did_you_mean
from anyvpn.tap.config_tables import ConnectionProfileTable, GatewayTable

Explanation = tuple[GroupPolicy, Mapping[str, str]]
"""A policy, and by the name of each value the rule that gives it."""

# Ours
DEFAULT_CONFIGURATION = Path("gateway.toml")
BY_DEFAULT = "default of every policy"
ANY_ADDRESS = "192.0.2.1"  # of documentation: who asks has no address


@click.command()
@click.argument("user")
@click.option(
    "--profile", default="", help="The connection profile that the user has chosen; or the default."
)
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
    try:
        name = read_name(user)
    except LoginRejected as error:
        raise click.BadParameter(str(error), param_hint="USER") from None
    identity = Identity(name, frozenset(groups), _attributes(attributes))
    request = LoginRequest(_profile(config, profile), UNKNOWN_CLIENT, ANY_ADDRESS)

    found: list[Explanation] = []

    async def run(reactor: Any) -> None:
        found.append(await _explanation(reactor, config, identity, request))

    try:
        react(run)
    except SystemExit:
        if not found:
            raise
    # Not within the reactor, which keeps what goes wrong with the output to itself
    _print(*found[0], as_json=as_json)


async def _explanation(
    reactor: Any, config: Path, identity: Identity, request: LoginRequest
) -> Explanation:
    try:
        return await _policy(reactor, config, identity, request)
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


def _print(policy: GroupPolicy, why: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        values = {name: {"value": value, "rule": rule} for name, value, rule in _rows(policy, why)}
        click.echo(json.dumps({"policy": policy.name, "values": values}, indent=2))
        return
    click.echo(f"policy {policy.name}\n")
    rows = [(name, _shown(value), rule) for name, value, rule in _rows(policy, why)]
    print_table(("key", "value", "rule"), rows, dim=lambda row: row[-1] == BY_DEFAULT)


async def _policy(
    reactor: Any, config: Path, identity: Identity, request: LoginRequest
) -> Explanation:
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


def _profile(config: Path, wanted: str) -> str:
    """The name of the profile that is meant by name or alias; of the default one, if none is."""
    draft = read_draft(config)  # what is wrong in other sections is told by `anyvpn check`
    profiles = draft.tables_below("connection_profiles", ConnectionProfileTable)
    gateway = draft.table("gateway", GatewayTable)
    if not wanted:
        return default_profile_name(gateway, profiles) if gateway is not None else ""
    for each in profiles.values():
        if ConnectionProfile(each.name, each.alias).answers_to(wanted):
            return each.name
    if not profiles:
        return wanted
    hint = did_you_mean(wanted, [each.name for each in profiles.values()])
    raise ConfigurationError(f'{config}: there is no connection profile "{wanted}", {hint}')


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
