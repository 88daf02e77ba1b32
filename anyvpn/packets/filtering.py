"""Judges a tunnel's packets by its filter rules; what they mean stands in model/packet_filter.py.

What the rules say of a flow is kept by the bytes of its packets' headers, so that bulk traffic
costs a slice and a comparison a packet. Whether the other side has opened a flow is asked of two
tables, the older of which is forgotten as time passes, or when the newer one is full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from anyvpn.model.group_policy import Network
from anyvpn.model.packet_filter import (
    ANSWER_TIME_S,
    FEWEST_FLOWS,
    HIGHEST_PORT,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Direction,
    FilterRule,
    Range,
)
from anyvpn.packets.packet_heads import Head, read_head

# From the protocol
_SYN_AND_ACK, _SYN = 0x12, 0x02
_TCP_FLAGS_AT = 13
_ICMP_BYTES = 8
_PORTS_BYTES = 4
_ERRORS = {ICMP: frozenset((3, 11, 12)), ICMPV6: frozenset((1, 2, 3, 4))}
_ECHO_REQUEST = {ICMP: 8, ICMPV6: 128}
_ECHO_REPLY = {ICMP: 0, ICMPV6: 129}
# IPv4 without options and IPv6, by the first byte; both long enough for any transport header
_PLAIN_IPV4, _LOWEST_IPV6, _HIGHEST_IPV6 = 0x45, 0x60, 0x6F
_SHORTEST_IPV4, _SHORTEST_IPV6 = 40, 60
_FRAGMENT_BITS = 0x3F

# Ours
MOST_VERDICTS = 2048
_NEVER, _ALWAYS, _AS_ANSWER, _UNLESS_SYN = range(4)  # what is kept of a flow

_Ranges = tuple[Range, ...]
_Side = tuple[int, int]
"""A mask, and what is left of a matching address under it; 0 and 0 of any."""
_Rule = tuple[Range, _Ranges, _Side, _Side, Range, _Ranges, bool]
"""Ports (the widest range, and the ranges if there are several), destination, source, source ports
likewise, and whether it allows."""

_ANY_SIDE: _Side = (0, 0)
_ANY_PORT: Range = (0, HIGHEST_PORT)


class Rules:
    """The rules of a filter, ready to be asked; tunnels share them."""

    def __init__(self, rules: Sequence[FilterRule]) -> None:
        self._rules = tuple(rules)
        self._named = frozenset(each.protocol for each in rules)
        self._ready: dict[tuple[int | None, bool, bool], tuple[_Rule, ...]] = {}

    def allow(self, head: Head, *, from_client: bool, is_answer: bool = False) -> bool:
        """Whether a flow may be opened: by this packet, or by what it answers."""
        protocol, source, destination, numbers, _ = head
        key = protocol if protocol in self._named else None, from_client != is_answer, not numbers
        rules = self._ready.get(key)
        if rules is None:
            rules = self._ready[key] = tuple(self._that_may_match(*key))
        of, to = _number(source), _number(destination)
        source_port, port = numbers or (0, 0)
        if is_answer:
            of, to, source_port, port = to, of, port, source_port
        for rule in rules:
            ports, several, (mask, value), (of_mask, of_value), of_ports, of_several, allows = rule
            if (
                ports[0] <= port <= ports[1]
                and to & mask == value
                and of & of_mask == of_value
                and of_ports[0] <= source_port <= of_ports[1]
                and (not several or _hold(several, port))
                and (not of_several or _hold(of_several, source_port))
            ):
                return allows
        return False

    def _that_may_match(
        self, protocol: int | None, from_client: bool, is_later_fragment: bool
    ) -> Iterator[_Rule]:
        """Those about a protocol, or about protocols that no rule names; and who opens."""
        closed = Direction.TO_CLIENT if from_client else Direction.FROM_CLIENT
        for rule in self._rules:
            if rule.direction is closed or rule.protocol not in (None, protocol):
                continue
            ports, source_ports = rule.ports, rule.source_ports
            if is_later_fragment:
                if not rule.allows and (ports or source_ports):
                    continue
                ports = source_ports = ()
            near, far = _side(rule.client_network), _side(rule.network)
            yield (
                *_widest(ports),
                *((far, near) if from_client else (near, far)),
                *_widest(source_ports),
                rule.allows,
            )


def _number(address: bytes) -> int:
    """An address as one number, in which addresses of the two versions differ."""
    return len(address) << 128 | int.from_bytes(address, "big")


def _side(network: Network | None) -> _Side:
    if network is None:
        return _ANY_SIDE
    mask = 0xFF << 128 | int(network.netmask)
    return mask, _number(network.network_address.packed) & mask


def _widest(ranges: _Ranges) -> tuple[Range, _Ranges]:
    if not ranges:
        return _ANY_PORT, ()
    whole = min(first for first, _ in ranges), max(last for _, last in ranges)
    return whole, ranges if len(ranges) > 1 else ()


def _hold(ranges: _Ranges, number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)


@lru_cache(maxsize=256)
def ready_rules(rules: tuple[FilterRule, ...]) -> Rules:
    """The rules of a policy, which many tunnels have."""
    return Rules(rules)


class PacketFilter:
    """Says which packets of one tunnel pass; it remembers who has opened which flow."""

    __slots__ = ("_ends_at_s", "_flows", "_now_s", "_older_flows", "_rules", "_verdicts")

    def __init__(self, rules: Sequence[FilterRule]) -> None:
        self._rules = ready_rules(tuple(rules))
        self._verdicts: dict[bool, dict[bytes, int]] = {True: {}, False: {}}
        # Flows that were opened, each as what its answers begin with
        self._flows: set[bytes] = set()
        self._older_flows: set[bytes] = set()
        self._now_s = self._ends_at_s = 0.0

    def passing(self, packets: Sequence[bytes], now_s: float, *, from_client: bool) -> list[bytes]:
        """Those of the packets that pass."""
        self._now_s = now_s
        if now_s >= self._ends_at_s:
            self._age(now_s)
        verdicts = self._verdicts[from_client]
        passing: list[bytes] = []
        last_key, verdict = b"", _NEVER
        for packet in packets:
            size = len(packet)
            first = packet[0] if size >= _SHORTEST_IPV4 else 0
            if first == _PLAIN_IPV4:
                key = packet[6:10] + packet[12:24]
                flags_at = 33
            elif size >= _SHORTEST_IPV6 and _LOWEST_IPV6 <= first <= _HIGHEST_IPV6:
                key = packet[6:44]
                flags_at = 53
            else:
                if self._passes(packet, from_client):
                    passing.append(packet)
                continue
            if key != last_key:
                last_key = key
                known = verdicts.get(key)
                if known is None:
                    known = self._verdict(packet, from_client)
                    if known is None:
                        last_key = b""
                        if self._passes(packet, from_client):
                            passing.append(packet)
                        continue
                    if len(verdicts) >= MOST_VERDICTS:
                        verdicts.clear()
                    verdicts[key] = known
                verdict = known
                if verdict == _AS_ANSWER:
                    flow = key[3:] if first == _PLAIN_IPV4 else key[:1] + key[2:]
                    verdict = _ALWAYS if self._was_opened(flow) else _NEVER
            if verdict == _ALWAYS or (
                verdict == _UNLESS_SYN and packet[flags_at] & _SYN_AND_ACK != _SYN
            ):
                passing.append(packet)
        return passing

    def _verdict(self, packet: bytes, from_client: bool) -> int | None:
        """What the rules say of all packets with the same key; None: each must be looked at."""
        if packet[0] == _PLAIN_IPV4:
            protocol = packet[9] if not (packet[6] & _FRAGMENT_BITS or packet[7]) else 0
        else:
            protocol = packet[6]
        if protocol not in (TCP, UDP):
            return None
        head = read_head(packet)
        if head is None:
            return None
        if self._rules.allow(head, from_client=from_client):
            if protocol == UDP:
                self._note(_answer_to(packet, head))
            return _ALWAYS
        if self._rules.allow(head, from_client=from_client, is_answer=True):
            return _UNLESS_SYN if protocol == TCP else _AS_ANSWER
        return _NEVER

    def _passes(self, packet: bytes, from_client: bool) -> bool:
        head = read_head(packet)
        if head is None:
            return False
        if self._rules.allow(head, from_client=from_client):
            if head.numbers is not None and _has_answers(head):
                self._note(_answer_to(packet, head))
            return True
        if head.numbers is not None and head.numbers[1] in _ERRORS.get(head.protocol, ()):
            return self._quote_passes(packet, head, from_client)
        is_syn = (
            head.protocol == TCP
            and head.numbers is not None
            and packet[head.start + _TCP_FLAGS_AT] & _SYN_AND_ACK == _SYN
        )
        return not is_syn and self._may_answer(packet, head, from_client)

    def _quote_passes(self, packet: bytes, head: Head, from_client: bool) -> bool:
        """Whether the packet that an ICMP error is about would pass, the other way."""
        quoted = packet[head.start + _ICMP_BYTES :]
        about = read_head(quoted, is_quoted=True)
        if about is None or about.source != head.destination:
            return False
        return self._rules.allow(about, from_client=not from_client) or self._may_answer(
            quoted, about, not from_client
        )

    def _may_answer(self, packet: bytes, head: Head, from_client: bool) -> bool:
        """Whether it belongs to a flow that the other side may open, or has opened."""
        protocol, numbers = head.protocol, head.numbers
        if protocol == TCP or numbers is None:
            return self._rules.allow(head, from_client=from_client, is_answer=True)
        if protocol in _ECHO_REPLY and numbers[1] != _ECHO_REPLY[protocol]:
            return False
        addresses = head.source + head.destination
        return self._was_opened(bytes((protocol,)) + addresses + _flow_numbers(packet, head))

    # --- who has opened what --------------------------------------------------------------------

    def _was_opened(self, flow: bytes) -> bool:
        if flow in self._flows:
            return True
        if flow not in self._older_flows:
            return False
        self._note(flow)
        return True

    def _note(self, flow: bytes) -> None:
        if len(self._flows) >= FEWEST_FLOWS:
            self._turn()
            self._ends_at_s = self._now_s + ANSWER_TIME_S
        self._flows.add(flow)

    def _age(self, now_s: float) -> None:
        is_long_ago = now_s >= self._ends_at_s + ANSWER_TIME_S
        self._turn()
        if is_long_ago:
            self._older_flows = set()
        self._ends_at_s = (now_s if is_long_ago else self._ends_at_s) + ANSWER_TIME_S

    def _turn(self) -> None:
        """Let the next packet of each flow note it anew."""
        self._older_flows, self._flows = self._flows, set()
        for verdicts in self._verdicts.values():
            verdicts.clear()


def _has_answers(head: Head) -> bool:
    """Whether answers are known by a packet of the other side's; TCP's are known by themselves."""
    if head.protocol in _ECHO_REQUEST:
        return head.numbers == (0, _ECHO_REQUEST[head.protocol])
    return head.protocol != TCP


def _answer_to(packet: bytes, head: Head) -> bytes:
    """What the answers to a packet begin with."""
    numbers = _flow_numbers(packet, head)
    if head.protocol == UDP:
        numbers = numbers[2:] + numbers[:2]
    return bytes((head.protocol,)) + head.destination + head.source + numbers


def _flow_numbers(packet: bytes, head: Head) -> bytes:
    """What tells flows of the same addresses apart: ports, or the identifier of an echo."""
    if head.protocol == UDP:
        return packet[head.start : head.start + _PORTS_BYTES]
    if head.protocol in _ECHO_REQUEST:
        return packet[head.start + 4 : head.start + 6]
    return b""
