"""What one packet engine does with any packets, the other does too."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.dtls.records import RecordOpener, RecordSealer
from anyvpn.model.channels import DirectionKeys, RecordKeys, Suite
from anyvpn.packets._compiled import DATAGRAM, MOVED, Core
from anyvpn.packets.offload import merge_segments, split_super_packets
from anyvpn.packets.routing import Routes
from anyvpn.testing.inner_packets import ipv4_packet
from tests.packets.test_offload import ACK, CWR, ECE, FIN, PSH, SYN, URG, super_packet, tcp_packet

HEADER = 10
LONGEST = 65535
INSIDE = bytes((10, 0, 0, 1))
PATH = (0, 2, bytes((192, 0, 2, 1)), 1000, 0, 0, b"")
SUITES = (
    Suite("PSK-AES128-GCM-SHA256", 0x00A8, "AES-128-GCM", "sha256", 16, 4),
    Suite("PSK-AES256-GCM-SHA384", 0x00A9, "AES-256-GCM", "sha384", 32, 4),
)
payloads = st.integers(1, 9000).map(lambda size: bytes(at * 7 & 0xFF for at in range(size)))
options = st.sampled_from([b"", b"\1\1\x08\x0a" + bytes(range(8)), bytes(40)])
versions = st.sampled_from([4, 6])


def random_keys(suite: Suite) -> tuple[RecordKeys, RecordKeys]:
    """Ours and the peer's."""
    ours, theirs = (DirectionKeys(os.urandom(suite.key_bytes), os.urandom(4)) for _ in range(2))
    keys = RecordKeys(b"\xfe\xfd", suite, ours, theirs, 1, 0)
    return keys, replace(keys, write=theirs, read=ours)


def core_with_tunnel(device_header: int, keys: RecordKeys) -> Core:
    """A core with one tunnel, to which everything goes and from which anything may come."""
    core = Core(True, device_header)
    core.attach(1, [(bytes(4), 0), (bytes(16), 0)], 0, LONGEST)
    ours, theirs = keys.write, keys.read
    write, read = (ours.key, ours.fixed_iv), (theirs.key, theirs.fixed_iv)
    core.set_dtls(1, PATH, (b"\xfe\xfd", 1, 0, *write, *read))
    return core


def cut_by_core(frames: list[bytes], header: int = HEADER) -> list[bytes]:
    """What the core sends of the device's frames, opened by Python."""
    keys, mirrored = random_keys(SUITES[1])
    core, opener = core_with_tunnel(header, keys), RecordOpener(mirrored)
    core.take_frames(frames)
    records = [record for _, _, datagrams in core.sent() for record in datagrams]
    return [payload[1:] for payload in opener.open_records(records)]


def merged_by_core(packets: list[bytes], header: int = HEADER) -> list[bytes]:
    """What the core writes of a client's packets."""
    core = core_with_tunnel(header, random_keys(SUITES[0])[0])
    core.take_packets(1, packets)
    return list(core.written())


def by_flow(packets: list[bytes]) -> dict[bytes, list[bytes]]:
    """Packets of each flow in their order; flows may change places."""
    flows: dict[bytes, list[bytes]] = {}
    for packet in packets:
        at = 20 if packet[0] >> 4 == 4 else 40
        flows.setdefault(packet[at : at + 4], []).append(packet)
    return flows


def is_routed(packet: bytes) -> bool:
    """Whether the core finds a destination in it: what has none goes nowhere."""
    version = packet[0] >> 4 if packet else 0
    return (version == 4 and len(packet) >= 20) or (version == 6 and len(packet) >= 40)


