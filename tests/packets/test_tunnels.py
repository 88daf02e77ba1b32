"""A tunnel: what it lets through, what waits, what is counted."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface
from unittest import TestCase

from anyvpn.model.tunnel_settings import Lease
from anyvpn.packets.channels import LiveCSTPChannel
from anyvpn.packets.tunnels import Tunnel
from anyvpn.testing.inner_client import RecordingObserver
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet, ipv6_packet
from anyvpn.testing.memory_channels import MemoryCSTPStream
from anyvpn.wire.compression import compressor, expander
from anyvpn.wire.cstp import FrameReader, PacketKind

LEASE = Lease(IPv4Interface("10.99.0.7/24"), IPv6Interface("fd00::7/64"))
IPV4, IPV6 = (each.packed for each in LEASE.addresses)
MTU_BYTES = 1400
NOW_S = 100.0


class TunnelCase(TestCase):
    def setUp(self) -> None:
        self.tunnel = Tunnel(7, LEASE, (), MTU_BYTES, RecordingObserver())
        self.stream = MemoryCSTPStream()
        self.tunnel.cstp = LiveCSTPChannel(self.stream, 0.0)

    def sent(self) -> list[bytes]:
        """The packets that the stream took."""
        frames = FrameReader().receive(b"".join(self.stream.frames))
        return [payload for _, payload in frames]


class SendTests(TunnelCase):
    def test_nothing_overtakes_what_waits(self) -> None:
        packets = [ipv4_packet(ANYWHERE, IPV4, b"%d" % number) for number in range(4)]
        self.stream.take_more(1)
        self.tunnel.send(packets[:3], NOW_S)
        self.stream.take_more(9)
        self.tunnel.send(packets[3:], NOW_S)
        self.tunnel.send_waiting(NOW_S)
        self.assertEqual(self.sent(), packets)

    def test_sending_is_data(self) -> None:
        self.tunnel.send([ipv4_packet(ANYWHERE, IPV4)], NOW_S)
        self.assertEqual(self.tunnel.counters().data_at_s, NOW_S)

    def test_what_cannot_fit_is_counted_and_is_no_data(self) -> None:
        too_long = ipv4_packet(ANYWHERE, IPV4, bytes(MTU_BYTES))
        from_nobody = ipv4_packet(bytes(4), IPV4, bytes(MTU_BYTES))
        self.assertEqual(len(self.tunnel.send([too_long, too_long], NOW_S)), 2)
        self.assertEqual(self.tunnel.counters().dropped_unroutable, 2)
        self.assertEqual(self.tunnel.send([from_nobody], NOW_S), [])
        self.assertEqual(self.tunnel.counters().dropped_unroutable, 3)
        self.assertEqual(self.tunnel.counters().data_at_s, 0.0)
        self.assertEqual(self.sent(), [])


class AcceptTests(TunnelCase):
    def test_receiving_is_data(self) -> None:
        packets = [ipv4_packet(IPV4, ANYWHERE), ipv6_packet(IPV6, bytes(15) + b"\1")]
        self.assertEqual(self.tunnel.accept(packets, NOW_S), packets)
        self.assertEqual(self.tunnel.counters().data_at_s, NOW_S)
        self.assertEqual(self.tunnel.counters().received_bytes, sum(map(len, packets)))

    def test_a_header_that_is_cut_off_is_no_packet(self) -> None:
        for packet, header_bytes in (
            (ipv4_packet(IPV4, ANYWHERE), 20),
            (ipv6_packet(IPV6, bytes(15) + b"\1"), 40),
        ):
            for size in range(header_bytes):
                self.assertEqual(self.tunnel.accept([packet[:size]], NOW_S), [])
        self.assertEqual(self.tunnel.counters().dropped_malformed, 60)

    def test_an_address_where_another_family_has_it_counts_for_nothing(self) -> None:
        wrong_version = b"\x65" + ipv4_packet(IPV4, ANYWHERE, bytes(20))[1:]
        self.assertEqual(self.tunnel.accept([wrong_version], NOW_S), [])
        self.assertEqual(self.tunnel.counters().data_at_s, 0.0)


class ExpandTests(TunnelCase):
    def test_frames_keep_their_order_and_their_kinds(self) -> None:
        packet = b"much of the same " * 30
        payload = compressor("lzs").compress(packet)
        assert payload is not None
        compressed = int(PacketKind.COMPRESSED)
        frames = [(0, b"1"), (compressed, payload), (7, b""), (compressed, b"\xff" * 9), (0, b"2")]
        expanded = self.tunnel.expand(frames, expander("lzs"))
        self.assertEqual(expanded, [(0, b"1"), (0, packet), (7, b""), (0, b"2")])
        self.assertEqual(self.tunnel.counters().dropped_malformed, 1)
