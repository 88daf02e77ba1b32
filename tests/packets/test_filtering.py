"""Both engines' filters decide as the rules say, remember enough, and not too much."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anyvpn.model.packet_filter import ANSWER_TIME_S, FEWEST_FLOWS, TCP, UDP, Direction, FilterRule
from anyvpn.packets.filtering import MOST_VERDICTS, PacketFilter
from anyvpn.testing.filter_packets import SYN, ip_packet, tcp_packet, udp_packet
from anyvpn.testing.filter_streams import random_packet, random_rules
from anyvpn.testing.reference_filter import ReferenceFilter
from tests.packets.core_filter import CoreFilter

CLIENT, SERVER = bytes((10, 99, 0, 7)), bytes((10, 1, 0, 1))
CLIENT6, SERVER6 = bytes(15) + b"\7", bytes(15) + b"\1"
ANY_UDP = FilterRule(True, protocol=UDP)


class Filter(Protocol):
    def __init__(self, rules: Sequence[FilterRule]) -> None: ...

    def passing(
        self, packets: Sequence[bytes], now_s: float, *, from_client: bool
    ) -> list[bytes]: ...


def passes(judge: Filter, packet: bytes, now_s: float, *, from_client: bool) -> bool:
    return bool(judge.passing([packet], now_s, from_client=from_client))


def question(port: int = 4000) -> bytes:
    return udp_packet(CLIENT, port, SERVER, 53)


def answer(port: int = 4000) -> bytes:
    return udp_packet(SERVER, 53, CLIENT, port)


@pytest.mark.parametrize("kind", [PacketFilter, CoreFilter])
class FilterTests:
    @given(st.integers(0, 2**32), st.lists(st.integers(1, 200), max_size=8))
    def test_any_batches_are_judged_as_packet_by_packet(
        self, kind: type[Filter], seed: int, sizes: list[int]
    ) -> None:
        rng = random.Random(seed)
        rules = random_rules(rng)
        judge, reference = kind(rules), ReferenceFilter(rules)
        now_s = 0.0
        for size in sizes:
            now_s += rng.choice((0.0, 0.5, 3 * ANSWER_TIME_S))
            from_client = rng.random() < 0.5
            few = [
                random_packet(rng, [CLIENT, CLIENT6], from_client=from_client)
                for _ in range(1 + size // 4)
            ]
            packets = rng.choices(few, k=size)
            expected = [
                each for each in packets if reference.passes(each, now_s, from_client=from_client)
            ]
            assert judge.passing(packets, now_s, from_client=from_client) == expected

    @given(st.binary(max_size=100), st.booleans())
    def test_any_bytes_are_judged_as_the_rules_say(
        self, kind: type[Filter], noise: bytes, from_client: bool
    ) -> None:
        rules = (FilterRule(True, Direction.BOTH, UDP, ports=((0, 30_000),)), ANY_UDP)
        judge, reference = kind(rules), ReferenceFilter(rules)
        for start in (b"", b"\x45", b"\x46", b"\x60", b"\x65"):
            packet = start + noise
            expected = reference.passes(packet, 0.0, from_client=from_client)
            assert passes(judge, packet, 0.0, from_client=from_client) is expected

    @given(st.data())
    @settings(max_examples=50)
    def test_damaged_packets_are_judged_as_the_rules_say(
        self, kind: type[Filter], data: st.DataObject
    ) -> None:
        rng = random.Random(data.draw(st.integers(0, 2**32)))
        rules = random_rules(rng)
        judge, reference = kind(rules), ReferenceFilter(rules)
        for _ in range(40):
            from_client = rng.random() < 0.5
            packet = bytearray(random_packet(rng, [CLIENT, CLIENT6], from_client=from_client))
            packet[rng.randrange(len(packet))] = rng.randrange(256)
            whole = bytes(packet[: rng.randint(0, len(packet))])
            for each in (bytes(packet), whole):
                expected = reference.passes(each, 0.0, from_client=from_client)
                assert passes(judge, each, 0.0, from_client=from_client) is expected

    @given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from("qao")), max_size=30))
    @example([(0, "q"), (230, "o"), (100, "a")])
    def test_a_flow_is_remembered_for_its_time_and_at_most_twice_that(
        self, kind: type[Filter], steps: list[tuple[float, str]]
    ) -> None:
        """A question, an answer, or something else that keeps the filter's clock going."""
        judge = kind([ANY_UDP])
        now_s, used_at_s = 0.0, float("-inf")
        for number, (pause_s, what) in enumerate(steps):
            now_s += pause_s
            if what == "o":
                judge.passing([question(5000 + number)], now_s, from_client=True)
                continue
            if what == "q":
                assert passes(judge, question(), now_s, from_client=True)
                used_at_s = now_s
                continue
            passed = passes(judge, answer(), now_s, from_client=False)
            if now_s - used_at_s <= ANSWER_TIME_S:
                assert passed
            if now_s - used_at_s > 2 * ANSWER_TIME_S:
                assert not passed
            if passed:
                used_at_s = now_s

    def test_flows_that_come_fast_shorten_no_memory(self, kind: type[Filter]) -> None:
        judge = kind([ANY_UDP])
        judge.passing([question(1)], 0.0, from_client=True)
        later_s = ANSWER_TIME_S - 1
        many = [question(port) for port in range(2, FEWEST_FLOWS + 2)]
        judge.passing(many, later_s, from_client=True)
        assert passes(judge, answer(2), later_s + ANSWER_TIME_S - 2, from_client=False)

    def test_a_flood_from_inside_makes_no_flow_forgotten(self, kind: type[Filter]) -> None:
        judge = kind([ANY_UDP])
        judge.passing([question()], 0.0, from_client=True)
        flood = [udp_packet(SERVER, port, CLIENT, 4000) for port in range(54, 20_000)]
        assert judge.passing(flood, 0.0, from_client=False) == []
        assert passes(judge, answer(), 0.0, from_client=False)

    def test_later_fragments_are_never_kept(self, kind: type[Filter]) -> None:
        judge = kind([FilterRule(True, protocol=UDP, ports=((53, 53),))])
        later = ip_packet(CLIENT, SERVER, UDP, bytes((0, 1, 0, 54)) + bytes(60), offset=80)
        whole = ip_packet(CLIENT, SERVER, UDP, bytes((0, 1, 0, 54)) + bytes(60))
        assert judge.passing([later, whole, later, whole], 0.0, from_client=True) == [later] * 2