class SplitTests(TestCase):
    def assert_cut_alike(self, frames: list[bytes], header: int = HEADER) -> None:
        expected = [each for each in split_super_packets(frames, header) if is_routed(each)]
        self.assertEqual(cut_by_core(frames, header), expected)

    @settings(max_examples=60)
    @given(
        versions,
        payloads,
        st.integers(31, 1500),
        st.fixed_dictionaries(
            {
                "flags": st.sampled_from(
                    [ACK, ACK | FIN, ACK | PSH, ACK | CWR | ECE, ACK | URG, SYN]
                ),
                "sequence": st.integers(0, 2**32 - 1),
                "ident": st.integers(0, 65535),
            }
        ),
        options,
    )
    def test_super_packets_are_cut_to_the_same_bytes(
        self, version: int, payload: bytes, gso: int, fields: dict[str, int], some: bytes
    ) -> None:
        self.assert_cut_alike([super_packet(version, payload, gso, options=some, **fields)])

    @settings(max_examples=300)
    @given(
        st.tuples(
            st.sampled_from([0, 1, 2, 3]),
            st.sampled_from([0, 1, 3, 4, 5, 0x81, 0x84, 77]),
            st.integers(0, 65535),
            st.one_of(st.integers(0, 400), st.just(65535)),
            st.one_of(st.integers(0, 120), st.just(20), st.just(40), st.just(65535)),
            st.one_of(st.integers(0, 120), st.just(16), st.just(6), st.just(65535)),
        ),
        st.sampled_from([0x45, 0x46, 0x4F, 0x40, 0x60, 0x50]),
        st.sampled_from([6, 17, 0, 1]),
        st.binary(max_size=400),
    )
    def test_headers_that_lie_are_believed_alike(
        self, lies: tuple[int, ...], first: int, protocol: int, rest: bytes
    ) -> None:
        packet = bytearray(bytes((first,)) + rest)
        if len(packet) > 9:
            packet[6 if first == 0x60 else 9] = protocol
        self.assert_cut_alike([struct.pack("=BBHHHH", *lies) + bytes(packet)])

    def test_truncated_frames_are_cut_alike_at_each_byte(self) -> None:
        for version in (4, 6):
            frame = super_packet(version, bytes(range(200)), 50)
            for size in range(len(frame)):
                self.assert_cut_alike([frame[:size]])

    def test_the_wider_header_and_none_at_all(self) -> None:
        frame = super_packet(4, bytes(3000), 1000)
        self.assert_cut_alike([frame[:HEADER] + b"\0\0" + frame[HEADER:]], 12)
        self.assert_cut_alike([tcp_packet(6, b"whole")], 0)


class MergeTests(TestCase):
    @settings(max_examples=80)
    @given(
        versions,
        st.lists(
            st.tuples(
                st.sampled_from([100, 100, 100, 100, 60, 140, 0]),  # payload
                st.sampled_from([ACK] * 6 + [ACK | PSH, ACK | FIN, ACK | ECE, SYN, ACK | URG]),
                st.sampled_from([80] * 4 + [81]),  # port
                st.sampled_from(["good"] * 8 + ["damaged", "gap", "still", "other", "fragment"]),
            ),
            max_size=40,
        ),
    )
    def test_what_is_merged_is_the_same_frames(
        self, version: int, picks: list[tuple[int, int, int, str]]
    ) -> None:
        packets: list[bytes] = []
        sequences = {80: 2**32 - 900, 81: 5}
        ident = 65530
        for size, flags, port, what in picks:
            sequence = sequences[port] + (7 if what == "gap" else 0)
            ident += what != "still"
            made = bytearray(
                tcp_packet(
                    version, bytes(at & 0xFF for at in range(size)), sequence=sequence % 2**32,
                    flags=flags, ports=(5001, port), ident=ident % 65536,
                    fragment=0x2000 if what == "fragment" else 0x4000,
                )
            )  # fmt: skip
            if what == "damaged":
                made[-1] ^= 1
            sequences[port] = sequence + size
            packets.append(ipv4_packet(INSIDE, INSIDE, b"udp") if what == "other" else bytes(made))
        whats = {what for *_, what in picks}
        for header in (HEADER, 12, 0):
            frames = merged_by_core(packets, header)
            if "damaged" not in whats:
                self.assertEqual(frames, merge_segments(packets, header))
            elif "still" not in whats:  # ids that stood still count up in what is cut again
                # What follows a damaged segment may be merged or not
                self.assertEqual(by_flow(split_super_packets(frames, header)), by_flow(packets))

    def test_no_super_packet_is_longer_than_a_length_can_say(self) -> None:
        packets = [tcp_packet(4, bytes(1400), sequence=1400 * at, ident=at) for at in range(200)]
        frames = merged_by_core(packets)
        self.assertLess(max(map(len, frames)), LONGEST + HEADER + 1)
        self.assertEqual(split_super_packets(frames, HEADER), packets)
        self.assertEqual(cut_by_core(frames), packets)


