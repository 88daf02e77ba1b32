"""Super-packets cut into segments, and segments put together."""

from __future__ import annotations

import struct
from unittest import TestCase
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.packets import checksums, merging
from anyvpn.packets.checksums import load_numpy_segment_sums, plain_segment_sums, word_sum
from anyvpn.packets.offload import merge_segments, split_super_packets

FIN, SYN, PSH, ACK, URG, ECE, CWR = 0x01, 0x02, 0x08, 0x10, 0x20, 0x40, 0x80
HEADER = 10
TIMESTAMPS = b"\x01\x01\x08\x0a" + bytes(range(8))


def naive_sum(data: bytes) -> int:
    """One's complement sum as in RFC 1071, word by word."""
    total = 0
    for start in range(0, len(data), 2):
        total += int.from_bytes(data[start : start + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip_header(version: int, protocol: int, size: int, ident: int, fragment: int = 0x4000) -> bytes:
    if version == 6:
        hosts = bytes(range(32))
        return struct.pack("!IHBB", 0x60012345, size, protocol, 63) + hosts
    hosts = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    header = struct.pack("!BBHHHBBH", 0x45, 8, 20 + size, ident, fragment, 63, protocol, 0) + hosts
    return header[:10] + (naive_sum(header) ^ 0xFFFF).to_bytes(2, "big") + header[12:]


def pseudo_header(packet: bytes) -> bytes:
    if packet[0] >> 4 == 4:
        return packet[12:20] + bytes((0, packet[9])) + struct.pack("!H", len(packet) - 20)
    return packet[8:40] + struct.pack("!II", len(packet) - 40, packet[6])


def transport(packet: bytes) -> bytes:
    return packet[20:] if packet[0] >> 4 == 4 else packet[40:]


def tcp_packet(
    version: int,
    payload: bytes,
    *,
    sequence: int = 1000,
    flags: int = ACK,
    ident: int = 5,
    options: bytes = TIMESTAMPS,
    ports: tuple[int, int] = (5001, 80),
    acknowledge: int = 99,
    window: int = 500,
    fragment: int = 0x4000,
) -> bytes:
    """A segment with good checksums, made the slow way."""
    offset = (20 + len(options)) // 4 << 4
    tcp = bytearray(
        struct.pack("!HHIIBBHHH", *ports, sequence, acknowledge, offset, flags, window, 0, 0)
        + options
        + payload
    )
    packet = ip_header(version, 6, len(tcp), ident, fragment) + bytes(tcp)
    tcp[16:18] = (naive_sum(pseudo_header(packet) + tcp) ^ 0xFFFF).to_bytes(2, "big")
    return ip_header(version, 6, len(tcp), ident, fragment) + bytes(tcp)


def with_right_checksums(packet: bytes) -> bytes:
    """The packet with the checksums of its version's header and of TCP, whatever it holds."""
    fixed = bytearray(packet)
    ip_bytes = 20 if len(packet) > 20 and packet[0] >> 4 == 4 else 40
    if ip_bytes == 20:
        fixed[10:12] = bytes(2)
        fixed[10:12] = (naive_sum(bytes(fixed[:20])) ^ 0xFFFF).to_bytes(2, "big")
    fixed[ip_bytes + 16 : ip_bytes + 18] = bytes(2)
    addresses = fixed[12:20] if ip_bytes == 20 else fixed[8:40]
    pseudo = bytes(addresses) + struct.pack("!II", len(fixed) - ip_bytes, 6)
    total = naive_sum(pseudo + bytes(fixed[ip_bytes:])) ^ 0xFFFF
    fixed[ip_bytes + 16 : ip_bytes + 18] = total.to_bytes(2, "big")
    return bytes(fixed)


def super_packet(
    version: int, payload: bytes, gso_bytes: int, *, sequence: int = 1000, flags: int = ACK,
    ident: int = 5, options: bytes = TIMESTAMPS,
) -> bytes:  # fmt: skip
    """What the kernel hands over: one big segment whose checksum is the pseudo-header's sum."""
    packet = bytearray(
        tcp_packet(version, payload, sequence=sequence, flags=flags, ident=ident, options=options)
    )
    ip_bytes = 20 if version == 4 else 40
    packet[ip_bytes + 16 : ip_bytes + 18] = naive_sum(pseudo_header(packet)).to_bytes(2, "big")
    kind = 1 if version == 4 else 4
    header = struct.pack("=BBHHHH", 1, kind, ip_bytes + 20 + len(options), gso_bytes, ip_bytes, 16)
    return header + bytes(packet)


def udp_super_packet(version: int, payload: bytes, gso_bytes: int) -> bytes:
    udp = struct.pack("!HHHH", 53, 5353, 8 + len(payload), 0) + payload
    packet = ip_header(version, 17, len(udp), 7) + udp
    ip_bytes = len(packet) - len(udp)
    return struct.pack("=BBHHHH", 1, 5, ip_bytes + 8, gso_bytes, ip_bytes, 6) + packet


def expected_segments(
    *, version: int, payload: bytes, gso_bytes: int, sequence: int, flags: int, ident: int
) -> list[bytes]:
    starts = range(0, len(payload), gso_bytes)
    return [
        tcp_packet(
            version,
            payload[start : start + gso_bytes],
            sequence=(sequence + start) & 0xFFFFFFFF,
            flags=flags & ~(0 if start == starts[-1] else FIN | PSH) & ~(CWR if start else 0),
            ident=(ident + number) & 0xFFFF,
        )
        for number, start in enumerate(starts)
    ]


class SplitTests(TestCase):
    """From the device."""

    @settings(max_examples=80)
    @given(
        version=st.sampled_from((4, 6)),
        payload=st.binary(min_size=1, max_size=400),
        gso_bytes=st.integers(1, 450),
        sequence=st.integers(0, 0xFFFFFFFF),
        flags=st.sampled_from((ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR | ECE | PSH)),
        ident=st.integers(0, 0xFFFF),
    )
    def test_segments_are_those_of_a_plain_sender(
        self, *, version: int, payload: bytes, gso_bytes: int, sequence: int, flags: int, ident: int
    ) -> None:
        frame = super_packet(
            version, payload, gso_bytes, sequence=sequence, flags=flags, ident=ident
        )
        expected = expected_segments(
            version=version,
            payload=payload,
            gso_bytes=gso_bytes,
            sequence=sequence,
            flags=flags,
            ident=ident,
        )
        self.assertEqual(split_super_packets([frame], HEADER), expected)

    def test_a_wider_header_is_skipped_whole(self) -> None:
        frame = super_packet(4, bytes(range(100)), 40)
        wider = frame[:10] + b"\0\0" + frame[10:]
        self.assertEqual(split_super_packets([wider], 12), split_super_packets([frame], 10))

    def test_udp_is_cut_into_datagrams(self) -> None:
        payload = bytes(range(250))
        for version in (4, 6):
            datagrams = split_super_packets([udp_super_packet(version, payload, 99)], HEADER)
            self.assertEqual(b"".join(transport(each)[8:] for each in datagrams), payload)
            self.assertEqual([len(transport(each)) for each in datagrams], [107, 107, 60])
            for datagram in datagrams:
                udp = transport(datagram)
                self.assertEqual(int.from_bytes(udp[4:6], "big"), len(udp))
                self.assertEqual(naive_sum(pseudo_header(datagram) + udp), 0xFFFF)
                if version == 4:
                    self.assertEqual(naive_sum(datagram[:20]), 0xFFFF)
                    self.assertEqual(int.from_bytes(datagram[2:4], "big"), len(datagram))
                else:
                    self.assertEqual(int.from_bytes(datagram[4:6], "big"), len(udp))
        idents = [int.from_bytes(each[4:6], "big") for each in
                  split_super_packets([udp_super_packet(4, payload, 99)], HEADER)]  # fmt: skip
        self.assertEqual(idents, [7, 8, 9])

    @settings(max_examples=60)
    @given(version=st.sampled_from((4, 6)), payload=st.binary(max_size=1400))
    def test_the_checksum_of_a_single_packet_is_completed(
        self, version: int, payload: bytes
    ) -> None:
        frame = bytearray(super_packet(version, payload, 0))
        frame[1] = 0
        (packet,) = split_super_packets([bytes(frame)], HEADER)
        self.assertEqual(naive_sum(pseudo_header(packet) + transport(packet)), 0xFFFF)
        self.assertEqual(transport(packet)[20:], transport(tcp_packet(version, payload))[20:])

    @settings(max_examples=60)
    @given(
        version=st.sampled_from((4, 6)),
        sizes=st.lists(st.sampled_from((0, 1, 7, 300, 300, 300, 301, 1400)), max_size=12),
        with_numpy=st.booleans(),
    )
    def test_checksums_of_single_packets_in_a_row_are_completed(
        self, *, version: int, sizes: list[int], with_numpy: bool
    ) -> None:
        wanted, frames = [], []
        for number, size in enumerate(sizes):
            payload, kept = bytes((number,)) * size, {"sequence": number, "ident": number}
            wanted.append(tcp_packet(version, payload, **kept))  # type: ignore[arg-type]
            frame = super_packet(version, payload, 0, **kept)  # type: ignore[arg-type]
            frames.append(frame[:1] + b"\0" + frame[2:])
        chosen = load_numpy_segment_sums() if with_numpy else None
        with patch.object(checksums, "_numpy_segment_sums", chosen):
            self.assertEqual(split_super_packets(frames, HEADER), wanted)

    def test_single_packets_with_another_field_are_no_row(self) -> None:
        """The field lies elsewhere in UDP; a header that does not fit leaves its packet alone."""
        tcp = super_packet(4, bytes(300), 0)
        tcp = tcp[:1] + b"\0" + tcp[2:]
        beyond = tcp[:6] + (400).to_bytes(2, "little") + tcp[8:]
        packets = split_super_packets([tcp, beyond, tcp], HEADER)
        self.assertEqual(packets, [packets[0], beyond[HEADER:], packets[0]])
        self.assertNotEqual(packets[0], tcp[HEADER:])

    def test_a_checksum_of_udp_is_never_zero(self) -> None:
        """Zero means that there is none, and IPv6 forbids that."""
        bare = split_super_packets([udp_super_packet(6, b"\0\0x", 2)], HEADER)[0]
        filling = transport(bare)[6:8]
        gso = udp_super_packet(6, filling + b"x", 2)
        single = gso[:1] + b"\0" + gso[2:16] + gso[16:-1]
        length = (10).to_bytes(2, "big")
        pseudo = naive_sum(single[18:50] + length + b"\0\x11").to_bytes(2, "big")
        single = single[:14] + length + single[16:54] + length + pseudo + filling
        for frame in (gso, single):
            datagram = split_super_packets([frame], HEADER)[0]
            self.assertEqual(transport(datagram)[6:], b"\xff\xff" + filling)

    def test_order_is_kept_and_plain_frames_are_untouched(self) -> None:
        plain = [b"\x45" + bytes((number,)) * 30 for number in range(3)]
        big = super_packet(4, bytes(90), 40)
        frames = [bytes(10) + plain[0], big, b"\x02" + bytes(9) + plain[1], bytes(10) + plain[2]]
        segments = split_super_packets([big], HEADER)
        self.assertEqual(
            split_super_packets(frames, HEADER), [plain[0], *segments, plain[1], plain[2]]
        )

    def test_without_a_header_frames_are_packets(self) -> None:
        frames = [b"\x01\x01" + bytes(60), b"", b"x"]
        self.assertEqual(split_super_packets(frames, 0), frames)


class HostileFrameTests(TestCase):
    """Headers that lie."""

    @settings(max_examples=200)
    @given(
        version=st.sampled_from((4, 6)),
        header=st.tuples(
            st.integers(0, 255),
            st.sampled_from((0, 1, 3, 4, 5, 0x81, 0x84, 255)),
            *(st.one_of(st.integers(0, 80), st.integers(0, 0xFFFF)) for _ in range(4)),
        ),
        damage=st.lists(st.tuples(st.integers(0, 159), st.integers(0, 255)), max_size=4),
        size=st.integers(0, 170),
    )
    def test_they_never_raise(
        self,
        version: int,
        header: tuple[int, ...],
        damage: list[tuple[int, int]],
        size: int,
    ) -> None:
        packet = bytearray(tcp_packet(version, bytes(100)))
        for place, value in damage:
            packet[place % len(packet)] = value
        frame = (struct.pack("=BBHHHH", *header) + bytes(packet))[:size]
        split_super_packets([frame], HEADER)
        merge_segments([bytes(packet)[:size], bytes(packet)], HEADER)

    def test_nothing_is_cut_where_the_header_does_not_fit(self) -> None:
        frame = bytearray(super_packet(4, bytes(100), 40))
        frame[10 + 36] = 0x80  # a length of TCP's header, where that would begin at 24
        packet = bytes(frame[10:])
        for header in (
            (1, 4, 52, 40, 20, 16),  # IPv6's kind
            (1, 1, 52, 40, 24, 16),  # TCP begins elsewhere
            (1, 5, 52, 40, 20, 16),  # UDP's kind
            (1, 1, 52, 40, 0xFFFF, 16),
            (1, 0, 52, 0, 20, 0xFFFF),
        ):
            hostile = struct.pack("=BBHHHH", *header) + packet
            self.assertEqual(split_super_packets([hostile], HEADER), [packet], header)

    def test_a_gso_size_of_zero_is_a_single_packet(self) -> None:
        frame = super_packet(6, bytes(100), 0)
        self.assertEqual(split_super_packets([frame], HEADER), [tcp_packet(6, bytes(100))])

    def test_truncated_frames_never_raise(self) -> None:
        frames = (
            *(super_packet(version, bytes(9), 4) for version in (4, 6)),
            *(udp_super_packet(version, bytes(9), 4) for version in (4, 6)),
        )
        for frame in frames:
            for size in range(len(frame)):
                split_super_packets([frame[:size]], HEADER)
                merge_segments([frame[10:size], frame[10:]], HEADER)

    def test_empty_packets_are_carried(self) -> None:
        self.assertEqual(merge_segments([b"", b"\x45"], HEADER), [bytes(10), bytes(10) + b"\x45"])


class MergeTests(TestCase):
    """Towards the device."""

    def segments(self, version: int = 4, count: int = 4, **kwargs: int) -> list[bytes]:
        payload = bytes(index % 256 for index in range(count * 100))
        return split_super_packets([super_packet(version, payload, 100, **kwargs)], HEADER)

    def assert_untouched(self, packets: list[bytes]) -> None:
        self.assertEqual(merge_segments(packets, HEADER), [bytes(10) + each for each in packets])

    @settings(max_examples=80)
    @given(
        version=st.sampled_from((4, 6)),
        payload=st.binary(min_size=2, max_size=900),
        gso_bytes=st.integers(1, 400),
        sequence=st.integers(0, 0xFFFFFFFF),
        flags=st.sampled_from((ACK, ACK | PSH, ACK | FIN | PSH, ACK | ECE, ACK | CWR | PSH)),
        ident=st.integers(0, 0xFFFF),
    )
    def test_splitting_what_was_merged_gives_the_same_packets(
        self, *, version: int, payload: bytes, gso_bytes: int, sequence: int, flags: int, ident: int
    ) -> None:
        frame = super_packet(
            version, payload, gso_bytes, sequence=sequence, flags=flags, ident=ident
        )
        packets = split_super_packets([frame], HEADER)
        merged = merge_segments(packets, HEADER)
        self.assertEqual(split_super_packets(merged, HEADER), packets)
        if len(packets) > 2:
            self.assertLess(len(merged), len(packets))

    def test_the_super_packet_is_what_the_kernel_would_have_sent(self) -> None:
        for version in (4, 6):
            payload = bytes(range(250))
            frame = super_packet(version, payload, 100, flags=ACK | PSH)
            merged = merge_segments(split_super_packets([frame], HEADER), HEADER)
            self.assertEqual(merged, [frame])

    def test_a_wider_header_is_filled(self) -> None:
        packets = self.segments()
        (wide,) = merge_segments(packets, 12)
        (narrow,) = merge_segments(packets, 10)
        self.assertEqual(wide, narrow[:10] + b"\0\0" + narrow[10:])

    def test_a_damaged_segment_is_not_given_a_good_checksum(self) -> None:
        for version in (4, 6):
            packets = self.segments(version)
            for place in (-1, len(packets[2]) - 116):  # payload, and the checksum itself
                damaged = bytearray(packets[2])
                damaged[place] ^= 0x10
                self.assert_untouched([*packets[:2], bytes(damaged), packets[3]])

    def test_a_damaged_ip_header_is_not_given_a_good_checksum(self) -> None:
        packets = self.segments()
        damaged = bytearray(packets[1])
        damaged[10] ^= 1
        self.assert_untouched([packets[0], bytes(damaged), *packets[2:]])

    def test_what_differs_is_not_merged(self) -> None:
        first = tcp_packet(4, bytes(100))
        for change in (
            {"sequence": 1101},
            {"sequence": 1000},
            {"acknowledge": 100},
            {"window": 501},
            {"ports": (5002, 80)},
            {"ident": 7},
            {"ident": 4},
            {"fragment": 0},
            {"options": TIMESTAMPS[:-1] + b"\xff"},
            {"flags": ACK | SYN},
            {"flags": ACK | URG},
            {"flags": ACK | CWR},
            {"flags": ACK | ECE},
            {"flags": 0},
        ):
            kept = {"sequence": 1100, "ident": 6, **change}
            self.assert_untouched([first, tcp_packet(4, bytes(100), **kept)])  # type: ignore[arg-type]
        self.assertEqual(
            len(merge_segments([first, tcp_packet(4, bytes(100), sequence=1100, ident=6)], HEADER)),
            1,
        )

    def test_a_longer_segment_is_not_taken_and_a_shorter_one_is_the_last(self) -> None:
        first = tcp_packet(4, bytes(100))
        for size in (101, 250):
            self.assert_untouched([first, tcp_packet(4, bytes(size), sequence=1100, ident=6)])
        short = tcp_packet(4, bytes(50), sequence=1100, ident=6)
        after = tcp_packet(4, bytes(50), sequence=1150, ident=7)
        merged = merge_segments([first, short, after], HEADER)
        self.assertEqual(merged[1], bytes(10) + after)

    def test_fin_and_psh_end_a_super_packet(self) -> None:
        for flag in (FIN, PSH):
            pushed = tcp_packet(4, bytes(100), sequence=1100, ident=6, flags=ACK | flag)
            after = tcp_packet(4, bytes(100), sequence=1200, ident=7)
            merged = merge_segments([tcp_packet(4, bytes(100)), pushed, after], HEADER)
            self.assertEqual(merged[1:], [bytes(10) + after])
            self.assertEqual(merged[0][10 + 33], ACK | flag)

    def test_ids_may_stand_still_only_where_fragments_are_forbidden(self) -> None:
        for fragment, frames in ((0x4000, 1), (0, 3)):
            packets = [
                tcp_packet(4, bytes(10), sequence=1000 + 10 * number, ident=0, fragment=fragment)
                for number in range(3)
            ]
            self.assertEqual(len(merge_segments(packets, HEADER)), frames)

    def test_an_id_out_of_line_ends_a_super_packet(self) -> None:
        packets = [
            tcp_packet(4, bytes(10), sequence=1000 + 10 * number, ident=ident)
            for number, ident in enumerate((5, 6, 9))
        ]
        merged = merge_segments(packets, HEADER)
        self.assertEqual(merged[1:], [bytes(10) + packets[2]])

    @settings(max_examples=150)
    @given(
        version=st.sampled_from((4, 6)),
        sequence=st.sampled_from((1000, 0xFFFFFFFF - 250, 0xFFFFFFFF - 399)),
        ident=st.sampled_from((5, 0xFFFD)),
        changes=st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, 79), st.integers(0, 255)), max_size=2
        ),
    )
    def test_the_quick_look_finds_what_a_thorough_one_does(
        self, *, version: int, sequence: int, ident: int, changes: list[tuple[int, int, int]]
    ) -> None:
        packets = self.segments(version, 6, sequence=sequence, ident=ident)
        for number, place, value in changes:
            changed = bytearray(packets[number])
            changed[place] = value
            packets[number] = with_right_checksums(bytes(changed))
        quick = merge_segments(packets, HEADER)
        with patch.object(merging._Run, "take_alike", lambda _run, _packets, start: start):
            self.assertEqual(merge_segments(packets, HEADER), quick)

    def test_a_field_that_flows_over_ends_the_quick_look(self) -> None:
        """The next number up would have it in the field before: a length, a port, a header sum."""
        ending = {"flags": ACK, "options": TIMESTAMPS}
        for version in (4, 6):
            *known, last = (
                tcp_packet(
                    version,
                    bytes(100),
                    sequence=(0xFFFFFFFF - 199 + 100 * number) & 0xFFFFFFFF,
                    ident=number,
                    ports=(5001, 80 + number // 2),
                    **ending,  # type: ignore[arg-type]
                )
                for number in range(3)
            )
            merged = merge_segments([*known, last], HEADER)
            self.assertEqual(merged[1:], [bytes(10) + last], version)
        first = tcp_packet(4, bytes(100), ident=0)
        without_header_sum = int.from_bytes(first[10:12], "big") - 1
        for ident in (0xFFFE, without_header_sum):
            known = [
                tcp_packet(4, bytes(100), sequence=1000 + 100 * number, ident=ident + number)
                for number in range(2)
            ]
            step = (100 << 64) + (1 << 240) - (1 << 192)
            flown_over = (int.from_bytes(known[1][:36], "big") + step).to_bytes(36, "big")
            last = with_right_checksums(flown_over + known[1][36:])
            last = flown_over[:20] + last[20:]
            merged = merge_segments([*known, last], HEADER)
            self.assertEqual(merged[1:], [bytes(10) + last], hex(ident))

    def test_a_later_segment_of_another_length_than_it_says_is_not_merged(self) -> None:
        packets = self.segments(4, 4)
        for last in (packets[3] + b"\0\0", packets[3][:-2]):
            merged = merge_segments([*packets[:3], last], HEADER)
            self.assertEqual(merged[1:], [bytes(10) + last])

    def test_nothing_overtakes_an_acknowledgement_of_its_flow(self) -> None:
        first, second = self.segments(4, 2)
        self.assert_untouched([first, tcp_packet(4, b"", sequence=1100, ident=6), second])

    def test_other_options_later_in_a_flow_are_not_merged(self) -> None:
        for version in (4, 6):
            packets = self.segments(version, 5)
            other = TIMESTAMPS[:-1] + b"\xff"
            packets[3] = tcp_packet(
                version, packets[3][-100:], sequence=1300, ident=8, options=other
            )
            merged = merge_segments(packets, HEADER)
            self.assertEqual(merged[1:], [bytes(10) + each for each in packets[3:]])

    def test_padding_behind_the_packet_is_not_merged(self) -> None:
        for version in (4, 6):
            packets = self.segments(version, 2)
            self.assert_untouched([packets[0], packets[1] + b"\0"])
            short = tcp_packet(version, bytes(50), sequence=1100, ident=6)
            # The sum of the padding makes up for that of the longer length
            self.assert_untouched([packets[0], short + b"\xff\xfd"])

    def test_fragments_are_not_merged(self) -> None:
        for fragment in (0x2000, 0x0001, 0x0100):
            packets = [
                tcp_packet(4, bytes(80), sequence=1000 + 80 * n, ident=5 + n, fragment=fragment)
                for n in range(2)
            ]
            self.assert_untouched(packets)

    def test_no_super_packet_exceeds_what_a_length_can_say(self) -> None:
        payload = bytes(1400)
        packets = [
            tcp_packet(4, payload, sequence=1400 * number, ident=number) for number in range(100)
        ]
        merged = merge_segments(packets, HEADER)
        self.assertEqual(len(merged), 3)
        self.assertLessEqual(max(map(len, merged)), HEADER + 65535)
        self.assertEqual(split_super_packets(merged, HEADER), packets)

    def test_without_a_header_packets_are_frames(self) -> None:
        packets = self.segments()
        self.assertEqual(merge_segments(packets, 0), packets)


class InterleavedFlowTests(TestCase):
    """Each packet keeps its place within its flow."""

    @settings(max_examples=100)
    @given(picks=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("dddddafrh"))))
    def test_the_order_within_a_flow_is_kept(self, picks: list[tuple[int, str]]) -> None:
        next_sequence, next_ident = [0, 0, 0], [0, 0, 0]
        packets: list[bytes] = []
        for flow, what in picks:
            version = 6 if flow == 2 else 4
            payload = b"" if what == "a" else bytes((len(packets) % 256,)) * 8
            flags = ACK | PSH if what == "f" else ACK
            if what == "r":
                next_sequence[flow] += 5
            packet = tcp_packet(
                version,
                payload,
                sequence=next_sequence[flow],
                ident=next_ident[flow],
                ports=(6000 + flow, 80),
                flags=flags,
                options=b"" if what == "h" else TIMESTAMPS,
            )
            next_sequence[flow] += len(payload)
            next_ident[flow] += 1
            packets.append(packet)
        again = split_super_packets(merge_segments(packets, HEADER), HEADER)
        for flow in range(3):
            ports = struct.pack("!HH", 6000 + flow, 80)
            self.assertEqual(
                [each for each in again if transport(each)[:4] == ports],
                [each for each in packets if transport(each)[:4] == ports],
            )

    def test_two_interleaved_flows_make_two_super_packets(self) -> None:
        packets = [
            tcp_packet(4, bytes(100), sequence=1000 + 100 * n, ident=n, ports=(6000 + flow, 80))
            for n in range(5)
            for flow in range(2)
        ]
        self.assertEqual(len(merge_segments(packets, HEADER)), 2)

    def test_a_damaged_segment_costs_its_own_flow_alone(self) -> None:
        for damaged_flow in range(2):
            packets = [
                tcp_packet(4, bytes(100), sequence=1000 + 100 * n, ident=n, ports=(6000 + flow, 80))
                for n in range(5)
                for flow in range(2)
            ]
            place = 4 + damaged_flow
            packets[place] = packets[place][:-1] + b"\1"
            frames = merge_segments(packets, HEADER)
            self.assertEqual(len(frames), 5 + 1)
            again = split_super_packets(frames, HEADER)
            self.assertEqual(sorted(again), sorted(packets))

    def test_nothing_is_moved_past_a_packet_whose_flow_is_unknown(self) -> None:
        first, last = (
            tcp_packet(4, bytes(10), sequence=1000 + 10 * n, ident=5 + n) for n in range(2)
        )
        with_options = b"\x46" + first[1:20] + b"\x94\x04\0\0" + first[20:]
        extended = tcp_packet(6, bytes(10))
        extended = extended[:6] + b"\0" + extended[7:40] + b"\x06\0\x01\x04\0\0\0\0" + extended[40:]
        for between in (with_options, extended):
            packets = [first, between, last]
            self.assertEqual(
                merge_segments(packets, HEADER), [bytes(10) + each for each in packets]
            )

    def test_an_acknowledgement_is_not_overtaken(self) -> None:
        first, last = (tcp_packet(6, bytes(10), sequence=1000 + 10 * n) for n in range(2))
        packets = [first, tcp_packet(6, b"", sequence=1010), last]
        self.assertEqual(merge_segments(packets, HEADER), [bytes(10) + each for each in packets])

    def test_other_protocols_do_not_end_a_super_packet(self) -> None:
        first, last = (
            tcp_packet(4, bytes(10), sequence=1000 + 10 * n, ident=5 + n) for n in range(2)
        )
        datagram = split_super_packets([udp_super_packet(4, bytes(9), 20)], HEADER)[0]
        self.assertEqual(len(merge_segments([first, datagram, last], HEADER)), 2)


