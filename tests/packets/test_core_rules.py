"""The compiled core believes no rules that it cannot read, and keeps a tunnel's filter small."""

from __future__ import annotations

import random
import struct
from ipaddress import IPv4Network, IPv6Network
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.model.packet_filter import (
    ANSWER_TIME_S,
    FEWEST_FLOWS,
    MOST_RANGES,
    MOST_RULES,
    TCP,
    UDP,
    Direction,
    FilterRule,
)
from anyvpn.packets._compiled import Core
from anyvpn.packets.core_rules import core_rules
from anyvpn.packets.filtering import PacketFilter
from anyvpn.packets.offload import split_super_packets
from anyvpn.testing.filter_packets import DESTINATION, ip_packet, tcp, tcp_packet, udp, udp_packet
from anyvpn.testing.filter_streams import random_rules
from tests.heap import heap_bytes
from tests.packets.core_filter import ANYWHERE, LONGEST, CoreFilter
from tests.packets.test_offload import ACK, FIN, SYN, super_packet

HEADER = 10
NEAR, FAR = bytes((10, 99, 0, 7)), bytes((10, 1, 0, 1))
NEAR6, FAR6 = bytes(15) + b"\7", bytes(15) + b"\1"
FULL = FilterRule(
    True,
    Direction.BOTH,
    TCP,
    IPv6Network("fd01::/64"),
    ((80, 80), (8000, 8100)),
    ((1024, 65535),),
    IPv6Network("fd00::/64"),
)
OTHER = FilterRule(False, network=IPv4Network("10.0.0.0/8"))


def attach(rules: bytes) -> None:
    Core(True, 0).attach(1, ANYWHERE, 0, LONGEST, rules)


class RuleTests(TestCase):
    def assert_refused(self, rules: bytes) -> None:
        with self.assertRaises(ValueError):
            attach(rules)

    def test_rules_have_their_layout(self) -> None:
        network = bytes((16, 64, 0xFD)) + b"\1".ljust(15, b"\0")
        near = bytes((16, 64, 0xFD)) + bytes(15)
        ports = bytes((2, 0, 80, 0, 80, 0x1F, 0x40, 0x1F, 0xA4, 1, 4, 0, 255, 255))
        self.assertEqual(core_rules((FULL,)), bytes((15, TCP)) + network + near + ports)
        self.assertEqual(
            core_rules((OTHER, FilterRule(True, protocol=0))),
            bytes((2, 0, 4, 8, 10, 0, 0, 0, 0, 0, 0, 0)) + bytes((11, 0, 0, 0, 0, 0, 0, 0)),
        )

    def test_rules_that_are_cut_off_are_refused(self) -> None:
        rules = core_rules((OTHER, FULL))
        whole = {0, len(core_rules((OTHER,)))}
        for size in range(len(rules)):
            if size not in whole:
                self.assert_refused(rules[:size])
        attach(rules)

    def test_rules_that_say_what_cannot_be_are_refused(self) -> None:
        good = core_rules((OTHER,))
        attach(good)
        for at, value in ((0, 16), (2, 5), (2, 255), (3, 33), (8, 4), (8, 255), (10, 33), (11, 1)):
            self.assert_refused(good[:at] + bytes((value,)) + good[at + 1 :])
        self.assert_refused(good[:10] + bytes((1, 0, 2, 0, 1)) + good[11:])  # from 2 to 1

    def test_there_are_as_many_rules_and_ranges_as_can_be_written(self) -> None:
        ranges = ((1, 2),) * MOST_RANGES
        rule = FilterRule(True, protocol=TCP, ports=ranges, source_ports=ranges)
        attach(core_rules((rule,) * MOST_RULES))
        self.assert_refused(core_rules((rule,) * (MOST_RULES + 1)))
        one = core_rules((FilterRule(True, protocol=TCP),))
        self.assert_refused(one[:6] + bytes((33,)) + bytes(4 * 33) + one[7:])

    @settings(max_examples=300)
    @given(st.integers(0, 2**32), st.integers(0, 10_000), st.integers(0, 255))
    def test_rules_that_are_damaged_do_no_harm(self, seed: int, at: int, value: int) -> None:
        rules = bytearray(core_rules(random_rules(random.Random(seed))))
        rules[at % len(rules)] = value
        core = Core(True, 0)
        try:
            core.attach(1, ANYWHERE, 0, LONGEST, bytes(rules))
        except ValueError:
            return
        core.take_packets(1, [udp_packet(NEAR, 53, FAR, 53), ip_packet(NEAR, FAR, TCP, bytes(20))])
        self.assertLessEqual(len(core.written()), 2)


