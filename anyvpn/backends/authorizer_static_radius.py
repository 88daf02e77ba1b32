"""What the reply attributes of RADIUS servers mean for a policy, whoever the server is.

Source: RFC 2865, RFC 3162, RFC 4818, RFC 6911, RFC 2548; Cisco's dictionary for ASA.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network, ip_address

from anyvpn.backends.authorizer_static_attributes import Given, values_of
from anyvpn.backends.authorizer_static_cisco import read_av_pairs
from anyvpn.errors import AccessDenied
from anyvpn.model.packet_filter import FilterRule

_Values = tuple[str, ...]
FilterLists = Mapping[str, tuple[FilterRule, ...]]

_KEYS: Mapping[str, str] = {
    "Framed-IP-Address": "ipv4_address",
    "Framed-IPv6-Address": "ipv6_address",
    "Delegated-IPv6-Prefix": "client_networks",
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
"""Those whose values give a key by themselves."""
_IDENTIFIER_BYTES, _PREFIX_BITS = 8, 64
_POLICY_ATTRIBUTES = ("ASA-Group-Policy", "Class")
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


def radius_values(
    attributes: Mapping[str, _Values], lists: FilterLists, other_filter_ids: Collection[str]
) -> Iterator[Given]:
    """What the attributes of a reply give.

    `lists` are the filters that Filter-Id may name; `other_filter_ids` mean something else.

    Raises: AccessDenied: a value cannot be what it should be.
    """
    yield from _prefixes(attributes)
    for name, address in (
        ("Framed-Route", "Framed-IP-Address"),
        ("Framed-IPv6-Route", "Framed-IPv6-Address"),
    ):
        yield from _routes(name, attributes.get(name, ()), attributes.get(address, ()))
    yield from values_of(attributes, _KEYS)
    for name in ("Cisco-AVPair", "Filter-Id", "NAS-Filter-Rule"):
        values = attributes.get(name, ())
        if not values:
            continue
        try:
            match name:
                case "Cisco-AVPair":
                    rules = read_av_pairs(values)
                case "Filter-Id":
                    rules = _listed(values, lists, other_filter_ids)
                case _:
                    raise ValueError("only Cisco-AVPair and Filter-Id are understood")
        except ValueError as error:
            raise AccessDenied(f"attribute {name} cannot be filters: {error}") from None
        if rules is not None:
            yield Given(name, "filters", rules)


def _routes(name: str, routes: _Values, addresses: _Values) -> Iterator[Given]:
    """Routes are for the client, but for those by the user's own address: they lie behind it.

    So RFC 2865 has it, which takes 0.0.0.0 for the user's address, too. With other gateways of
    our kind that stands for nothing, so here it does not give a network away.
    """
    keys: dict[str, list[str]] = {"split_include": [], "client_networks": []}
    for route in routes:
        words = route.split()
        is_behind = len(words) > 1 and _same_address(words[1], addresses)
        keys["client_networks" if is_behind else "split_include"].append(route)
    for key, values in keys.items():
        yield from values_of({name: tuple(values)}, {name: key})


def _same_address(text: str, addresses: _Values) -> bool:
    try:
        return ip_address(text) in map(ip_address, addresses)
    except ValueError:
        return False


def _prefixes(attributes: Mapping[str, _Values]) -> Iterator[Given]:
    """A whole address, or a prefix and an identifier together, as Cisco's gateways have it.

    Any other prefix is the user's own network (RFC 3162), and lies behind the client.
    """
    name, with_identifier = "Framed-IPv6-Prefix", "Framed-Interface-Id"
    prefixes, identifiers = attributes.get(name, ()), attributes.get(with_identifier, ())
    if prefixes and identifiers:
        try:
            address = _joined(prefixes, identifiers)
        except ValueError as error:
            raise AccessDenied(f"attribute {with_identifier} cannot be used: {error}") from None
        yield Given(with_identifier, "ipv6_address", address)
        return
    whole = tuple(each for each in prefixes if each.endswith("/128"))
    others = tuple(each for each in prefixes if each not in whole)
    addresses = tuple(each.removesuffix("/128") for each in whole)
    yield from values_of({name: addresses}, {name: "ipv6_address"})
    yield from values_of({name: others}, {name: "client_networks"})


def _joined(prefixes: _Values, identifiers: _Values) -> IPv6Address:
    if len(prefixes) > 1 or len(identifiers) > 1:
        raise ValueError("there are several prefixes or identifiers")
    prefix = IPv6Network(prefixes[0], strict=False)
    identifier = bytes.fromhex(identifiers[0].removeprefix("0x"))
    if prefix.prefixlen > _PREFIX_BITS or len(identifier) != _IDENTIFIER_BYTES:
        raise ValueError(f"it has 8 bytes, behind a prefix of at most {_PREFIX_BITS} bits")
    return prefix[int.from_bytes(identifier, "big")]


def _listed(
    values: _Values, lists: FilterLists, others: Collection[str]
) -> tuple[FilterRule, ...] | None:
    """The list that Filter-Id names, perhaps with ".in" behind it, as Cisco's routers want."""
    names = dict.fromkeys(value.strip().removesuffix(".in") for value in values)
    unknown = [name for name in names if name not in lists and name not in others]
    if unknown:
        raise ValueError(f'there is no list "{unknown[0]}" in filter_lists')
    found = [lists[name] for name in names if name in lists]
    if len(found) > 1:
        raise ValueError("it names more than one list")
    return found[0] if found else None


def _text(value: str) -> str:
    """Octets that a RADIUS server gave, as text where they are."""
    if value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:]).decode("utf-8")
        except ValueError:
            return value
    return value
