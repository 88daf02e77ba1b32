"""Checks that look at more than one key of the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from anyvpn.errors import ConfigurationError
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.tap.config import ChosenBackend, Draft
from anyvpn.tap.config_positions import KeyPath
from anyvpn.tap.config_structure import Problem, did_you_mean
from anyvpn.tap.config_tables import (
    LONGEST_SOCKET_PATH_BYTES,
    ConnectionProfileTable,
    ControlTable,
    DTLSTable,
    GatewayTable,
    TLSTable,
)
from anyvpn.tap.listen_addresses import (
    MOST_DATAGRAM_ADDRESSES,
    ListenAddress,
    Reactor,
    datagram_addresses,
    read_listen_address,
)

# From the protocol: a group URL without its scheme (protocol reference, section 3)
_GROUP_URL = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])?(:\d{1,5})?/[^\s?#]*")


def check(draft: Draft, reactor: Reactor) -> Iterator[Problem]:
    """What contradicts itself; sections with problems of their own are left out."""
    profiles = draft.tables_below("connection_profiles", ConnectionProfileTable)
    yield from _names_are_unique(profiles)
    yield from _group_urls_are_unique(profiles)
    yield from _authenticators_exist(draft, profiles)
    gateway = draft.table("gateway", GatewayTable)
    if gateway is not None:
        yield from _default_profile_exists(draft, gateway)
        yield from _hidden_profiles_are_reachable(gateway, profiles)
        yield from _can_be_listened_on(draft, gateway, reactor)
    yield from _certificates_are_asked_for(draft)
    yield from _socket_path_fits(draft)
    yield from _named_profiles_exist(draft)
    yield from _named_policies_exist(draft)
    yield from _named_pools_exist(draft)
    yield from _client_networks_lie_elsewhere(draft)


def listen_addresses(
    gateway: GatewayTable, reactor: Reactor
) -> tuple[list[ListenAddress], list[Problem]]:
    """Where to listen for TCP, and what is wrong with the rest."""
    found: list[ListenAddress] = []
    problems: list[Problem] = []
    for number, text in enumerate(gateway.listen):
        path: KeyPath = ("gateway", "listen", number)
        if text in gateway.listen[:number]:
            problems.append(Problem(path, f'"{text}" is there twice; remove one'))
            continue
        try:
            found.append(read_listen_address(reactor, text))
        except ConfigurationError as error:
            problems.append(Problem(path, str(error)))
    return found, problems


def dtls_port(dtls: DTLSTable, listen: Iterable[ListenAddress]) -> int:
    """The UDP port that clients are told; 0: there is none to be told."""
    return dtls.port or next((each.port for each in listen if each.port), 0)


def default_profile_name(
    gateway: GatewayTable, profiles: Mapping[KeyPath, ConnectionProfileTable]
) -> str:
    """The connection profile of clients that choose none; empty when there is no profile."""
    return gateway.default_profile or next((each.name for each in profiles.values()), "")


# --- connection profiles -------------------------------------------------------------------


def _names_are_unique(profiles: Mapping[KeyPath, ConnectionProfileTable]) -> Iterator[Problem]:
    """Clients send back the name or the alias, so no two profiles may share either."""
    owners: dict[str, KeyPath] = {}
    for path, profile in profiles.items():
        for key, name in (("name", profile.name), ("alias", profile.alias)):
            folded = name.casefold()
            if not name or owners.setdefault(folded, path) == path:
                continue
            other = profiles[owners[folded]]
            yield Problem(
                (*path, key),
                f'"{name}" is a name or alias of "{other.name}" too; choose another',
            )


def _group_urls_are_unique(
    profiles: Mapping[KeyPath, ConnectionProfileTable],
) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for path, profile in profiles.items():
        for number, url in enumerate(profile.group_urls):
            where: KeyPath = (*path, "group_urls", number)
            if not _GROUP_URL.fullmatch(url):
                yield Problem(
                    where,
                    f'must be a path such as "/staff" or a host and a path such as '
                    f'"vpn.example.com/staff", not "{url}"',
                )
            owner = owners.setdefault(url.casefold().rstrip("/"), profile.name)
            if owner != profile.name or url in profile.group_urls[:number]:
                yield Problem(where, f'"{url}" chooses "{owner}" already; remove one')


def _authenticators_exist(
    draft: Draft, profiles: Mapping[KeyPath, ConnectionProfileTable]
) -> Iterator[Problem]:
    written = draft.document.tables.get("authenticators")
    names = list(written) if isinstance(written, dict) else []
    for path, profile in profiles.items():
        if profile.authenticator not in names:
            yield Problem(
                (*path, "authenticator"),
                f'there is no authenticator "{profile.authenticator}"; '
                f"{did_you_mean(profile.authenticator, names)}",
            )


def _certificates_are_asked_for(draft: Draft) -> Iterator[Problem]:
    """Authenticators whose settings say that they need it are of no use without `client_ca`."""
    tls = draft.table("tls", TLSTable)
    if tls is None or tls.client_ca is not None:
        return
    for path, chosen in draft.backends_below("authenticators").items():
        if getattr(chosen.settings, "needs_client_ca", False):
            yield Problem(
                path, "needs client_ca in [tls]: without it no client is asked for a certificate"
            )


def _default_profile_exists(draft: Draft, gateway: GatewayTable) -> Iterator[Problem]:
    name = gateway.default_profile
    names = _names_as_written(draft)
    if name and name not in names:
        yield Problem(
            ("gateway", "default_profile"),
            f'there is no connection profile "{name}"; {did_you_mean(name, names)}',
        )


def _hidden_profiles_are_reachable(
    gateway: GatewayTable, profiles: Mapping[KeyPath, ConnectionProfileTable]
) -> Iterator[Problem]:
    default = default_profile_name(gateway, profiles)
    for path, profile in profiles.items():
        if not (profile.listed or profile.group_urls or profile.name == default):
            yield Problem(
                (*path, "listed"),
                "nobody can choose this profile; list it, or give it group_urls",
            )


def _named_profiles_exist(draft: Draft) -> Iterator[Problem]:
    by_profile = _setting(draft.backend("authorizer"), "by_profile")
    names = _names_as_written(draft)
    for name in by_profile if isinstance(by_profile, Mapping) else ():
        if name not in names:
            yield Problem(
                ("authorizer", "by_profile", name),
                f'there is no connection profile "{name}"; {did_you_mean(name, names)}',
            )


def _names_as_written(draft: Draft) -> list[str]:
    """The names of all profiles, of those too that have other problems."""
    written = draft.document.tables.get("connection_profiles")
    tables = written if isinstance(written, list) else []
    names = [each.get("name") for each in tables if isinstance(each, dict)]
    return [each for each in names if isinstance(each, str)]


# --- listening -----------------------------------------------------------------------------


def _can_be_listened_on(draft: Draft, gateway: GatewayTable, reactor: Reactor) -> Iterator[Problem]:
    listen, problems = listen_addresses(gateway, reactor)
    yield from problems
    dtls = draft.table("dtls", DTLSTable)
    if dtls is None or not dtls.enabled:
        return
    if not problems and not dtls_port(dtls, listen):
        yield Problem(
            ("dtls", "port"), "is missing; it is needed, since gateway.listen names no TCP port"
        )
    for number, interface in enumerate(dtls.interfaces):
        try:
            ip_address(interface)
        except ValueError:
            yield Problem(
                ("dtls", "interfaces", number), f'must be an IP address, not "{interface}"'
            )
    count = len(datagram_addresses(listen, dtls.interfaces, 0))
    if count > MOST_DATAGRAM_ADDRESSES:
        yield Problem(
            ("dtls", "interfaces") if dtls.interfaces else ("gateway", "listen"),
            f"UDP would be received at {count} addresses, and can be at {MOST_DATAGRAM_ADDRESSES}; "
            'dtls.interfaces = ["::"] receives it at all of them',
        )


def _socket_path_fits(draft: Draft) -> Iterator[Problem]:
    control = draft.table("control", ControlTable)
    if control is None or not control.enabled or control.socket is None:
        return
    size = len(os.fsencode(control.socket))
    if not control.fits(draft.document.file):
        yield Problem(
            ("control", "socket"),
            f"must be a path of at most {LONGEST_SOCKET_PATH_BYTES} bytes, this one has {size}; "
            "name a shorter one",
        )


# --- names that one backend's settings give to another's --------------------------------------
#
# An authorizer whose settings tell `policy_names`, and `resolved()` policies, and addresses
# whose settings have named `pools`, are checked against each other; others check at run time.


def _named_policies_exist(draft: Draft) -> Iterator[Problem]:
    names = _setting(draft.backend("authorizer"), "policy_names")
    by_policy = _setting(draft.backend("profiles"), "by_policy")
    if not isinstance(names, frozenset) or not isinstance(by_policy, Mapping):
        return
    for name in by_policy:
        if name not in names:
            yield Problem(
                ("profiles", "by_policy", name),
                f'there is no policy "{name}"; {did_you_mean(name, sorted(names))}',
            )


def _named_pools_exist(draft: Draft) -> Iterator[Problem]:
    resolved = _setting(draft.backend("authorizer"), "resolved")
    pools = _setting(draft.backend("addresses"), "pools")
    names = [getattr(each, "name", "") for each in pools] if isinstance(pools, tuple) else []
    if not callable(resolved) or not names:
        return
    said = set()
    for policy_name, policy in resolved().items():
        for name in policy.address_pools if isinstance(policy, GroupPolicy) else ():
            path = _where_set(draft, policy_name, "address_pools")
            if name not in names and (path, name) not in said:
                said.add((path, name))
                yield Problem(path, f'there is no pool "{name}"; {did_you_mean(name, names)}')


def _client_networks_lie_elsewhere(draft: Draft) -> Iterator[Problem]:
    resolved = _setting(draft.backend("authorizer"), "resolved")
    pools = _setting(draft.backend("addresses"), "pools")
    if not callable(resolved) or not isinstance(pools, tuple):
        return
    said = set()
    for policy_name, policy in resolved().items():
        for network in policy.client_networks if isinstance(policy, GroupPolicy) else ():
            path = _where_set(draft, policy_name, "client_networks")
            for pool in pools:
                if network.overlaps(pool.network) and (path, network) not in said:
                    said.add((path, network))
                    yield Problem(
                        path, f"{network} overlaps {pool.network}, which is lent to clients"
                    )


def _where_set(draft: Draft, policy_name: str, key: str) -> KeyPath:
    """The line that gives a policy this key, which may stand in one that it is based on."""
    policies = _setting(draft.backend("authorizer"), "policies")
    name = policy_name
    if isinstance(policies, Mapping):
        for _ in policies:
            path: KeyPath = ("authorizer", "policies", name, key)
            if draft.document.positions.knows(path):
                return path
            name = getattr(policies.get(name), "based_on", "")
    return ("authorizer", "policies", policy_name)


def _setting(chosen: ChosenBackend | None, name: str) -> object:
    return None if chosen is None else getattr(chosen.settings, name, None)