class SuperPacketTests(TestCase):
    def test_super_packets_are_judged_as_their_segments(self) -> None:
        frames = [
            super_packet(version, bytes(3500), 1000, flags=flags)
            for version in (4, 6)
            for flags in (ACK, ACK | FIN, SYN)
        ]
        ends = split_super_packets(frames[:1], HEADER)[0]
        server_port = int.from_bytes(ends[20:22], "big")
        for rules in (
            [FilterRule(True, protocol=TCP)],
            [FilterRule(True, protocol=TCP, ports=((server_port, server_port),))],
            [FilterRule(True, Direction.TO_CLIENT, TCP)],
            [FilterRule(True, protocol=UDP)],
        ):
            core, judge = CoreFilter(rules, HEADER), PacketFilter(rules)
            packets = split_super_packets(frames, HEADER)
            expected = judge.passing(packets, 0.0, from_client=False)
            core.core.take_frames(frames)
            self.assertEqual(core.core.take_waiting(1, 100)[1], expected)
            self.assertEqual(core.filtered, len(packets) - len(expected))

    def test_ports_that_only_one_segment_has_open_nothing_for_the_others(self) -> None:
        # An extension header that ends behind the headers that all segments have
        lying = bytes((UDP, 3)) + bytes(6) + tcp(1, 2) + bytes(4) + udp(9, 53, bytes(300))
        packet = ip_packet(FAR6, NEAR6, DESTINATION, lying)
        frame = struct.pack("=BBHHHH", 1, 4, 68, 100, 48, 16) + packet
        rules = [FilterRule(True, Direction.TO_CLIENT, UDP, ports=((53, 53),))]
        first, *others = split_super_packets([frame], HEADER)
        judge = PacketFilter(rules)
        self.assertEqual(judge.passing([first, *others], 0.0, from_client=False), [first])
        core = CoreFilter(rules, HEADER)
        self.assertEqual(core.passing([frame], 0.0, from_client=False), [])
        self.assertEqual(core.filtered, 1 + len(others))


class MemoryTests(TestCase):
    def test_a_flood_of_flows_fills_no_memory(self) -> None:
        before = heap_bytes()
        judge = CoreFilter([FilterRule(True, Direction.BOTH)])
        few = heap_bytes() - before
        for made in (udp_packet, tcp_packet):  # only UDP opens flows that are kept
            for start in range(0, 60_000, 1000):
                packets = [made(NEAR, port, FAR, 53) for port in range(start, start + 1000)]
                for from_client in (True, False):
                    judge.passing(packets, 0.0, from_client=from_client)
        full = heap_bytes() - before
        self.assertLess(full, few + (1 << 20))
        for number in range(1, 4):
            judge.passing(packets[:1], number * 3 * ANSWER_TIME_S, from_client=True)
        self.assertLess(heap_bytes() - before, few + (64 << 10))  # Python has a little of it

    def test_older_flows_make_room_for_new_ones(self) -> None:
        judge = CoreFilter([FilterRule(True, protocol=UDP)])
        answer = udp_packet(FAR, 53, NEAR, 1)
        judge.passing([udp_packet(NEAR, 1, FAR, 53)], 0.0, from_client=True)
        self.assertEqual(judge.passing([answer], 0.0, from_client=False), [answer])
        ports = range(2, 3 + 2 * FEWEST_FLOWS)
        many = [udp_packet(NEAR, port, FAR, 53) for port in ports]
        judge.passing(many, 0.0, from_client=True)
        self.assertEqual(judge.passing([answer], 0.0, from_client=False), [])

    def test_tunnels_of_one_policy_share_its_rules_as_long_as_there_is_one(self) -> None:
        core = Core(True, 0)
        rules = core_rules((FULL,) * MOST_RULES)
        before = heap_bytes()
        core.attach(1, ANYWHERE, 0, LONGEST, rules)
        one = heap_bytes() - before
        for number in range(2, 12):
            core.attach(number, [(bytes((10, 0, 0, number)), 32)], 1, LONGEST, rules)
        self.assertLess(heap_bytes() - before, 2 * one + 10 * 16_000)
        for number in range(2, 12):
            core.detach(number)
        core.take_packets(1, [udp_packet(NEAR, 1, FAR, 2)])
        self.assertEqual(core.written(), [])
        core.detach(1)
        self.assertLessEqual(heap_bytes() - before, one // 2)
