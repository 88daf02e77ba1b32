"""Values of a policy from what authenticators know of a user: LDAP, RADIUS, anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple, get_type_hints

from anyvpn.backends.authorizer_static_cisco import read_av_pairs
from anyvpn.errors import AccessDenied
from anyvpn.model.group_policy import Address, GroupPolicy, Network, PolicyLayer
from anyvpn.model.packet_filter import FilterRule, read_rules

_Values = tuple[str, ...]
_Reader = Callable[[_Values], object]

# From the protocol: RFC 2865
_NOT_FIXED = frozenset((IPv4Address("255.255.255.255"), IPv4Address("255.255.255.254")))
"""The server says: let the user choose, or choose yourself (RFC 2865, section 5.8)."""


class Given(NamedTuple):
    """A value of a policy, and the attribute that gives it."""

    attribute: str
    key: str
    value: object


def values_of(attributes: Mapping[str, _Values], keys: Mapping[str, str]) -> Iterator[Given]:
    """What the attributes give, each the key that `keys` has for it, in that order.

    Raises: AccessDenied: a value cannot be what it should be.
    """
    for name, key in keys.items():
        values = attributes.get(name, ())
        if not values:
            continue
        try:
            value = READERS[key](values)
        except ValueError as error:
            raise AccessDenied(f"attribute {name} cannot be {key}: {error}") from None
        if value is not None:
            yield Given(name, key, value)


def attribute_layers(given: Iterable[Given]) -> Iterator[PolicyLayer]:
    """One layer for each value; lists of one key are joined, in their order.

    Raises: AccessDenied: two attributes give filters, whose order nobody knows.
    """
    joined: dict[str, tuple[object, ...]] = {}
    by: dict[str, str] = {}
    for attribute, key, value in given:
        if key == "filters" and key in by:
            raise AccessDenied(f"attributes {by[key]} and {attribute} both say what passes")
        by[key] = attribute
        if isinstance(value, tuple):
            joined[key] = tuple(dict.fromkeys((*joined.get(key, ()), *value)))
        yield PolicyLayer(f"attribute {attribute}", {key: joined.get(key, value)})


def _one(values: _Values) -> str:
    if len(values) != 1:
        raise ValueError(f"there are {len(values)} values")
    return values[0].strip()


def _flag(values: _Values) -> bool:
    text = _one(values).lower()
    if text not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError(f'"{text}" is neither true nor false')
    return text in ("true", "yes", "1")


def _ipv4(values: _Values) -> IPv4Address | None:
    address = IPv4Address(_one(values))
    return None if address in _NOT_FIXED else address


def _network(text: str) -> Network:
    """A network, perhaps with the gateway and the metric behind it that RADIUS gives routes."""
    return ip_network(text.split(maxsplit=1)[0] if text.split() else "", strict=False)


def _words(values: _Values) -> tuple[str, ...]:
    return tuple(word for each in values for word in re.split(r"[,\s]+", each) if word)


def _filters(values: _Values) -> tuple[FilterRule, ...]:
    """Rules, several in one value with ";" between; or lines of an access list of Cisco's."""
    rules = read_av_pairs(values)
    if rules is not None:
        return rules
    rules = read_rules(each for value in values for each in re.split(r"\s*[;\n]\s*", value) if each)
    if not rules:
        raise ValueError("there is no rule")
    if len(values) > 1 and len({each.allows for each in rules}) > 1:
        # A directory keeps its values in no order, and rules have one
        raise ValueError("rules that allow and that deny belong into one value, with ; between")
    return rules


def _bounded(read: Callable[[str], float]) -> _Reader:
    return lambda values: read(_one(values))


_BY_TYPE: dict[object, _Reader] = {
    str: "\n".join,
    bool: _flag,
    int: _bounded(int),
    float: _bounded(float),
    tuple[str, ...]: _words,
    tuple[Address, ...]: lambda values: tuple(map(ip_address, _words(values))),
    tuple[IPv4Address, ...]: lambda values: tuple(map(IPv4Address, _words(values))),
    tuple[Network, ...]: lambda values: tuple(map(_network, values)),
    tuple[FilterRule, ...]: _filters,
    IPv4Address | None: _ipv4,
    IPv6Address | None: lambda values: IPv6Address(_one(values)),
}
_HINTS = get_type_hints(GroupPolicy)
READERS: Mapping[str, _Reader] = {
    each.name: _BY_TYPE[_HINTS[each.name]]
    for each in fields(GroupPolicy)
    if each.name != "name" and _HINTS[each.name] in _BY_TYPE
}
"""Policy key to how it is read of an attribute's values."""
