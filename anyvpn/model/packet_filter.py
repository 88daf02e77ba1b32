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

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

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


class Direction(Enum):
    """Who opens a flow; the value is what operators write."""

    FROM_CLIENT = "from_client"
    TO_CLIENT = "to_client"
    BOTH = "both"


Range = tuple[int, int]
"""The first and the last."""


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


def check_rules(rules: Sequence[FilterRule]) -> None:
    """Raises ValueError: there are too many."""
    if len(rules) > MOST_RULES:
        raise ValueError(f"filters: {len(rules)} rules are more than {MOST_RULES}")
