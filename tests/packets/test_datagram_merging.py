"""Datagrams of a UDP flow in one super-packet for the tun device, by either engine."""

from __future__ import annotations

import struct
from unittest import TestCase
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.packets import merging
from anyvpn.packets._compiled import Core
from anyvpn.packets.offload import merge_segments, split_super_packets
from tests.packets.test_engines_agree import LONGEST, by_flow
from tests.packets.test_offload import (
    ip_header,
    naive_sum,
    pseudo_header,
    tcp_packet,
    udp_super_packet,
)

HEADER = 10
GSO_UDP = 5
PAYLOAD = bytes(range(100))


def datagram(
    version: int,
    payload: bytes = PAYLOAD,
    *,
    ident: int = 5,
    ports: tuple[int, int] = (4000, 53),
    fragment: int = 0x4000,
) -> bytes:
    """A packet with a datagram and good checksums, made the slow way."""
    size = 8 + len(payload)
    udp = struct.pack("!HHHH", *ports, size, 0) + payload
    header = ip_header(version, 17, size, ident, fragment)
    checksum = (naive_sum(pseudo_header(header + udp) + udp) ^ 0xFFFF) or 0xFFFF
    return header + udp[:6] + checksum.to_bytes(2, "big") + udp[8:]


def by_python(packets: list[bytes], header: int = HEADER) -> list[bytes]:
    return merge_segments(packets, header, takes_datagrams=True)


def by_core(packets: list[bytes], header: int = HEADER) -> list[bytes]:
    core = Core(True, header, takes_datagrams=True)
    core.attach(1, [(bytes(4), 0), (bytes(16), 0)], 0, LONGEST)
    core.take_packets(1, packets)
    return list(core.written())


ENGINES = (by_python, by_core)