class PacketFilterTests:
    def test_a_flood_of_flows_fills_no_memory(self) -> None:
        judge = PacketFilter([FilterRule(True, Direction.BOTH, UDP)])
        for start in range(0, 50_000, 1000):
            for from_client in (True, False):
                packets = [
                    udp_packet(CLIENT, port, SERVER, 53) for port in range(start, start + 1000)
                ]
                judge.passing(packets, 0.0, from_client=from_client)
        assert len(judge._flows) + len(judge._older_flows) <= 2 * FEWEST_FLOWS
        assert all(len(each) <= MOST_VERDICTS for each in judge._verdicts.values())

    def test_bulk_traffic_asks_no_rule(self) -> None:
        judge = PacketFilter([FilterRule(True, protocol=TCP), ANY_UDP])
        bulk = [
            tcp_packet(CLIENT, 1, SERVER, 2),
            tcp_packet(CLIENT6, 1, SERVER6, 2),
            question(),
            udp_packet(CLIENT6, 1, SERVER6, 2),
        ]
        back = [tcp_packet(SERVER, 2, CLIENT, 1), answer()]
        judge.passing(bulk, 0.0, from_client=True)
        judge.passing(back, 0.0, from_client=False)
        judge._rules = None  # type: ignore[assignment]  # whoever asks it now fails
        assert judge.passing(bulk * 10, 0.0, from_client=True) == bulk * 10
        assert judge.passing(back * 10, 0.0, from_client=False) == back * 10
        assert not passes(judge, tcp_packet(SERVER, 2, CLIENT, 1, SYN), 0.0, from_client=False)

    def test_tunnels_of_one_policy_share_its_rules(self) -> None:
        one, other = (PacketFilter([FilterRule(True, protocol=TCP)]) for _ in range(2))
        assert one._rules is other._rules