class RecordTests(TestCase):
    def test_records_of_either_are_opened_by_the_other(self) -> None:
        for suite in SUITES:
            keys, mirrored = random_keys(suite)
            core = core_with_tunnel(0, keys)
            sealer, opener = RecordSealer(mirrored), RecordOpener(mirrored)
            packets = [ipv4_packet(INSIDE, INSIDE, bytes(size)) for size in range(0, 1400, 13)]
            core.take_datagrams(PATH, sealer.seal_packets(0, packets))
            self.assertEqual(core.written(), packets)
            core.send_packets(1, packets)
            records = [each for _, _, datagrams in core.sent() for each in datagrams]
            self.assertEqual(opener.open_records(records), [b"\0" + each for each in packets])

    @settings(max_examples=60)
    @given(st.lists(st.integers(0, 2600), max_size=60), st.integers(0, 3))
    def test_the_windows_take_and_refuse_the_same_records(
        self, numbers: list[int], scale: int
    ) -> None:
        keys, mirrored = random_keys(SUITES[0])
        core, opener = core_with_tunnel(0, keys), RecordOpener(keys)
        numbers = [number << (scale * 12) for number in numbers]
        for number in numbers:
            sealer = RecordSealer(replace(mirrored, write_sequence=number))
            packet = ipv4_packet(INSIDE, INSIDE, b"%d" % number)
            records = sealer.seal_packets(0, [packet])
            core.take_datagrams(PATH, records)
            expected = [each[1:] for each in opener.open_records(records)]
            self.assertEqual(core.written(), expected)

    def test_no_number_is_used_after_the_last(self) -> None:
        keys, mirrored = random_keys(SUITES[0])
        core = Core(True, 0)
        core.attach(1, [(INSIDE, 32)], 1, 1400)
        last = (1 << 48) - 2
        write, read = keys.write, keys.read
        native = (b"\xfe\xfd", 1, last, write.key, write.fixed_iv, read.key, read.fixed_iv)
        core.set_dtls(1, PATH, native)
        packets = [ipv4_packet(INSIDE, INSIDE, b"%d" % number) for number in range(5)]
        core.send_packets(1, packets)
        records = [each for _, _, datagrams in core.sent() for each in datagrams]
        opened = RecordOpener(mirrored).open_records(records)
        self.assertEqual(opened, [b"\0" + each for each in packets[:2]])


class PathTests(TestCase):
    @settings(max_examples=40)
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=40))
    def test_only_what_is_new_moves_a_channel(self, comings: list[tuple[int, int]]) -> None:
        keys, mirrored = random_keys(SUITES[0])
        core = core_with_tunnel(0, keys)
        core.set_time(1000)  # each second has its trials
        opened: set[int] = set()
        at = 0
        for port, number in comings:
            path = (*PATH[:3], PATH[3] + port, *PATH[4:])
            sealer = RecordSealer(replace(mirrored, write_sequence=number))
            core.take_datagrams(path, sealer.seal_packets(7, [b""]))
            if number > max(opened, default=-1):
                at = port
            opened.add(number)
            core.send_control(1, 1, 7, b"")
            ((_, where, _),) = core.sent()
            self.assertEqual(where[3], PATH[3] + at)
        self.assertLessEqual({event[0] for event in core.events()}, {MOVED, DATAGRAM})


class RouteTests(TestCase):
    @settings(max_examples=80)
    @given(
        st.lists(st.tuples(st.integers(0, 255), st.integers(0, 32)), max_size=8),
        st.lists(st.integers(0, 255), max_size=20),
    )
    def test_the_longest_network_wins_alike(
        self, networks: list[tuple[int, int]], destinations: list[int]
    ) -> None:
        core, routes = Core(True, 0), Routes[int]()
        for number, (last, prefix) in enumerate(networks, 1):
            network = IPv4Interface(f"10.0.0.{last}/{prefix}").network
            core.attach(number, [(network.network_address.packed, prefix)], 0, 1400)
            core.set_cstp(number, True, False)
            if prefix == 32:
                routes.add(number, [network.network_address], [])
            else:
                routes.add(number, [], [IPv4Network(network)])
        packets = [ipv4_packet(INSIDE, bytes((10, 0, 0, last))) for last in destinations]
        core.take_frames(packets)
        groups, elsewhere = routes.group_by_destination(packets)
        for number in range(1, len(networks) + 1):
            self.assertEqual(core.take_waiting(number, 100)[1], groups.get(number, []))
        self.assertEqual(core.totals()[0], len(elsewhere))
