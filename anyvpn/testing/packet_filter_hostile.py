"""What filter rules make of packets that are made to confuse, and of random ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

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
from anyvpn.testing.filter_packets import (
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ROUTING,
    chain,
    extension,
    ip_packet,
    tcp,
    tcp_packet,
    udp,
)
from anyvpn.testing.filter_streams import random_packet, random_rules
from anyvpn.testing.inner_client import InnerClient, PacketEngineHooks
from anyvpn.testing.reference_filter import ReferenceFilter
from anyvpn.wire.cstp import frame_data

# Ours
SERVER = ip_address("10.1.2.3").packed
SERVER6 = ip_address("fd01::3").packed
ELSEWHERE = ip_address("10.2.2.3").packed
INSIDE, INSIDE6 = IPv4Network("10.1.0.0/16"), IPv6Network("fd01::/32")
HTTPS = FilterRule(True, protocol=TCP, network=INSIDE, ports=((443, 443),))
DNS = FilterRule(True, protocol=UDP, network=INSIDE, ports=((53, 53),))
STREAMS, PACKETS_PER_STREAM = 100, 120


class PacketFilterHostileContract(PacketEngineHooks):
    """A part of `PacketFilterContract`, with what its cases need."""

    def filtered(self, *rules: FilterRule, number: int = 7) -> InnerClient:
        """A client with these rules."""
        client = InnerClient(number, self.engine)
        client.attach((), rules)
        return client

    def up(self, client: InnerClient, *packets: bytes) -> list[bytes]:
        """Which of these packets of the client's reach the kernel."""
        client.stream.feed(b"".join(frame_data(packets)))
        return self.packets_to_kernel()

    def down(self, client: InnerClient, *packets: bytes) -> list[bytes]:
        """Which of these packets of the kernel's reach the client."""
        self.send_from_kernel(packets)
        return [packet for _, packet in client.frames()]

    def assert_pass(self, passed: Sequence[bytes], packets: Sequence[bytes]) -> None:
        """Compare, with texts that can be read."""
        self.assertEqual([each.hex() for each in passed], [each.hex() for each in packets])

    # --- packets that are made to confuse -------------------------------------------------------

    def test_later_fragments_follow_rules_without_ports(self) -> None:
        client = self.filtered(
            FilterRule(False, protocol=UDP, network=INSIDE, ports=((1, 52),)),
            DNS,
            FilterRule(False, protocol=UDP, network=IPv4Network("10.2.0.0/16")),
            FilterRule(True, protocol=UDP, ports=((53, 53),)),
        )
        whole = udp(4000, 53, bytes(24))
        first = ip_packet(client.ipv4, SERVER, UDP, whole[:16], more=True)
        closed = ip_packet(client.ipv4, SERVER, UDP, udp(4000, 52), more=True)
        later = ip_packet(client.ipv4, SERVER, UDP, whole[16:], offset=16)
        last6 = ip_packet(client.ipv6, SERVER6, UDP, bytes(8), offset=16)
        elsewhere = ip_packet(client.ipv4, ELSEWHERE, UDP, bytes(8), offset=16)
        other = ip_packet(client.ipv4, SERVER, TCP, bytes(8), offset=16)
        packets = [first, later, closed, elsewhere, other, last6]
        self.assert_pass(self.up(client, *packets), [first, later, last6])
        back = ip_packet(SERVER, client.ipv4, UDP, bytes(8), offset=1000)
        self.assert_pass(self.down(client, back), [back])

    def test_fragments_rewrite_no_flags(self) -> None:
        client = self.filtered(FilterRule(True, protocol=TCP))
        head = tcp(4000, 443)
        good = [
            ip_packet(client.ipv4, SERVER, TCP, head, more=True),
            ip_packet(client.ipv4, SERVER, TCP, bytes(12), offset=16),
            ip_packet(client.ipv6, SERVER6, TCP, bytes(12), offset=16),
        ]
        bad = [
            ip_packet(client.ipv4, SERVER, TCP, head[:8], more=True),
            ip_packet(client.ipv4, SERVER, TCP, head[8:], offset=8),
            ip_packet(client.ipv6, SERVER6, TCP, head[8:], offset=8),
            ip_packet(client.ipv6, SERVER6, TCP, head[:16], more=True),
        ]
        self.assert_pass(self.up(client, *bad, *good), good)

    def test_transport_headers_that_are_cut_off_never_pass(self) -> None:
        client = self.filtered(FilterRule(True, Direction.BOTH))
        lengths = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
        for protocol, size in lengths.items():
            for near, far in ((client.ipv4, SERVER), (client.ipv6, SERVER6)):
                with self.subTest(protocol=protocol, near=near):
                    cut = [ip_packet(near, far, protocol, bytes(each)) for each in range(size)]
                    whole = ip_packet(near, far, protocol, bytes(size))
                    self.assert_pass(self.up(client, *cut, whole), [whole])
                    cut = [ip_packet(far, near, protocol, bytes(each)) for each in range(size)]
                    whole = ip_packet(far, near, protocol, bytes(size))
                    self.assert_pass(self.down(client, *cut, whole), [whole])

    def test_a_short_packet_is_not_taken_for_a_long_one_before_it(self) -> None:
        client = self.filtered(HTTPS)
        whole = tcp_packet(client.ipv4, 4000, SERVER, 443)
        self.assert_pass(self.up(client, whole, whole[:39], whole[:24], whole), [whole] * 2)

    def test_extension_headers_are_walked_so_far(self) -> None:
        client = self.filtered(
            FilterRule(True, protocol=UDP, network=INSIDE6, ports=((53, 53),)),
            FilterRule(False, protocol=UDP),
            FilterRule(True, network=INSIDE6),
        )
        most = [HOP_BY_HOP, *(DESTINATION,) * (MOST_EXTENSIONS - 1)]
        good: list[bytes] = []
        bad: list[bytes] = []
        for kinds in ([DESTINATION], [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION], most):
            following, headers = chain(UDP, kinds)
            for port, packets in ((53, good), (54, bad)):
                packets.append(
                    ip_packet(client.ipv6, SERVER6, following, headers + udp(4000, port))
                )
        following, headers = chain(UDP, [*most, DESTINATION])
        bad += [
            ip_packet(client.ipv6, SERVER6, following, headers + udp(4000, 53)),
            ip_packet(client.ipv6, SERVER6, DESTINATION, extension(UDP)[:7]),
            ip_packet(client.ipv6, SERVER6, DESTINATION, extension(99, words=1)[:15]),
            ip_packet(client.ipv6, SERVER6, ROUTING, extension(UDP, data=b"\4\1") + udp(4000, 53)),
        ]
        good.append(ip_packet(client.ipv6, SERVER6, DESTINATION, extension(99, words=1)))
        self.assert_pass(self.up(client, *bad, *good), good)

    def test_source_routes_of_ipv4_never_pass(self) -> None:
        client = self.filtered(FilterRule(True, protocol=UDP))
        routed = bytes((1, 131, 7, 4)) + SERVER
        good = [
            ip_packet(client.ipv4, SERVER, UDP, udp(1, 2), options=each)
            for each in (bytes((148, 4, 0, 0)), bytes((1, 1, 1, 0)), b"\0" + routed[1:])
        ]
        bad = [
            ip_packet(client.ipv4, SERVER, UDP, udp(1, 2), options=each)
            for each in (routed, b"\x89" + routed[1:], bytes((148, 5, 0, 0)), bytes((1, 1, 1, 7)))
        ]
        self.assert_pass(self.up(client, *bad, *good), good)

    def test_ports_are_found_behind_options(self) -> None:
        client = self.filtered(DNS)
        options = bytes((148, 4, 0, 0))
        good, bad = (
            ip_packet(client.ipv4, SERVER, UDP, udp(4000, port), options=options)
            for port in (53, 54)
        )
        self.assert_pass(self.up(client, bad, good), [good])

    # --- anything -------------------------------------------------------------------------------

    def test_random_streams_are_judged_as_the_rules_say(self) -> None:
        for seed in range(STREAMS):
            self.judge_stream(random.Random(seed), f"stream {seed}")  # noqa: S311 - no secrets

    def judge_stream(self, rng: random.Random, name: str) -> None:
        """Send random packets both ways under random rules, and compare."""
        client = InnerClient(7, self.engine)
        rules = random_rules(rng)
        client.attach([IPv4Network("10.5.0.0/16")], rules)
        reference = ReferenceFilter(rules)
        now_s = 0.0
        nears = [client.ipv4, client.ipv6, bytes((10, 5, 0, 9))]
        for number in range(PACKETS_PER_STREAM):
            if rng.random() < 0.05:
                pause_s = rng.choice((1, 10 * ANSWER_TIME_S))
                self.pass_time(pause_s)
                now_s += pause_s
            from_client = rng.random() < 0.5
            packet = random_packet(rng, nears, from_client=from_client)
            expected = reference.passes(packet, now_s, from_client=from_client)
            passed = self.up(client, packet) if from_client else self.down(client, packet)
            self.assertEqual(
                bool(passed), expected, f"{name}, packet {number} {packet.hex()}, {rules}"
            )
        self.engine.detach(client.number)
