"""Packet filters: which packets of a session pass, by network, protocol, port and who began.

**Rules judge flows by who opens them.** The first rule that matches the opening of a flow decides;
what matches none is dropped. All packets of an allowed flow pass, in both directions. Without any
rule everything passes. A packet P that its sender S sends to the other side passes when

1. the rules allow S to open a flow with P: its addresses, protocol and numbers as they stand in P;
2. or P may be an answer, and the rules allow the other side to open the flow with P's addresses
   and ports exchanged. It may be one when it is
   - TCP, but not one with SYN and without ACK;
   - UDP, or of another protocol but ICMP: a packet of the same flow (protocol, addresses, ports of
     UDP), sent by the other side, has passed by 1 within the last `ANSWER_TIME_S`, or an answer
     has passed within that time after it, and so on. An engine may allow for up to twice that
     time, and may forget the flows used longest ago when there are more than `FEWEST_FLOWS`;
   - an echo reply (ICMP 0, ICMPv6 129) to an echo request (8, 128) of the same addresses and
     identifier, within the same time;
3. or P is an ICMP error (ICMP types 3, 11, 12; ICMPv6 types 1 to 4) which quotes a packet Q, Q's
   source is P's destination, and Q would pass in its own direction by 1 or 2; it opens nothing.
   Of Q, 8 bytes of the transport header suffice, and its TCP flags are not looked at.

**What a rule matches.** "Near" is the client's side, "far" the other: when the client opens, near
is the source. All of these must hold:

- `direction` names who opens: from the client, to the client, or both;
- `protocol`, when given, is the transport's: IPv4's protocol field, IPv6's last next header behind
  hop-by-hop, routing, destination and fragment headers (other headers count as transports);
- `network`, when given, holds the far address, `client_network` the near one; an address of the
  other IP version is in no network;
- `ports`, when given, hold the destination port of the opening packet, or the ICMP type;
  `source_ports` its source port.

**Fragments.** The first one (offset 0) is judged like a whole packet. Later ones have no ports and
no flags: for them a rule that allows matches without its ports, one that denies and has ports does
not match; they pass when the rules allow either side to open the flow. They make no datagram
without their first. The last 12 bytes of a TCP header alone (offset 8 bytes, protocol TCP) never
pass. IPv6: the protocol of a later fragment is what its fragment header names.

**What never passes** when there are rules: IPv4 headers shorter than 20 bytes or longer than the
packet; IPv4 with a source route (options 131, 137) or with options that cannot be walked; IPv6 with
a routing header that has segments left, with more than `MOST_EXTENSIONS` extension headers or with
one that is cut off; and, but for later fragments, a transport header that is cut off: TCP 20 bytes,
UDP 8, ICMP and ICMPv6 8. Only bytes that are there count; length fields are not looked at.

Between two clients both filters must let a packet pass. Answers of the gateway's own ("too big")
pass always. What a filter drops counts as `dropped_filtered`, not as received or sent.

Source of the fragments' treatment: RFC 1858, RFC 3128.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Self

# From the protocol
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HIGHEST_PORT = 0xFFFF
HIGHEST_ICMP_TYPE = HIGHEST_PROTOCOL = 0xFF

# Ours
ANSWER_TIME_S = 120.0  # RFC 4787 wants no less of a NAT
FEWEST_FLOWS = 1024
MOST_EXTENSIONS = 8
MOST_RULES = 1000
"""A new flow costs a look at each of them."""
MOST_RANGES = 32
LONGEST_SHOWN = 100  # characters of a rule that is wrong


class Direction(Enum):
    """Who opens a flow; the value is what operators write."""

    FROM_CLIENT = "from_client"
    TO_CLIENT = "to_client"
    BOTH = "both"


Range = tuple[int, int]
"""The first and the last."""

_PROTOCOLS: dict[str, int | None] = {
    "any": None,
    "tcp": TCP,
    "udp": UDP,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_ACTIONS = {"allow": True, "deny": False}
# Without a direction: the one that opens less
_USUAL_DIRECTIONS = {True: Direction.FROM_CLIENT, False: Direction.BOTH}
EXAMPLE = "allow tcp 10.0.0.0/8 port 443"


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule of a filter; what is None or empty matches everything.

    `network` lies beyond the gateway, `client_network` on the client's side. `ports` are
    destination ports of TCP or UDP, or types of ICMP or ICMPv6, each range with its ends.
    """

    allows: bool
    direction: Direction = Direction.FROM_CLIENT
    protocol: int | None = None
    network: IPv4Network | IPv6Network | None = None
    ports: tuple[Range, ...] = ()
    source_ports: tuple[Range, ...] = ()
    client_network: IPv4Network | IPv6Network | None = None

    def __post_init__(self) -> None:
        if self.protocol is not None and not 0 <= self.protocol <= HIGHEST_PROTOCOL:
            raise ValueError(f"a protocol's number lies between 0 and {HIGHEST_PROTOCOL}")
        if self.ports and self.protocol not in (TCP, UDP, ICMP, ICMPV6):
            raise ValueError("only tcp and udp have ports, only icmp and icmpv6 have types")
        if self.source_ports and self.protocol not in (TCP, UDP):
            raise ValueError("only tcp and udp have source ports")
        highest = HIGHEST_ICMP_TYPE if self.protocol in (ICMP, ICMPV6) else HIGHEST_PORT
        for ranges in (self.ports, self.source_ports):
            if len(ranges) > MOST_RANGES:
                raise ValueError(f"a rule has at most {MOST_RANGES} ranges of ports")
            for first, last in ranges:
                if not 0 <= first <= last <= highest:
                    raise ValueError(f"{first}-{last} is no range within 0-{highest}")
        networks = (self.network, self.client_network)
        if len({each.version for each in networks if each is not None}) > 1:
            raise ValueError("both networks of a rule are of one IP version")

    @classmethod
    def read(cls, text: str) -> Self:
        """A rule as operators write it; `str` writes it so again. Raises: ValueError.

            allow|deny [from_client|to_client|both] PROTOCOL [NETWORK] [port PORTS | type TYPES]
                [source_port PORTS] [client NETWORK]

        PROTOCOL is any, tcp, udp, icmp, icmpv6 or a number, NETWORK any, an address or a network,
        PORTS such as 80,8000-8100. Without a direction, a rule that allows is about flows that
        clients open, and one that denies about both directions.
        """
        try:
            return cls._read(text.split())
        except ValueError as error:
            shown = text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
            raise ValueError(f'"{shown}": {error}') from None

    @classmethod
    def _read(cls, words: list[str]) -> Self:
        if not words or words[0] not in _ACTIONS:
            raise ValueError(f'a rule begins with allow or deny, such as "{EXAMPLE}"')
        allows = _ACTIONS[words.pop(0)]
        direction = _USUAL_DIRECTIONS[allows]
        if words and words[0] in (each.value for each in Direction):
            direction = Direction(words.pop(0))
        if not words:
            raise ValueError('its protocol is missing, such as "any"')
        protocol = _read_protocol(words.pop(0))
        network = None
        if words and words[0] not in ("port", "type", "source_port", "client"):
            network = _read_network(words.pop(0))
        kind = "type" if protocol in (ICMP, ICMPV6) else "port"
        found: dict[str, str] = {}
        for name in (kind, "source_port", "client"):
            if words and words[0] == name:
                if len(words) < 2:
                    raise ValueError(f'nothing follows "{name}"')
                found[name] = words[1]
                del words[:2]
        if words:
            raise ValueError(
                f'"{words[0]}" is not understood; after the network come {kind}, source_port and '
                "client, in this order"
            )
        return cls(
            allows,
            direction,
            protocol,
            network,
            _read_ranges(found.get(kind, "")),
            _read_ranges(found.get("source_port", "")),
            _read_network(found["client"]) if "client" in found else None,
        )

    def __str__(self) -> str:
        words = ["allow" if self.allows else "deny"]
        if self.direction is not _USUAL_DIRECTIONS[self.allows]:
            words.append(self.direction.value)
        words.append(_PROTOCOL_NAMES.get(self.protocol) or str(self.protocol))
        if self.network is not None:
            words.append(_written(self.network))
        if self.ports:
            words.append("type" if self.protocol in (ICMP, ICMPV6) else "port")
            words.append(_written_ranges(self.ports))
        if self.source_ports:
            words += ["source_port", _written_ranges(self.source_ports)]
        if self.client_network is not None:
            words += ["client", _written(self.client_network)]
        return " ".join(words)


