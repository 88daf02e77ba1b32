"""What a packet filter must decide, as slowly and plainly as model/packet_filter.py says it.

Packet engines are compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from anyvpn.model.packet_filter import (
    ANSWER_TIME_S,
    ICMP,
    ICMPV6,
    MOST_EXTENSIONS,
    TCP,
    UDP,
    Direction,
    FilterRule,
)

_Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class _Packet:
    """`transport` is None in later fragments; ports and type are in it."""

    source: _Address
    destination: _Address
    protocol: int
    transport: bytes | None

    @property
    def ports(self) -> tuple[int, int]:
        """Source and destination."""
        assert self.transport is not None
        return (
            int.from_bytes(self.transport[:2], "big"),
            int.from_bytes(self.transport[2:4], "big"),
        )

    @property
    def kind(self) -> int:
        """The ICMP type; -1 of other protocols."""
        return self.transport[0] if self.transport and self.is_icmp else -1

    @property
    def is_icmp(self) -> bool:
        """Of either version."""
        return self.protocol in (ICMP, ICMPV6)

    @property
    def flow(self) -> tuple[object, ...]:
        """What two packets of one flow in one direction have in common."""
        ends: object = None
        if self.protocol == UDP:
            ends = self.ports
        if self.is_icmp and self.transport is not None:
            ends = self.transport[4:6]
        return self.protocol, self.source, self.destination, ends

    @property
    def reversed_flow(self) -> tuple[object, ...]:
        """The same of the other direction."""
        protocol, source, destination, ends = self.flow
        if isinstance(ends, tuple):
            ends = ends[::-1]
        return protocol, destination, source, ends


class ReferenceFilter:
    """Looks at every rule for every packet; remembers every flow, exactly as long as it must."""

    def __init__(self, rules: Sequence[FilterRule]) -> None:
        self._rules = rules
        self._used_at_s: dict[tuple[object, ...], float] = {}

    def passes(self, data: bytes, now_s: float, *, from_client: bool) -> bool:
        """Whether a packet passes; the next one is asked about as if this one had come."""
        if not self._rules:
            return True
        packet = _read(data, shortest={TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8})
        if packet is None:
            return False
        if packet.transport is None:
            return self._may_open(packet, from_client) or self._may_be_opened(packet, from_client)
        if self._may_open(packet, from_client):
            if not packet.is_icmp or packet.kind == (8 if packet.protocol == ICMP else 128):
                self._used_at_s[packet.flow] = now_s
            return True
        is_error = packet.kind in ((3, 11, 12) if packet.protocol == ICMP else (1, 2, 3, 4))
        if packet.is_icmp and is_error:
            return self._quote_passes(packet, now_s, from_client)
        if packet.protocol == TCP and packet.transport[13] & 0x12 == 0x02:
            return False
        return self._answers(packet, now_s, from_client)

    def _answers(self, packet: _Packet, now_s: float, from_client: bool) -> bool:
        if packet.protocol == TCP or packet.transport is None:
            return self._may_be_opened(packet, from_client)
        if packet.is_icmp and packet.kind != (0 if packet.protocol == ICMP else 129):
            return False
        opened = packet.reversed_flow
        if now_s - self._used_at_s.get(opened, float("-inf")) > ANSWER_TIME_S:
            return False
        self._used_at_s[opened] = now_s
        return True

    def _quote_passes(self, error: _Packet, now_s: float, from_client: bool) -> bool:
        assert error.transport is not None
        about = _read(error.transport[8:], shortest={TCP: 8, UDP: 8, ICMP: 8, ICMPV6: 8})
        if about is None or about.source != error.destination:
            return False
        if self._may_open(about, not from_client):
            return True
        return self._answers(about, now_s, not from_client)

    def _may_open(self, packet: _Packet, from_client: bool) -> bool:
        ends = packet.source, packet.destination
        return self._decide(packet, *ends, is_swapped=False, from_client=from_client)

    def _may_be_opened(self, packet: _Packet, from_client: bool) -> bool:
        """Whether the other side may open it."""
        ends = packet.destination, packet.source
        return self._decide(packet, *ends, is_swapped=True, from_client=not from_client)

    def _decide(
        self,
        packet: _Packet,
        source: _Address,
        destination: _Address,
        *,
        is_swapped: bool,
        from_client: bool,
    ) -> bool:
        near, far = (source, destination) if from_client else (destination, source)
        direction = Direction.FROM_CLIENT if from_client else Direction.TO_CLIENT
        for rule in self._rules:
            if (
                rule.direction in (direction, Direction.BOTH)
                and rule.protocol in (None, packet.protocol)
                and (rule.network is None or far in rule.network)
                and (rule.client_network is None or near in rule.client_network)
                and _numbers_match(rule, packet, is_swapped)
            ):
                return rule.allows
        return False


def _numbers_match(rule: FilterRule, packet: _Packet, is_swapped: bool) -> bool:
    if not rule.ports and not rule.source_ports:
        return True
    if packet.transport is None:
        return rule.allows
    if packet.is_icmp:
        source_port, port = 0, packet.kind
    else:
        source_port, port = packet.ports[::-1] if is_swapped else packet.ports
    return all(
        not ranges or any(number in range(first, last + 1) for first, last in ranges)
        for number, ranges in ((port, rule.ports), (source_port, rule.source_ports))
    )


def _read(data: bytes, shortest: dict[int, int]) -> _Packet | None:
    source: _Address
    destination: _Address
    if data and data[0] >> 4 == 4:
        header_bytes = (data[0] & 15) * 4
        if header_bytes < 20 or len(data) < header_bytes or _is_source_routed(data, header_bytes):
            return None
        source, destination = IPv4Address(data[12:16]), IPv4Address(data[16:20])
        protocol, offset = data[9], int.from_bytes(data[6:8], "big") % 0x2000
        rest = data[header_bytes:]
    elif len(data) >= 40 and data[0] >> 4 == 6:
        source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
        found = _behind_extensions(data[6], data[40:], MOST_EXTENSIONS)
        if found is None:
            return None
        protocol, offset, rest = found
    else:
        return None
    if offset:
        if protocol == TCP and offset == 1:
            return None
        return _Packet(source, destination, protocol, None)
    if len(rest) < shortest.get(protocol, 0):
        return None
    return _Packet(source, destination, protocol, rest)


def _is_source_routed(data: bytes, header_bytes: int) -> bool:
    """Or has options that cannot be walked."""
    at = 20
    while at < header_bytes:
        kind = data[at]
        if kind == 0:
            return False
        if kind == 1:
            at += 1
            continue
        if kind in (131, 137) or at + 1 >= header_bytes:
            return True
        size = data[at + 1]
        if size < 2 or at + size > header_bytes:
            return True
        at += size
    return False


def _behind_extensions(kind: int, data: bytes, left: int) -> tuple[int, int, bytes] | None:
    """The transport's protocol, the fragment's offset in units of 8 bytes, and what follows."""
    if kind not in (0, 43, 44, 60):
        return kind, 0, data
    if not left or len(data) < 8:
        return None
    if kind == 43 and data[3]:
        return None
    if kind == 44:
        offset = int.from_bytes(data[2:4], "big") // 8
        if offset:
            return data[0], offset, data[8:]
        return _behind_extensions(data[0], data[8:], left - 1)
    size = 8 + 8 * data[1]
    if len(data) < size:
        return None
    return _behind_extensions(data[0], data[size:], left - 1)
