"""The rules of a filter as the compiled core takes them; compiled/engine.h has the layout."""

from __future__ import annotations

import struct
from functools import lru_cache

from anyvpn.model.group_policy import Network
from anyvpn.model.packet_filter import Direction, FilterRule, Range

# Ours
_ALLOWS, _HAS_PROTOCOL = 1, 8
_OPENERS = {Direction.FROM_CLIENT: 2, Direction.TO_CLIENT: 4, Direction.BOTH: 6}


@lru_cache(maxsize=256)
def core_rules(rules: tuple[FilterRule, ...]) -> bytes:
    """The rules of a filter, one after the other."""
    return b"".join(map(_core_rule, rules))


def _core_rule(rule: FilterRule) -> bytes:
    flags = _OPENERS[rule.direction] | (_ALLOWS if rule.allows else 0)
    if rule.protocol is not None:
        flags |= _HAS_PROTOCOL
    return b"".join(
        (
            bytes((flags, rule.protocol or 0)),
            *map(_core_network, (rule.network, rule.client_network)),
            *map(_core_ranges, (rule.ports, rule.source_ports)),
        )
    )


def _core_network(network: Network | None) -> bytes:
    if network is None:
        return bytes(2)
    address = network.network_address.packed
    return bytes((len(address), network.prefixlen)) + address


def _core_ranges(ranges: tuple[Range, ...]) -> bytes:
    ends = [end for each in ranges for end in each]
    return struct.pack(f"!B{len(ends)}H", len(ranges), *ends)
