"""What every packet engine must do."""

from __future__ import annotations

import os
from ipaddress import IPv4Network

from zope.interface.verify import verifyObject

from anyvpn.interfaces import IPacketEngine
from anyvpn.model.channels import ChannelName, PeerPath
from anyvpn.testing.inner_client import (
    CSTP,
    DATA,
    DTLS,
    MTU_BYTES,
    InnerClient,
    RecordingObserver,
)
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet, ipv6_packet
from anyvpn.testing.memory_channels import MemoryCSTPStream
from anyvpn.testing.packet_engine_channels import PacketEngineChannelsContract
from anyvpn.testing.packet_filter_contract import PacketFilterContract
from anyvpn.wire.cstp import PacketKind, frame_data, frame_packet

# Ours
MOST_WAITING_PACKETS = 1024
"""More than any engine lets wait for one congested channel."""


class PacketEngineContract(PacketEngineChannelsContract, PacketFilterContract):
    """Mix it into a TestCase and fill the hooks in."""

    # --- what goes where ------------------------------------------------------------------------

    def test_it_keeps_to_the_interface(self) -> None:
        self.assertTrue(verifyObject(IPacketEngine, self.engine))

    def test_each_packet_travels_in_a_frame_of_its_own(self) -> None:
        client = self.client()
        packets = [client.packet_from(text=b"%d" % number) for number in range(20)]
        self.send_from_kernel(packets)
        self.assertEqual(client.frames(), [(DATA, packet) for packet in packets])

    def test_each_packet_travels_in_a_record_of_its_own(self) -> None:
        client = self.client(dtls=True)
        packets = [client.packet_from(text=b"%d" % number) for number in range(20)]
        self.send_from_kernel(packets)
        self.assertEqual(self.payloads_to(client), [b"\0" + packet for packet in packets])
        self.assertEqual(client.frames(), [])

    def test_packets_find_their_client_by_either_address(self) -> None:
        one, other = self.client(7), self.client(8)
        ipv6 = ipv6_packet(bytes(16), other.lease.addresses[1].packed, b"six")
        mixed = [one.packet_from(), other.packet_from(), ipv6, one.packet_from(text=b"again")]
        self.send_from_kernel(mixed)
        self.assertEqual([packet for _, packet in one.frames()], [mixed[0], mixed[3]])
        self.assertEqual([packet for _, packet in other.frames()], [mixed[1], ipv6])

    def test_packets_find_the_longest_network_behind_a_client(self) -> None:
        wide, narrow = InnerClient(7, self.engine), InnerClient(8, self.engine)
        wide.attach([IPv4Network("10.5.0.0/16")])
        narrow.attach([IPv4Network("10.5.6.0/24")])
        to_wide = ipv4_packet(ANYWHERE, bytes((10, 5, 7, 1)), b"wide")
        to_narrow = ipv4_packet(ANYWHERE, bytes((10, 5, 6, 1)), b"narrow")
        self.send_from_kernel([to_wide, to_narrow])
        self.assertEqual(wide.frames(), [(DATA, to_wide)])
        self.assertEqual(narrow.frames(), [(DATA, to_narrow)])

    def test_packets_for_nobody_and_garbage_go_nowhere(self) -> None:
        client = self.client()
        garbage = [
            b"",
            b"\x45",
            b"\x60" + bytes(10),
            os.urandom(40),
            ipv4_packet(ANYWHERE, b"none"),
        ]
        self.send_from_kernel([*garbage, client.packet_from()])
        self.assertEqual(client.frames(), [(DATA, client.packet_from())])

    def test_packets_from_a_client_reach_the_kernel_over_both_channels(self) -> None:
        client = self.client(dtls=True)
        packets = [client.packet_to(text=b"%d" % number) for number in range(20)]
        client.stream.feed(b"".join(frame_data(packets)))
        self.assertEqual(self.packets_to_kernel(), packets)
        self.send_records(client, packets)
        self.assertEqual(self.packets_to_kernel(), packets)

    def test_a_frame_may_come_in_pieces(self) -> None:
        client = self.client()
        (frame,) = frame_data([client.packet_to()])
        for byte in frame:
            client.stream.feed(bytes((byte,)))
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()])

    def test_clients_talk_to_each_other_directly(self) -> None:
        one, other = self.client(7), self.client(8, dtls=True)
        packet = one.packet_to(other.ipv4)
        one.stream.feed(b"".join(frame_data([packet, one.packet_to()])))
        self.assertEqual(self.payloads_to(other), [b"\0" + packet])
        self.assertEqual(self.packets_to_kernel(), [one.packet_to()])

    # --- who may send what ----------------------------------------------------------------------

    def test_a_spoofed_source_is_dropped_and_counted(self) -> None:
        client, victim = self.client(7), self.client(8)
        spoofed = [
            ipv4_packet(victim.ipv4, ANYWHERE),
            ipv4_packet(ANYWHERE, victim.ipv4),
            ipv6_packet(victim.lease.addresses[1].packed, bytes(15) + b"\1"),
        ]
        client.stream.feed(b"".join(frame_data([*spoofed, client.packet_to()])))
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()])
        self.assertEqual(victim.frames(), [])
        self.assertEqual(self.engine.counters(client.number).dropped_spoofed, 3)
        self.assertEqual(self.engine.counters(client.number).received_packets, 1)

    def test_a_network_behind_the_client_may_send(self) -> None:
        client = InnerClient(7, self.engine)
        client.attach([IPv4Network("10.5.0.0/16")])
        inside = ipv4_packet(bytes((10, 5, 6, 7)), ANYWHERE)
        outside = ipv4_packet(bytes((10, 6, 6, 7)), ANYWHERE)
        client.stream.feed(b"".join(frame_data([inside, outside])))
        self.assertEqual(self.packets_to_kernel(), [inside])
        self.assertEqual(self.engine.counters(7).dropped_spoofed, 1)

    def test_what_is_no_packet_is_dropped_and_counted(self) -> None:
        client = self.client(dtls=True)
        own = client.packet_to()
        self.send_records(client, [b"", b"E", own[:19], b"\x60" + own[1:], b"\x50" + own[1:], own])
        self.assertEqual(self.packets_to_kernel(), [own])
        self.assertEqual(self.engine.counters(7).dropped_malformed, 5)

    def test_a_broken_frame_ends_its_own_stream_only(self) -> None:
        broken, other = self.client(7), self.client(8)
        broken.stream.feed(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(broken.stream.aborted)
        self.assertIsNone(self.engine.activity(7, CSTP))
        other.stream.feed(b"".join(frame_data([other.packet_to()])))
        self.assertEqual(self.packets_to_kernel(), [other.packet_to()])

    def test_a_forged_or_repeated_record_is_dropped(self) -> None:
        client = self.client(dtls=True)
        records = self.send_records(client, [client.packet_to()])
        self.packets_to_kernel()
        forged = bytearray(client.sealer.seal_packets(DATA, [client.packet_to()])[0])
        forged[-1] ^= 1
        self.send_datagrams(client.path, [*records, bytes(forged)])
        self.assertEqual(self.packets_to_kernel(), [])
        self.assertEqual(self.engine.counters(7).dropped_malformed, 2)

    def test_a_record_too_short_for_nonce_and_tag_is_dropped(self) -> None:
        client = self.client(dtls=True)
        good = client.sealer.seal_packets(DATA, [client.packet_to()])[0]
        # Each is whole by what it says of its length
        short = [good[:11] + size.to_bytes(2, "big") + good[13 : 13 + size] for size in range(24)]
        self.send_datagrams(client.path, [*short, good])
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()])
        self.assertEqual(self.engine.counters(7).dropped_malformed, len(short))

    def test_a_record_without_a_kind_is_counted(self) -> None:
        client = self.client(dtls=True)
        self.send_datagrams(client.path, [client.sealer.seal(b"")])
        self.assertEqual(self.engine.counters(7).dropped_malformed, 1)

    def test_ten_thousand_garbage_datagrams_leave_a_channel_undisturbed(self) -> None:
        client = self.client(dtls=True)
        head = b"\x17\xfe\xfd\0\1" + bytes(4)
        for number in range(100):
            stranger = PeerPath(0, ("192.0.2.1" if number % 2 else "198.51.100.9", 1000 + number))
            noise = [os.urandom(number + 1) for _ in range(50)]
            alike = [head + os.urandom(2) + b"\0\x40" + os.urandom(64) for _ in range(50)]
            self.send_datagrams(stranger, noise + alike)
            self.assertEqual(self.datagrams_to(stranger), [])
        self.send_datagrams(client.path, [os.urandom(60) for _ in range(100)])
        self.assertEqual(client.observer.moves, [])
        self.send_records(client, [client.packet_to()])
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()])
        self.send_from_kernel([client.packet_from()])
        self.assertEqual(self.payloads_to(client), [b"\0" + client.packet_from()])

    # --- control packets ------------------------------------------------------------------------

    def test_a_dpd_request_is_answered_whole_on_its_own_channel(self) -> None:
        client = self.client(dtls=True)
        probe = os.urandom(1434)
        client.stream.feed(frame_packet(PacketKind.DPD_REQUEST, b"over TLS"))
        self.send_records(client, [probe], PacketKind.DPD_REQUEST)
        self.assertEqual(client.frames(), [(PacketKind.DPD_RESPONSE, b"over TLS")])
        self.assertEqual(self.payloads_to(client), [b"\4" + probe])
        self.assertEqual(client.observer.controls, [])

    def test_keepalives_and_answers_are_seen_in_the_activity_alone(self) -> None:
        client = self.client(dtls=True)
        before = self.engine.activity(7, DTLS)
        self.pass_time(5)
        for kind in (PacketKind.KEEPALIVE, PacketKind.DPD_RESPONSE):
            self.send_records(client, [b""], kind)
            client.stream.feed(frame_packet(kind, b""))
        after = self.engine.activity(7, DTLS)
        assert before is not None and after is not None
        self.assertEqual(after.received_at_s, before.received_at_s + 5)
        self.assertEqual(after.sent_at_s, before.sent_at_s)
        self.assertEqual(client.observer.controls, [])
        self.assertEqual(client.frames(), [])

    def test_all_other_kinds_go_up(self) -> None:
        client = self.client(dtls=True)
        kinds = (PacketKind.DISCONNECT, PacketKind.COMPRESSED, PacketKind.TERMINATE, 77)
        for kind in kinds:
            client.stream.feed(frame_packet(kind, b"text"))
            self.send_records(client, [b"text"], kind)
        expected = [(name, kind, b"text") for kind in kinds for name in (CSTP, DTLS)]
        self.assertEqual(client.observer.controls, expected)

    def test_control_is_sent_on_the_channel_asked_for(self) -> None:
        client = self.client(dtls=True)
        self.pass_time(3)
        self.engine.send_control(7, DTLS, PacketKind.DPD_REQUEST, b"ping")
        self.engine.send_control(7, CSTP, PacketKind.DISCONNECT, b"")
        self.assertEqual(self.payloads_to(client), [b"\3ping"])
        self.assertEqual(client.frames(), [(PacketKind.DISCONNECT, b"")])
        activity = self.engine.activity(7, DTLS)
        assert activity is not None
        self.assertEqual(activity.probed_at_s, activity.sent_at_s)

    def test_a_tunnel_may_be_detached_in_the_middle_of_a_batch(self) -> None:
        client = self.client(dtls=True)

        class Detacher(RecordingObserver):
            def control_received(self, name: ChannelName, kind: int, payload: bytes) -> None:
                super().control_received(name, kind, payload)
                engine.detach(7)

        engine = self.engine
        client.observer = Detacher()
        client.attach()
        client.open_dtls()
        goodbye = frame_packet(PacketKind.DISCONNECT, b"\xb0")
        client.stream.feed(goodbye + goodbye + frame_data([client.packet_to()])[0])
        self.assertEqual(len(client.observer.controls), 1)
        self.send_records(client, [client.packet_to()])
        self.send_from_kernel([client.packet_from()])
        self.assertEqual(client.frames(), [])
        self.assertEqual(self.datagrams_to(client.path), [])

    # --- limits ---------------------------------------------------------------------------------

    def test_a_congested_client_loses_packets_and_others_do_not(self) -> None:
        slow, other = InnerClient(7, self.engine), self.client(8)
        slow.stream = MemoryCSTPStream(capacity=1)
        slow.attach()
        sent = MOST_WAITING_PACKETS * 2
        for number in range(sent):
            text = b"%d" % number
            self.send_from_kernel([slow.packet_from(text=text), other.packet_from(text=text)])
        self.assertEqual(len(other.frames()), sent)
        dropped = self.engine.counters(7).dropped_queue_full
        self.assertGreaterEqual(dropped, sent - MOST_WAITING_PACKETS - 1)
        slow.stream.take_more(sent)
        received = slow.frames()
        self.assertEqual(len(received), sent - dropped)
        first = [(DATA, slow.packet_from(text=b"%d" % number)) for number in range(len(received))]
        self.assertEqual(received, first)

    def test_control_waits_for_a_congested_stream(self) -> None:
        client = InnerClient(7, self.engine)
        client.stream = MemoryCSTPStream(capacity=0)
        client.attach()
        self.send_from_kernel([client.packet_from()])
        self.engine.send_control(7, CSTP, PacketKind.DPD_REQUEST, b"")
        client.stream.take_more(10)
        expected = [(PacketKind.DPD_REQUEST, b""), (DATA, client.packet_from())]
        self.assertEqual(client.frames(), expected)

    def test_too_long_a_packet_comes_in_fragments_where_it_may(self) -> None:
        client = self.client()
        self.send_from_kernel([ipv4_packet(ANYWHERE, client.ipv4, bytes(1600), flags=0)])
        sizes = [len(packet) for _, packet in client.frames()]
        self.assertEqual(len(sizes), 2)
        self.assertLessEqual(max(sizes), MTU_BYTES)

    def test_too_long_a_packet_is_answered_where_it_may_not(self) -> None:
        client = self.client()
        self.send_from_kernel([client.packet_from(text=bytes(1600)), client.packet_from()])
        self.assertEqual(client.frames(), [(DATA, client.packet_from())])
        (answer,) = self.packets_to_kernel()
        self.assertEqual((answer[12:16], answer[16:20]), (client.ipv4, ANYWHERE))
        self.assertEqual(answer[20:22], b"\3\4")
        self.assertEqual(int.from_bytes(answer[26:28], "big"), MTU_BYTES)

    # --- what it says of itself -----------------------------------------------------------------

    def test_counters_count_both_ways_over_all_channels(self) -> None:
        client = self.client()
        packet_in, packet_out = client.packet_to(text=b"in"), client.packet_from(text=b"going out")
        client.stream.feed(b"".join(frame_data([packet_in])))
        self.send_from_kernel([packet_out])
        client.open_dtls()
        self.pass_time(9)
        before = self.engine.counters(7)
        self.send_records(client, [packet_in])
        self.send_from_kernel([packet_out])
        counters = self.engine.counters(7)
        self.assertEqual((counters.received_packets, counters.sent_packets), (2, 2))
        self.assertEqual(counters.received_bytes, 2 * len(packet_in))
        self.assertEqual(counters.sent_bytes, 2 * len(packet_out))
        self.assertEqual(counters.data_at_s, before.data_at_s + 9)

    def test_control_does_not_count_as_data(self) -> None:
        client = self.client(dtls=True)
        before = self.engine.counters(7)
        self.pass_time(9)
        self.send_records(client, [b""], PacketKind.DPD_REQUEST)
        client.stream.feed(frame_packet(PacketKind.KEEPALIVE, b""))
        self.assertEqual(self.engine.counters(7), before)

    def test_a_tunnel_that_is_attached_again_begins_anew(self) -> None:
        first = self.client(7, dtls=True)
        second = InnerClient(7, self.engine)
        second.lease = InnerClient(9, self.engine).lease
        second.attach()
        self.send_from_kernel([first.packet_from(), second.packet_from()])
        self.assertEqual(second.frames(), [(DATA, second.packet_from())])
        self.assertEqual((first.frames(), self.datagrams_to(first.path)), ([], []))
        self.send_records(first, [first.packet_to(), second.packet_to()])
        self.assertEqual(self.packets_to_kernel(), [])
        self.assertEqual(self.engine.counters(7).received_packets, 0)

    def test_a_tunnel_that_is_not_there_does_no_harm(self) -> None:
        self.engine.detach(99)
        self.engine.send_control(99, CSTP, PacketKind.DISCONNECT, b"")
        self.engine.replace_channel(99, CSTP, MemoryCSTPStream())
        self.assertIsNone(self.engine.activity(99, CSTP))
        self.assertEqual(self.engine.counters(99).sent_packets, 0)

    def test_a_session_that_comes_back_keeps_its_address_when_the_old_tunnel_goes(self) -> None:
        old = self.client(7)
        new = InnerClient(8, self.engine)
        new.lease = old.lease
        new.attach()
        self.engine.detach(7)
        self.send_from_kernel([new.packet_from()])
        self.assertEqual(new.frames(), [(DATA, new.packet_from())])
        self.assertEqual(old.frames(), [])