def read_rules(texts: Iterable[str]) -> tuple[FilterRule, ...]:
    """Rules as operators write them, in their order. Raises: ValueError."""
    return tuple(map(FilterRule.read, texts))


def check_rules(rules: Sequence[FilterRule]) -> None:
    """Raises ValueError: there are too many, or what is no rule."""
    if not all(isinstance(each, FilterRule) for each in rules):
        raise ValueError("filters: each must be a FilterRule; FilterRule.read makes one of text")
    if len(rules) > MOST_RULES:
        raise ValueError(f"filters: {len(rules)} rules are more than {MOST_RULES}")


def _read_protocol(text: str) -> int | None:
    if text in _PROTOCOLS:
        return _PROTOCOLS[text]
    if text.isascii() and text.isdecimal() and len(text) <= 3:
        return int(text)
    raise ValueError(f'"{text}" is no protocol: there are {", ".join(_PROTOCOLS)} and numbers')


def _read_network(text: str) -> IPv4Network | IPv6Network | None:
    if text == "any":
        return None
    try:
        if "%" in text:
            raise ValueError("networks have no scope")
        return ip_network(text)
    except ValueError as error:
        if "has host bits set" in str(error):
            raise ValueError(
                f'{text} has host bits set; use "{ip_interface(text).network}"'
            ) from None
        raise ValueError(f'"{text}" is no network, such as 10.0.0.0/8 or fd00::/8') from None


def _read_ranges(text: str) -> tuple[Range, ...]:
    return tuple(map(_read_range, text.split(","))) if text else ()


def _read_range(text: str) -> Range:
    first, dash, last = text.partition("-")
    numbers = (first, last) if dash else (first, first)
    if not all(each.isascii() and each.isdecimal() and len(each) <= 5 for each in numbers):
        raise ValueError(f'"{text}" is no number and no range, such as 80 or 8000-8100')
    return int(numbers[0]), int(numbers[1])


def _written(network: IPv4Network | IPv6Network) -> str:
    is_host = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if is_host else str(network)


def _written_ranges(ranges: tuple[Range, ...]) -> str:
    return ",".join(f"{first}-{last}" if first != last else f"{first}" for first, last in ranges)