class ChecksumTests(TestCase):
    """The sums against the definition."""

    @settings(max_examples=100)
    @given(data=st.binary(max_size=200), times=st.integers(0, 30))
    def test_the_sum_is_the_words_sum(self, data: bytes, times: int) -> None:
        data *= times
        self.assertEqual(word_sum(data) % 65535, naive_sum(data) % 65535)

    def test_a_whole_super_packet_can_be_summed(self) -> None:
        data = bytes(range(256)) * 255 + bytes(range(200))
        self.assertEqual(word_sum(data), naive_sum(data) % 65535)

    @settings(max_examples=100)
    @given(
        data=st.binary(min_size=1, max_size=900),
        segment_bytes=st.integers(1, 300),
        skipped_bytes=st.integers(0, 60),
    )
    def test_numpy_and_plain_python_agree(
        self, data: bytes, segment_bytes: int, skipped_bytes: int
    ) -> None:
        segment_bytes += skipped_bytes
        numpy_segment_sums = load_numpy_segment_sums()
        assert numpy_segment_sums is not None, "the tests need numpy"
        self.assertEqual(
            [each % 65535 for each in numpy_segment_sums(data, segment_bytes, skipped_bytes)],
            plain_segment_sums(data, segment_bytes, skipped_bytes),
        )

    def test_without_numpy_the_segments_are_the_same(self) -> None:
        frame = super_packet(4, bytes(index % 251 for index in range(20000)), 1351)
        with_numpy = split_super_packets([frame], HEADER)
        with patch.object(checksums, "_numpy_segment_sums", None):
            without = split_super_packets([frame], HEADER)
            self.assertEqual(merge_segments(without, HEADER), merge_segments(with_numpy, HEADER))
        self.assertEqual(without, with_numpy)

    def test_a_machine_without_numpy_is_served(self) -> None:
        with patch.dict("sys.modules", {"numpy": None}):
            self.assertIsNone(load_numpy_segment_sums())