class DatagramMergingTests(TestCase):
    def assert_untouched(self, packets: list[bytes]) -> None:
        for merge in ENGINES:
            self.assertEqual(merge(packets), [bytes(HEADER) + each for each in packets], merge)

    def test_datagrams_of_a_flow_become_one_super_packet(self) -> None:
        for version in (4, 6):
            packets = [datagram(version, ident=5 + number) for number in range(5)]
            packets.append(datagram(version, PAYLOAD[:7], ident=10))
            for merge in ENGINES:
                (frame,) = merge(packets)
                self.assertEqual(frame[:2], bytes((1, GSO_UDP)), "needs a checksum, and its kind")
                self.assertEqual(split_super_packets([frame], HEADER), packets)

    def test_the_super_packet_is_what_the_kernel_hands_over(self) -> None:
        for version in (4, 6):
            expected = bytearray(udp_super_packet(version, bytes(250), 100))
            at = HEADER + (20 if version == 4 else 40)
            pseudo_sum = naive_sum(pseudo_header(bytes(expected[HEADER:])))
            expected[at + 6 : at + 8] = pseudo_sum.to_bytes(2, "big")
            packets = split_super_packets([bytes(expected)], HEADER)
            for merge in ENGINES:
                self.assertEqual(merge(packets), [bytes(expected)])

    def test_a_wider_header_is_filled(self) -> None:
        packets = [datagram(4, ident=number) for number in range(3)]
        for merge in ENGINES:
            (wide,), (narrow,) = merge(packets, 12), merge(packets, 10)
            self.assertEqual(wide, narrow[:10] + b"\0\0" + narrow[10:])

    def test_a_device_that_does_not_take_them_gets_single_ones(self) -> None:
        packets = [datagram(4, ident=number) for number in range(3)]
        alone = [bytes(HEADER) + each for each in packets]
        self.assertEqual(merge_segments(packets, HEADER), alone)
        core = Core(True, HEADER)
        core.attach(1, [(bytes(4), 0)], 0, LONGEST)
        core.take_packets(1, packets)
        self.assertEqual(list(core.written()), alone)
        for merge in ENGINES:
            self.assertEqual(merge(packets, 0), packets)

    def test_a_damaged_one_is_not_given_a_good_checksum(self) -> None:
        for version in (4, 6):
            for place in (-1, -101):  # payload, and the checksum itself
                packets = [datagram(version, ident=number) for number in range(4)]
                damaged = bytearray(packets[2])
                damaged[place] ^= 0x10
                packets[2] = bytes(damaged)
                for merge in ENGINES:
                    again = split_super_packets(merge(packets), HEADER)
                    self.assertEqual(again, packets, (merge, version, place))

    def test_without_a_checksum_none_is_given(self) -> None:
        for version in (4, 6):
            made = bytearray(datagram(version, PAYLOAD[:-2] + bytes(2)))
            made[-102:-100] = bytes(2)
            transport = made[20:] if version == 4 else made[40:]
            rest = naive_sum(pseudo_header(bytes(made)) + transport)
            made[-2:] = (0xFFFF - rest).to_bytes(2, "big")  # so that it adds up none the less
            self.assert_untouched([bytes(made)] * 3)

    def test_what_differs_is_not_merged(self) -> None:
        first = datagram(4)
        for other in (
            datagram(4, ident=6, ports=(4001, 53)),
            datagram(4, ident=6, ports=(4000, 54)),
            datagram(4, PAYLOAD + b"+", ident=6),
            datagram(4, ident=9),
            datagram(4, ident=6, fragment=0),
            datagram(6),
            tcp_packet(4, PAYLOAD, ident=6, ports=(4000, 53)),
        ):
            self.assert_untouched([first, other])
        for place in (1, 8):  # type of service, time to live
            other_header = bytearray(datagram(4, ident=6))
            other_header[place] ^= 4
            other_header[10:12] = bytes(2)
            other_header[10:12] = (naive_sum(bytes(other_header[:20])) ^ 0xFFFF).to_bytes(2, "big")
            self.assert_untouched([first, bytes(other_header)])

    def test_a_tcp_flow_between_the_same_ports_is_another_one(self) -> None:
        ports = (4000, 53)
        packets: list[bytes] = []
        for number in range(4):
            packets.append(datagram(4, ident=number))
            sequence = 1000 + 100 * number
            packets.append(tcp_packet(4, PAYLOAD, sequence=sequence, ident=number, ports=ports))
        for merge in ENGINES:
            self.assertEqual(len(merge(packets)), 2)

    def test_empty_and_odd_ones_pass_alone(self) -> None:
        for version in (4, 6):
            empty = [datagram(version, b"", ident=number) for number in range(3)]
            padded = [datagram(version, ident=number) + b"\0" for number in range(3)]
            self.assert_untouched(empty)
            self.assert_untouched(padded)
            ip_bytes = 20 if version == 4 else 40
            short = ip_header(version, 17, 4, 5) + bytes(4)
            self.assertEqual(len(short), ip_bytes + 4)
            self.assert_untouched([short, short])

    def test_a_length_that_lies_is_not_merged(self) -> None:
        for length in (0, 50, 109, 0xFFFF):
            made = [bytearray(datagram(4, ident=number)) for number in range(3)]
            for each in made:
                each[24:26] = length.to_bytes(2, "big")
                each[26:28] = bytes(2)
                checksum = naive_sum(pseudo_header(bytes(each)) + each[20:]) ^ 0xFFFF
                each[26:28] = checksum.to_bytes(2, "big")
            self.assert_untouched([bytes(each) for each in made])

    def test_a_fragment_is_not_overtaken(self) -> None:
        packets = [
            datagram(4, ident=1),
            ip_header(4, 17, 16, 2, 0x2000 | 5) + bytes(16),
            datagram(4, ident=2),
        ]
        self.assert_untouched(packets)

    def test_a_shorter_one_is_the_last(self) -> None:
        packets = [datagram(4, ident=1), datagram(4, b"short", ident=2), datagram(4, ident=3)]
        for merge in ENGINES:
            frames = merge(packets)
            self.assertEqual(len(frames), 2)
            self.assertEqual(split_super_packets(frames, HEADER), packets)

    def test_ids_may_stand_still_only_where_fragments_are_forbidden(self) -> None:
        for merge in ENGINES:
            self.assertEqual(len(merge([datagram(4)] * 3)), 1)
        self.assert_untouched([datagram(4, fragment=0)] * 3)

    def test_no_super_packet_is_longer_than_a_length_can_say(self) -> None:
        packets = [datagram(4, bytes(1400), ident=number) for number in range(200)]
        for merge in ENGINES:
            frames = merge(packets)
            self.assertLess(max(map(len, frames)), LONGEST + HEADER + 1)
            self.assertEqual(split_super_packets(frames, HEADER), packets)

    def test_no_super_packet_has_more_datagrams_than_the_kernel_takes(self) -> None:
        packets = [datagram(4, b"tiny", ident=number) for number in range(200)]
        for merge in ENGINES:
            frames = merge(packets)
            self.assertEqual(split_super_packets(frames, HEADER), packets)
            self.assertEqual(
                [len(split_super_packets([each], HEADER)) for each in frames], [64, 64, 64, 8]
            )

    def test_an_id_that_flows_over_changes_nothing(self) -> None:
        packets = [datagram(4, ident=(0xFFFD + number) & 0xFFFF) for number in range(6)]
        for merge in ENGINES:
            self.assertEqual(split_super_packets(merge(packets), HEADER), packets)

    @settings(max_examples=150)
    @given(
        st.sampled_from([4, 6]),
        st.lists(
            st.tuples(
                st.sampled_from([100, 100, 100, 100, 60, 140, 0, 1]),  # payload
                st.sampled_from([53] * 5 + [54]),  # port
                st.sampled_from(["good"] * 8 + ["damaged", "gap", "still", "tcp", "fragment"]),
            ),
            max_size=40,
        ),
    )
    def test_both_engines_merge_alike(
        self, version: int, picks: list[tuple[int, int, str]]
    ) -> None:
        packets: list[bytes] = []
        ident = 65530
        for number, (size, port, what) in enumerate(picks):
            ident += {"gap": 3, "still": 0}.get(what, 1)
            payload = bytes((number + at) & 0xFF for at in range(size))
            fragment = 0x2000 if what == "fragment" else 0x4000
            if what == "tcp":
                made = tcp_packet(version, payload, ident=ident % 65536)
            else:
                ports = (4000, port)
                made = datagram(
                    version, payload, ident=ident % 65536, ports=ports, fragment=fragment
                )
            if what == "damaged":
                made = made[:-1] + bytes((made[-1] ^ 1,))
            packets.append(made)
        whats = {what for *_, what in picks}
        for header in (HEADER, 12, 0):
            frames = [merge(packets, header) for merge in ENGINES]
            if "damaged" not in whats:
                self.assertEqual(*frames)
            if "still" not in whats:  # ids that stood still count up in what is cut again
                for each in frames:
                    again = split_super_packets(each, header)
                    self.assertEqual(by_flow(again), by_flow(packets))

    @settings(max_examples=150)
    @given(
        version=st.sampled_from((4, 6)),
        ident=st.sampled_from((5, 0xFFFD)),
        changes=st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, 47), st.integers(0, 255)), max_size=2
        ),
    )
    def test_the_quick_look_finds_what_a_thorough_one_does(
        self, *, version: int, ident: int, changes: list[tuple[int, int, int]]
    ) -> None:
        packets = [datagram(version, ident=(ident + number) & 0xFFFF) for number in range(6)]
        for number, place, value in changes:
            changed = bytearray(packets[number])
            changed[place] = value
            packets[number] = bytes(changed)
        quick = by_python(packets)
        with patch.object(merging._Run, "take_alike", lambda _run, _packets, start: start):
            self.assertEqual(by_python(packets), quick)
