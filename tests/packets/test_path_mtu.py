"""Packets that do not fit a tunnel."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.packets.checksums import word_sum
from anyvpn.packets.path_mtu import Answer, Fragments, too_big

GATEWAY = IPv4Address("10.9.0.1")
GATEWAY_IPV6 = IPv6Address("fd00::1")
HOST = IPv4Address("192.0.2.7")
HOST_IPV6 = IPv6Address("2001:db8::7")


def ipv4_packet(
    payload: bytes,
    *,
    fragment: int = 0x4000,
    protocol: int = 17,
    source: str = "192.0.2.7",
    destination: str = "10.9.0.2",
    options: bytes = b"",
) -> bytes:
    header = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s",
            *(0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 77, fragment),
            *(64, protocol, 0, IPv4Address(source).packed, IPv4Address(destination).packed),
        )
        + options
    )
    header[10:12] = (-word_sum(bytes(header)) % 65535).to_bytes(2, "big")
    return bytes(header) + payload


def ipv6_packet(
    payload: bytes,
    *,
    following: int = 17,
    source: str = "2001:db8::7",
    destination: str = "fd00::2",
) -> bytes:
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return struct.pack("!IHBB", 0x60000000, len(payload), following, 64) + addresses + payload


def outcome(packet: bytes, mtu_bytes: int = 1300) -> Answer | Fragments | None:
    return too_big(packet, mtu_bytes, GATEWAY, GATEWAY_IPV6)


class IPv4AnswerTests(TestCase):
    """With DF, the sender is told."""

    def test_it_names_the_mtu_and_quotes_the_packet(self) -> None:
        packet = ipv4_packet(bytes(range(256)) * 6)
        answer = outcome(packet)
        assert isinstance(answer, Answer)
        message = answer.packet
        self.assertEqual(len(message), 576)
        self.assertEqual(message[:1] + message[9:10], b"\x45\x01")
        self.assertEqual(int.from_bytes(message[2:4], "big"), 576)
        self.assertEqual(message[12:16], GATEWAY.packed)
        self.assertEqual(message[16:20], HOST.packed)
        self.assertEqual(message[20:22], b"\x03\x04")
        self.assertEqual(message[24:28], struct.pack("!HH", 0, 1300))
        self.assertEqual(message[28:], packet[:548])
        self.assertEqual(word_sum(message[:20]), 0)
        self.assertEqual(word_sum(message[20:]), 0)

    def test_an_echo_request_is_answered(self) -> None:
        self.assertIsInstance(outcome(ipv4_packet(b"\x08" + bytes(1400), protocol=1)), Answer)

    def test_an_icmp_error_is_not(self) -> None:
        for kind in (3, 4, 5, 11, 12):
            packet = ipv4_packet(bytes((kind,)) + bytes(1400), protocol=1)
            self.assertIsNone(outcome(packet), kind)

    def test_a_later_fragment_is_not(self) -> None:
        self.assertIsNone(outcome(ipv4_packet(bytes(1400), fragment=0x4001)))

    def test_who_is_not_one_host_is_not(self) -> None:
        for source in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
            self.assertIsNone(outcome(ipv4_packet(bytes(1400), source=source)), source)
        for destination in ("224.0.0.251", "255.255.255.255"):
            packet = ipv4_packet(bytes(1400), destination=destination)
            self.assertIsNone(outcome(packet), destination)

    def test_without_an_address_of_ours_there_is_none(self) -> None:
        self.assertIsNone(too_big(ipv4_packet(bytes(1400)), 1300, None, GATEWAY_IPV6))


class FragmentTests(TestCase):
    """Without DF, IPv4 is cut."""

    @settings(max_examples=60)
    @given(
        size=st.integers(1, 6000),
        mtu_bytes=st.integers(68, 1500),
        place=st.integers(0, 100),
        more=st.booleans(),
    )
    def test_they_fit_and_make_up_the_packet(
        self, size: int, mtu_bytes: int, place: int, more: bool
    ) -> None:
        payload = bytes(index % 251 for index in range(size))
        packet = ipv4_packet(payload, fragment=place | more << 13)
        fragments = outcome(packet, mtu_bytes)
        assert isinstance(fragments, Fragments)
        together = b""
        for number, fragment in enumerate(fragments.packets):
            self.assertLessEqual(len(fragment), mtu_bytes)
            self.assertEqual(int.from_bytes(fragment[2:4], "big"), len(fragment))
            self.assertEqual(word_sum(fragment[:20]), 0)
            field = int.from_bytes(fragment[6:8], "big")
            self.assertEqual((field & 0x1FFF) * 8, place * 8 + len(together))
            is_last = number == len(fragments.packets) - 1
            self.assertEqual(bool(field & 0x2000), more or not is_last)
            self.assertEqual(fragment[4:6] + fragment[8:10], packet[4:6] + packet[8:10])
            together += fragment[20:]
        self.assertEqual(together, payload)

    def test_only_options_that_say_so_are_in_every_fragment(self) -> None:
        record_route = b"\x07\x07\x04\0\0\0\0"
        router_alert = b"\x94\x04\0\0"
        options = record_route + b"\x01" + router_alert
        fragments = outcome(ipv4_packet(bytes(1400), fragment=0, options=options), 800)
        assert isinstance(fragments, Fragments)
        first, second = fragments.packets
        self.assertEqual(first[20:32], options)
        self.assertEqual(second[0], 0x46)
        self.assertEqual(second[20:24], router_alert)
        self.assertEqual(word_sum(second[:24]), 0)

    def test_an_mtu_without_room_drops(self) -> None:
        self.assertIsNone(outcome(ipv4_packet(bytes(100), fragment=0), 27))

    def test_offsets_beyond_the_field_drop(self) -> None:
        self.assertIsNone(outcome(ipv4_packet(bytes(1400), fragment=0x1FFF), 600))


class IPv6AnswerTests(TestCase):
    """IPv6 is never cut on the way."""

    def test_it_names_the_mtu_and_quotes_the_packet(self) -> None:
        packet = ipv6_packet(bytes(range(250)) * 6)
        answer = outcome(packet, 1290)
        assert isinstance(answer, Answer)
        message = answer.packet
        self.assertEqual(len(message), 1280)
        self.assertEqual(int.from_bytes(message[4:6], "big"), 1240)
        self.assertEqual(message[6], 58)
        self.assertEqual(message[8:40], GATEWAY_IPV6.packed + HOST_IPV6.packed)
        self.assertEqual(message[40:42], b"\x02\0")
        self.assertEqual(message[44:48], struct.pack("!I", 1290))
        self.assertEqual(message[48:], packet[:1232])
        pseudo = message[8:40] + struct.pack("!II", 1240, 58)
        self.assertEqual(word_sum(pseudo + message[40:]), 0)

    def test_icmpv6_errors_are_not_answered_wherever_they_stand(self) -> None:
        error = b"\x01\0" + bytes(1400)
        self.assertIsNone(outcome(ipv6_packet(error, following=58)))
        self.assertIsNone(outcome(ipv6_packet(b"\x3a\0" + bytes(6) + error, following=0)))
        self.assertIsNone(outcome(ipv6_packet(b"\x3a\0\0\1" + bytes(4) + error, following=44)))
        later = b"\x3a\0\x01\0" + bytes(4) + b"\x80" + bytes(1400)
        self.assertIsNone(outcome(ipv6_packet(later, following=44)))
        self.assertIsNone(outcome(ipv6_packet(b"\x89" + bytes(1400), following=58)))

    def test_an_echo_request_is_answered(self) -> None:
        self.assertIsInstance(outcome(ipv6_packet(b"\x80" + bytes(1400), following=58)), Answer)

    def test_who_is_not_one_host_is_not(self) -> None:
        for source in ("::", "ff02::1"):
            self.assertIsNone(outcome(ipv6_packet(bytes(1400), source=source)), source)
        self.assertIsNone(outcome(ipv6_packet(bytes(1400), destination="ff02::1")))

    def test_without_an_address_of_ours_there_is_none(self) -> None:
        self.assertIsNone(too_big(ipv6_packet(bytes(1400)), 1300, GATEWAY, None))


class HostilePacketTests(TestCase):
    """Whatever a client sends, there is an outcome."""

    @settings(max_examples=150)
    @given(
        start=st.sampled_from((b"", b"\x45", b"\x4f", b"\x40", b"\x60", b"\x00")),
        rest=st.binary(max_size=120),
        mtu_bytes=st.integers(0, 200),
    )
    def test_random_bytes_never_raise(self, start: bytes, rest: bytes, mtu_bytes: int) -> None:
        outcome(start + rest, mtu_bytes)

    def test_truncated_packets_never_raise(self) -> None:
        packets = (
            ipv4_packet(bytes(30), options=b"\x94\x04\0\0"),
            ipv4_packet(bytes(30), fragment=0, options=b"\x94\xff\0\0"),
            ipv6_packet(b"\x3a\0" + bytes(30), following=0),
        )
        for packet in packets:
            for size in range(len(packet)):
                outcome(packet[:size], 40)

    def test_an_ipv4_length_that_lies_drops(self) -> None:
        self.assertIsNone(outcome(ipv4_packet(bytes(1400)) + b"\0"))
