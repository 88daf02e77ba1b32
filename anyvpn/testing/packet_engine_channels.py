"""What every packet engine must do with a tunnel's two channels: which carries data, where to."""

from __future__ import annotations

from anyvpn.model.channels import PeerPath
from anyvpn.testing.inner_client import (
    CSTP,
    DATA,
    DTLS,
    InnerClient,
    PacketEngineHooks,
    RecordingObserver,
)
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.memory_channels import MemoryCSTPStream
from anyvpn.wire.cstp import PacketKind, frame_data, frame_packet


class PacketEngineChannelsContract(PacketEngineHooks):
    """A part of `PacketEngineContract`."""

    # --- which channel --------------------------------------------------------------------------

    def test_what_waited_for_cstp_goes_out_first_over_dtls(self) -> None:
        client = InnerClient(7, self.engine)
        client.stream = MemoryCSTPStream(capacity=2)
        client.attach()
        packets = [client.packet_from(text=b"%d" % number) for number in range(5)]
        self.send_from_kernel(packets)
        client.open_dtls()
        self.send_from_kernel([client.packet_from(text=b"later")])
        self.assertEqual([packet for _, packet in client.frames()], packets[:2])
        later = [*packets[2:], client.packet_from(text=b"later")]
        self.assertEqual(self.payloads_to(client), [b"\0" + packet for packet in later])

    def test_data_goes_back_to_cstp_when_dtls_is_taken_away(self) -> None:
        client = self.client(dtls=True)
        self.engine.replace_channel(7, DTLS, None)
        self.send_from_kernel([client.packet_from()])
        self.assertEqual(client.frames(), [(DATA, client.packet_from())])
        self.assertIsNone(self.engine.activity(7, DTLS))

    def test_data_on_cstp_quiets_dtls_until_a_record_authenticates(self) -> None:
        client = self.client(dtls=True)
        client.stream.feed(b"".join(frame_data([client.packet_to()])))
        self.send_from_kernel([client.packet_from(text=b"1")])
        self.assertEqual(client.frames(), [(DATA, client.packet_from(text=b"1"))])
        self.send_datagrams(client.path, [b"\x17\xfe\xfd\0\1" + bytes(6) + b"\0\x40" + bytes(64)])
        self.send_from_kernel([client.packet_from(text=b"2")])
        self.assertEqual(client.frames(), [(DATA, client.packet_from(text=b"2"))])
        self.send_records(client, [b""], PacketKind.KEEPALIVE)
        self.send_from_kernel([client.packet_from(text=b"3")])
        self.assertEqual(self.payloads_to(client), [b"\0" + client.packet_from(text=b"3")])

    def test_what_waited_for_cstp_goes_first_when_dtls_speaks_again(self) -> None:
        client = InnerClient(7, self.engine)
        client.stream = MemoryCSTPStream(capacity=1)
        client.attach()
        client.open_dtls()
        client.stream.feed(b"".join(frame_data([client.packet_to()])))
        packets = [client.packet_from(text=b"%d" % number) for number in range(4)]
        self.send_from_kernel(packets[:3])
        self.send_records(client, [b""], PacketKind.KEEPALIVE)
        self.send_from_kernel(packets[3:])
        self.assertEqual(client.frames(), [(DATA, packets[0])])
        self.assertEqual(self.payloads_to(client), [b"\0" + packet for packet in packets[1:]])

    def test_quiet_dtls_carries_data_where_there_is_nothing_else(self) -> None:
        client = self.client(dtls=True)
        client.stream.feed(b"".join(frame_data([client.packet_to()])))
        self.engine.replace_channel(7, CSTP, None)
        self.send_from_kernel([client.packet_from()])
        self.assertEqual(self.payloads_to(client), [b"\0" + client.packet_from()])

    def test_data_before_and_after_something_else_is_all_taken(self) -> None:
        client = self.client(dtls=True)
        packets = [client.packet_to(text=b"%d" % number) for number in range(6)]
        records = client.sealer.seal_packets(DATA, packets)
        self.send_datagrams(client.path, [*records[:3], b"\x15" + records[3][1:], *records[3:]])
        self.assertEqual(self.packets_to_kernel(), packets)

    def test_what_is_behind_a_record_stays_behind_it(self) -> None:
        """Records are opened where they stand, and what was judged there must not be moved over."""
        client = self.client(dtls=True)
        packet = client.packet_to(text=bytes(100))
        forged = ipv4_packet(ANYWHERE, ANYWHERE, b"from nobody").ljust(len(packet), b"!")
        for content_type in (20, 21, 22):
            (record,) = client.sealer.seal_packets(DATA, [packet])
            body = bytes(9) + forged
            head = bytes((content_type,)) + record[1:11] + len(body).to_bytes(2, "big")
            self.send_datagrams(client.path, [record + head + body + head + body])
            self.assertEqual(self.packets_to_kernel(), [packet])

    def test_a_congested_cstp_keeps_nothing_from_dtls(self) -> None:
        for encoding in ("", "lzs"):
            with self.subTest(encoding=encoding):
                client = InnerClient(7, self.engine)
                client.stream = MemoryCSTPStream(capacity=1)
                client.attach()
                self.send_from_kernel([client.packet_from()] * 3)
                client.open_dtls(encoding=encoding)
                self.assertEqual(len(self.datagrams_to(client.path)), 2)
                for _ in range(5):
                    self.send_from_kernel([client.packet_from()])
                    self.pass_time(1)
                self.assertEqual(len(self.datagrams_to(client.path)), 5)

    def test_control_on_cstp_does_not_quiet_dtls(self) -> None:
        client = self.client(dtls=True)
        client.stream.feed(frame_packet(PacketKind.DPD_REQUEST, b""))
        client.frames()
        self.send_from_kernel([client.packet_from()])
        self.assertEqual(client.frames(), [])

    def test_records_that_came_before_the_keys_are_opened(self) -> None:
        client = self.client()
        client.open_dtls(early_packets=[client.packet_to()])
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()])

    def test_each_channel_has_its_own_times(self) -> None:
        client = self.client(dtls=True)
        names = (CSTP, DTLS)
        before = [self.engine.activity(7, name) for name in names]
        self.pass_time(5)
        client.stream.feed(frame_packet(PacketKind.KEEPALIVE, b""))
        after = [self.engine.activity(7, name) for name in names]
        assert before[0] is not None and after[0] is not None
        self.assertEqual(after[0].received_at_s, before[0].received_at_s + 5)
        self.assertEqual(after[1], before[1])

    # --- moving ---------------------------------------------------------------------------------

    def test_a_record_that_authenticates_moves_the_channel(self) -> None:
        client, other = self.client(dtls=True), self.client(8, dtls=True)
        old, client.path = client.path, PeerPath(0, ("203.0.113.5", 999))
        self.send_records(client, [client.packet_to(text=b"%d" % number) for number in range(3)])
        self.assertEqual(len(self.packets_to_kernel()), 3)
        self.assertEqual(client.observer.moves, [client.path])
        self.send_from_kernel([client.packet_from(), other.packet_from()])
        self.assertEqual(self.payloads_to(client), [b"\0" + client.packet_from()])
        self.assertEqual(self.payloads_to(other), [b"\0" + other.packet_from()])
        self.assertEqual(self.datagrams_to(old), [])

    def test_nothing_is_taken_after_a_channel_is_removed_because_it_moved(self) -> None:
        engine = self.engine

        class Remover(RecordingObserver):
            def peer_moved(self, path: PeerPath) -> None:
                super().peer_moved(path)
                engine.replace_channel(7, DTLS, None)

        client = InnerClient(7, engine)
        client.observer = Remover()
        client.attach()
        client.open_dtls()
        client.path = PeerPath(0, ("203.0.113.5", 999))
        self.send_records(client, [client.packet_to()])
        self.assertEqual(client.observer.moves, [client.path])
        self.packets_to_kernel()  # an engine with threads tells it when it has taken the record
        self.send_records(client, [client.packet_to()])
        self.assertEqual(self.packets_to_kernel(), [])

    def test_a_forged_or_repeated_record_moves_nothing(self) -> None:
        client = self.client(dtls=True)
        records = self.send_records(client, [client.packet_to()])
        (forged,) = client.sealer.seal_packets(DATA, [client.packet_to()])
        thief = PeerPath(0, ("192.0.2.1", 4444))
        self.packets_to_kernel()
        self.send_datagrams(thief, [*records, forged[:-1] + bytes((forged[-1] ^ 1,))])
        self.assertEqual(client.observer.moves, [])
        self.assertEqual(self.packets_to_kernel(), [])
        self.send_from_kernel([client.packet_from()])
        self.assertEqual(len(self.payloads_to(client)), 1)

    def test_a_late_record_from_the_old_address_moves_nothing_back(self) -> None:
        client = self.client(dtls=True)
        old, new = client.path, PeerPath(0, ("203.0.113.5", 999))
        late, first, second = client.sealer.seal_packets(DATA, [client.packet_to()] * 3)
        self.send_datagrams(new, [first])
        self.send_datagrams(old, [late])
        self.assertEqual(len(self.packets_to_kernel()), 2)
        self.assertEqual(client.observer.moves, [new])
        self.send_datagrams(old, [second])
        self.assertEqual(client.observer.moves, [new, old])
