"""Random rules and packets out of a small world, so that they often meet."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from anyvpn.model.packet_filter import ICMP, ICMPV6, TCP, UDP, Direction, FilterRule, Range
from anyvpn.testing.filter_packets import chain, icmp, ip_packet, tcp, udp

# Ours
_FARS = {
    4: [ip_address(each).packed for each in ("10.1.0.1", "10.1.0.2", "10.2.0.1")],
    6: [ip_address(each).packed for each in ("fd01::1", "fd01::2", "fd02::1")],
}
_NETWORKS = {
    4: [ip_network(each) for each in ("10.1.0.0/16", "10.1.0.2/32", "0.0.0.0/0")],
    6: [ip_network(each) for each in ("fd01::/64", "fd01::2/128", "::/0")],
}
_NEAR_NETWORKS = {
    4: [ip_network(each) for each in ("10.99.0.0/24", "10.5.0.0/16")],
    6: [ip_network("fd00::/64")],
}
_PORTS = (53, 54, 80)
_ICMP_TYPES = {ICMP: (0, 3, 8, 11, 13), ICMPV6: (1, 2, 128, 129, 137)}
_FLAGS = (0x02, 0x12, 0x10, 0x11, 0x42, 0x00)


def random_rules(rng: random.Random) -> tuple[FilterRule, ...]:
    """Up to six rules."""
    return tuple(_rule(rng) for _ in range(rng.randint(1, 6)))


def _rule(rng: random.Random) -> FilterRule:
    version = rng.choice((4, 6))
    protocol = rng.choice((None, TCP, UDP, UDP, ICMP, ICMPV6, 47))
    ports: tuple[Range, ...] = ()
    if protocol in (TCP, UDP):
        ports = rng.choice(((), ((53, 53),), ((54, 80),), ((1, 53), (80, 80))))
    elif protocol in _ICMP_TYPES and rng.random() < 0.5:
        kind = rng.choice(_ICMP_TYPES[protocol])
        ports = ((kind, kind),)
    has_source = protocol in (TCP, UDP) and rng.random() < 0.2
    return FilterRule(
        rng.random() < 0.7,
        rng.choice(list(Direction)),
        protocol,
        rng.choice((None, *_NETWORKS[version])),
        ports,
        ((53, 54),) if has_source else (),
        rng.choice((None, None, None, *_NEAR_NETWORKS[version])),
    )


def random_packet(
    rng: random.Random, nears: Sequence[bytes], *, from_client: bool, depth: int = 0
) -> bytes:
    """A packet between one of these addresses of a client's and another one beyond."""
    near = rng.choice(nears)
    version = 4 if len(near) == 4 else 6
    far = rng.choice(_FARS[version])
    source, destination = (near, far) if from_client else (far, near)
    protocol = rng.choice((TCP, UDP, UDP, ICMP, ICMPV6, 47))
    payload = _payload(rng, protocol, near, from_client, depth)
    if rng.random() < 0.1:
        payload = payload[: rng.randint(0, 20)]
    options = b""
    if version == 4 and rng.random() < 0.1:
        options = bytes(rng.choices((0, 1, 4, 7, 131, 137, 148), k=4 * rng.randint(1, 3)))
    elif version == 6 and rng.random() < 0.3:
        protocol, headers = chain(protocol, rng.choices((0, 43, 44, 60), k=rng.randint(1, 10)))
        payload = headers + payload
        if rng.random() < 0.3:
            at = rng.randrange(len(payload))
            payload = payload[:at] + bytes((rng.randrange(4),)) + payload[at + 1 :]
    offset = rng.choice((0, 8, 16)) if rng.random() < 0.2 else 0
    more = rng.random() < 0.2
    return ip_packet(
        source, destination, protocol, payload, options=options, offset=offset, more=more
    )


def _payload(
    rng: random.Random, protocol: int, near: bytes, from_client: bool, depth: int
) -> bytes:
    ports = rng.choice(_PORTS), rng.choice(_PORTS)
    if protocol == TCP:
        return tcp(*ports, rng.choice(_FLAGS))
    if protocol == UDP:
        return udp(*ports, b"x" * rng.choice((0, 40)))
    if protocol not in _ICMP_TYPES:
        return b"anything else"
    kind = rng.choice(_ICMP_TYPES[protocol])
    quoted = b""
    if depth < 2 and rng.random() < 0.7:
        # What an error is about went the other way
        quoted = random_packet(rng, [near], from_client=not from_client, depth=depth + 1)
    return icmp(kind, rng.randbytes(1) + b"\0\0\0", quoted)
