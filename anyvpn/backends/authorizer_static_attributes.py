"""Values of a policy from what authenticators know of a user: LDAP, RADIUS, anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import get_type_hints

from anyvpn.errors import AccessDenied
from anyvpn.model.group_policy import Address, GroupPolicy, Network, PolicyLayer

_Values = tuple[str, ...]
_Reader = Callable[[_Values], object]

# From the protocol: RFC 2865, RFC 3162, RFC 6911, RFC 2548, and Cisco's dictionary for ASA
RADIUS_ATTRIBUTES: Mapping[str, str] = {
    "Framed-IP-Address": "ipv4_address",
    "Framed-IPv6-Address": "ipv6_address",
    "Framed-Route": "split_include",
    "Framed-IPv6-Route": "split_include",
    "Route-IPv6-Information": "split_include",
    "Session-Timeout": "session_timeout_s",
    "Idle-Timeout": "idle_timeout_s",
    "MS-Primary-DNS-Server": "dns",
    "MS-Secondary-DNS-Server": "dns",
    "DNS-Server-IPv6-Address": "dns",
    "MS-Primary-NBNS-Server": "nbns",
    "MS-Secondary-NBNS-Server": "nbns",
    "ASA-Primary-DNS": "dns",
    "ASA-Secondary-DNS": "dns",
    "ASA-Banner1": "banner",
    "ASA-IPsec-Default-Domain": "default_domain",
    "ASA-Simultaneous-Logins": "max_sessions_per_user",
}
_POLICY_ATTRIBUTES = ("ASA-Group-Policy", "Class")
_NOT_FIXED = frozenset((IPv4Address("255.255.255.255"), IPv4Address("255.255.255.254")))
"""The server says: let the user choose, or choose yourself (RFC 2865, section 5.8)."""
_CLASS = re.compile(r"OU=([^;]+);?", re.IGNORECASE)


def policy_named_by(attributes: Mapping[str, _Values]) -> tuple[str, str] | None:
    """The policy that a RADIUS server names, as Cisco's gateways read it; and in which attribute.

    It is "OU=name;" in Class, or the name itself in ASA-Group-Policy.
    """
    for name in _POLICY_ATTRIBUTES:
        for value in attributes.get(name, ()):
            found = _CLASS.fullmatch(_text(value))
            if found is not None:
                return found[1].strip(), name
            if name != "Class":
                return value.strip(), name
    return None


def attribute_layers(
    attributes: Mapping[str, _Values], keys: Mapping[str, str]
) -> Iterator[PolicyLayer]:
    """One layer for each attribute that gives a policy's key, as `keys` has it.

    Several attributes of one key that holds a list are joined, in the order of `keys`.

    Raises: AccessDenied: a value cannot be what it should be.
    """
    joined: dict[str, tuple[object, ...]] = {}
    for name, key in keys.items():
        values = attributes.get(name, ())
        if not values:
            continue
        try:
            value = READERS[key](values)
        except ValueError as error:
            raise AccessDenied(f"attribute {name} cannot be {key}: {error}") from None
        if value is None:
            continue
        if isinstance(value, tuple):
            value = joined[key] = tuple(dict.fromkeys((*joined.get(key, ()), *value)))
        yield PolicyLayer(f"attribute {name}", {key: value})


def _text(value: str) -> str:
    """Octets that a RADIUS server gave, as text where they are."""
    if value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:]).decode("utf-8")
        except ValueError:
            return value
    return value


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
