"""The Python packet engine keeps the contract of all engines, and its own promises."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from unittest import TestCase
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from anyvpn.interfaces import IPacketEngine
from anyvpn.model.channels import DTLSChannel, PeerPath
from anyvpn.packets import engine as engine_module
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.packets.peers import TRIALS_PER_HOST_PER_S
from anyvpn.packets.tunnels import MOST_WAITING_PACKETS, MTU_ANSWERS_PER_S
from anyvpn.testing.inner_client import CSTP, DATA, DTLS, InnerClient, RecordingObserver
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet, ipv6_packet
from anyvpn.testing.memory_channels import MemoryCSTPStream, MemoryDatagrams
from anyvpn.testing.memory_tun import MemoryTun
from anyvpn.testing.packet_engine_contract import PacketEngineContract
from anyvpn.wire.compression import compressor
from anyvpn.wire.cstp import PacketKind, frame_data, frame_packet


class EngineHooks:
    """An engine between a device and datagrams in memory."""

    kind: type[PythonPacketEngine] = PythonPacketEngine

    def make_engine(self) -> IPacketEngine:
        self.clock = Clock()
        self.clock.advance(1000)
        self.device = MemoryTun()
        self.datagrams = MemoryDatagrams()
        self.running = self.kind(self.clock, self.device, self.datagrams)
        self.running.start()
        return self.running

    def send_from_kernel(self, packets: Sequence[bytes]) -> None:
        self.device.inject(packets)
        self.clock.advance(0)  # what is much comes in several turns

    def packets_to_kernel(self) -> list[bytes]:
        packets, self.device.written = self.device.written, []
        return packets

    def send_datagrams(self, path: PeerPath, datagrams: Sequence[bytes]) -> None:
        self.datagrams.feed(path, datagrams)

    def datagrams_to(self, path: PeerPath) -> list[bytes]:
        return self.datagrams.take_sent(path)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


class PythonPacketEngineContractTests(EngineHooks, PacketEngineContract, TestCase):
    """The contract."""


class PythonPacketEngineTests(EngineHooks, TestCase):
    def setUp(self) -> None:
        self.engine = self.make_engine()

    def client(self, number: int = 7, *, dtls: bool = False) -> InnerClient:
        client = InnerClient(number, self.engine)
        client.attach()
        if dtls:
            client.open_dtls()
        return client

    def test_nothing_is_taken_from_a_channel_that_is_removed_when_it_moves(self) -> None:
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
        records = client.sealer.seal_packets(DATA, [client.packet_to()] * 2)
        self.send_datagrams(client.path, records)
        self.assertEqual(client.observer.moves, [client.path])
        self.assertEqual(self.packets_to_kernel(), [])

    def test_nothing_moves_after_it_stopped(self) -> None:
        client = self.client(dtls=True)
        self.running.stop()
        self.running.stop()
        self.device.inject([client.packet_from()])
        self.datagrams.feed(client.path, client.sealer.seal_packets(DATA, [client.packet_to()]))
        client.stream.feed(frame_data([client.packet_to()])[0])
        self.assertEqual((self.packets_to_kernel(), client.frames()), ([], []))
        self.assertEqual(self.datagrams.handshakes, [])

    def test_a_super_packet_is_cut_for_the_tunnel(self) -> None:
        client = self.client(dtls=True)
        self.device.vnet_header_bytes = 10
        payload = bytes(range(256)) * 20
        tcp = struct.pack("!HHIIBBHHH", 80, 4000, 1, 2, 0x50, 0x10, 500, 0, 0) + payload
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 9, 0x4000, 64, 6, 0)
        packet = header + ANYWHERE + client.ipv4 + tcp
        self.device.inject([struct.pack("=BBHHHH", 1, 1, 40, 1300, 20, 16) + packet])
        payloads = client.opener.open_records(self.datagrams_to(client.path))
        self.assertEqual(b"".join(each[1 + 40 :] for each in payloads), payload)
        self.assertEqual(len(payloads), 4)
        # And merged again on the way back, which plain UDP packets are not
        self.datagrams.feed(client.path, client.sealer.seal_packets(DATA, [client.packet_to()]))
        self.assertEqual(self.packets_to_kernel(), [bytes(10) + client.packet_to()])

    def test_everything_but_data_goes_to_the_handshakes(self) -> None:
        client = self.client(dtls=True)
        hello = b"\x16\xfe\xff" + bytes(8) + b"\0\x05hello"
        alert = b"\x15\xfe\xfd\0\1" + bytes(6) + b"\0\x02zz"
        other_epoch = b"\x17\xfe\xfd\0\2" + bytes(6) + b"\0\x02zz"
        stranger = PeerPath(0, ("203.0.113.5", 999))
        self.datagrams.feed(stranger, [hello])
        self.datagrams.feed(client.path, [alert, other_epoch])
        expected = [(stranger, hello), (client.path, alert), (client.path, other_epoch)]
        self.assertEqual(self.datagrams.handshakes, expected)

    def test_a_fault_of_ours_costs_one_batch_from_the_device(self) -> None:
        client = self.client()
        with capturedLogs() as events, patch.object(engine_module, "split_super_packets") as split:
            split.side_effect = RuntimeError("a bug")
            self.device.inject([client.packet_from(text=b"lost")])
        self.assertEqual([event["device"] for event in events], ["memory0"])
        self.device.inject([client.packet_from()])
        self.assertEqual(client.frames(), [(DATA, client.packet_from())])

    def test_what_is_no_record_goes_nowhere(self) -> None:
        stranger = PeerPath(0, ("203.0.113.5", 999))
        self.datagrams.feed(stranger, [b"", b"hello", b"\x16\xfe\xff" + bytes(8) + b"\xff\xff"])
        self.assertEqual(self.datagrams.handshakes, [])

    def test_data_and_handshake_in_one_datagram_go_their_ways(self) -> None:
        client = self.client(dtls=True)
        records = client.sealer.seal_packets(DATA, [client.packet_to(), client.packet_to()])
        alert = b"\x15\xfe\xfd\0\1" + bytes(6) + b"\0\x02zz"
        self.datagrams.feed(client.path, [records[0] + alert + records[1]])
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()] * 2)
        self.assertEqual(self.datagrams.handshakes, [(client.path, alert)])

    def test_records_after_the_last_handshake_message_of_a_batch_find_the_new_channel(self) -> None:
        client = self.client()
        finished = b"\x16\xfe\xfd\0\1" + bytes(6) + b"\0\x02zz"

        def complete(path: PeerPath, datagram: bytes) -> None:
            if datagram == finished:
                self.engine.replace_channel(7, DTLS, self.channel)

        client.open_dtls()
        self.channel = self.last_channel(client)
        self.engine.replace_channel(7, DTLS, None)
        self.datagrams.on_handshake = complete
        data = client.sealer.seal_packets(DATA, [client.packet_to()])
        self.datagrams.feed(client.path, [finished, *data])
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()])

    def last_channel(self, client: InnerClient) -> DTLSChannel:
        """The channel value that `open_dtls` made, taken once more."""
        taken: list[DTLSChannel] = []
        engine = client._engine
        original = engine.replace_channel

        def keep(tunnel_id: int, name: object, channel: object) -> None:
            assert isinstance(channel, DTLSChannel)
            taken.append(channel)

        engine.replace_channel = keep
        client.open_dtls()
        engine.replace_channel = original
        return taken[0]

    def test_records_before_their_keys_go_to_the_handshake_that_waits_for_them(self) -> None:
        client = self.client()
        channel = self.last_channel(client)
        records = client.sealer.seal_packets(DATA, [client.packet_to()])
        self.datagrams.feed(client.path, records)
        self.assertEqual(self.datagrams.handshakes, [(client.path, records[0])])
        early = tuple(datagram for _, datagram in self.datagrams.handshakes)
        self.engine.replace_channel(7, DTLS, replace(channel, early_records=early))
        self.assertEqual(self.packets_to_kernel(), [client.packet_to()])

    def test_strangers_cost_a_bounded_number_of_trials(self) -> None:
        clients = [self.client(number, dtls=True) for number in range(1, 6)]
        opened = []
        for client in clients:
            channel = self.running._tunnels[client.number].dtls
            assert channel is not None
            opener = channel.opener
            opened.append(opener)
        record = b"\x17\xfe\xfd\0\1" + bytes(6) + b"\0\x40" + bytes(64)
        for host in ("192.0.2.1", "198.51.100.9"):
            self.datagrams.feed(PeerPath(0, (host, 5)), [record] * 1000)
        self.assertEqual(sum(opener.forged for opener in opened), 2 * TRIALS_PER_HOST_PER_S)
        self.clock.advance(1)
        moved = clients[-1]
        moved.path = PeerPath(0, ("203.0.113.77", 5))
        self.datagrams.feed(moved.path, moved.sealer.seal_packets(DATA, [moved.packet_to()]))
        self.assertEqual(moved.observer.moves, [moved.path])

    def test_records_without_keys_use_no_trial_up(self) -> None:
        client = self.client(dtls=True)
        client.path = PeerPath(0, ("203.0.113.77", 5))
        plain = b"\x17\xfe\xfd\0\0" + bytes(6) + b"\0\2zz"
        self.datagrams.feed(client.path, [plain] * 2 * TRIALS_PER_HOST_PER_S)
        self.datagrams.feed(client.path, client.sealer.seal_packets(DATA, [client.packet_to()]))
        self.assertEqual(client.observer.moves, [client.path])

    def test_more_channels_than_trials_are_found_in_turn(self) -> None:
        clients = [self.client(number, dtls=True) for number in range(1, 201)]
        moved = clients[-1]
        moved.path = PeerPath(0, ("203.0.113.77", 5))
        for _ in range(2):
            records = moved.sealer.seal_packets(DATA, [moved.packet_to()])
            self.datagrams.feed(moved.path, records)
            self.clock.advance(1)
        self.assertEqual(moved.observer.moves, [moved.path])

    def test_answers_about_the_mtu_are_limited_in_number(self) -> None:
        client = self.client()
        self.send_from_kernel([client.packet_from(text=bytes(1600))] * 300)
        self.assertEqual(len(self.packets_to_kernel()), MTU_ANSWERS_PER_S)
        self.clock.advance(1)
        self.device.inject([client.packet_from(text=bytes(1600))])
        self.assertEqual(len(self.packets_to_kernel()), 1)

    def test_an_answer_about_the_mtu_reaches_another_client(self) -> None:
        one, other = self.client(7), self.client(8)
        one.stream.feed(frame_data([one.packet_to(other.ipv4, bytes(1600))])[0])
        ((kind, answer),) = one.frames()
        self.assertEqual((kind, answer[16:20], answer[20:22]), (DATA, one.ipv4, b"\3\4"))
        self.assertEqual(self.packets_to_kernel(), [])

    def test_what_the_device_refuses_is_counted(self) -> None:
        client = self.client()
        self.device.refuse_writes = True
        client.stream.feed(b"".join(frame_data([client.packet_to()] * 3)))
        self.assertEqual(self.engine.counters(7).dropped_unroutable, 3)

    def test_a_super_packet_for_a_device_that_is_down_is_so_many_packets(self) -> None:
        client = self.client()
        self.device.refuse_writes = True
        with patch.object(engine_module, "merge_segments", lambda packets, *_, **__: packets[:1]):
            client.stream.feed(b"".join(frame_data([client.packet_to()] * 3)))
        self.assertEqual(self.engine.counters(7).dropped_unroutable, 3)

    def test_link_local_packets_are_no_attack(self) -> None:
        client = self.client()
        link_local = ipv6_packet(b"\xfe\x80" + bytes(13) + b"\1", b"\xff\2" + bytes(13) + b"\2")
        client.stream.feed(frame_data([link_local])[0])
        counters = self.engine.counters(7)
        self.assertEqual((counters.dropped_spoofed, counters.dropped_unroutable), (0, 1))
        self.assertEqual(self.packets_to_kernel(), [])

    def test_packets_without_an_owner_are_counted(self) -> None:
        self.device.inject([ipv4_packet(ANYWHERE, ANYWHERE)] * 4)
        self.assertEqual(self.running.totals().unroutable_packets, 4)

    def test_the_queue_of_a_congested_stream_has_its_bound(self) -> None:
        client = InnerClient(7, self.engine)
        client.stream = MemoryCSTPStream(capacity=0)
        client.attach()
        self.send_from_kernel([client.packet_from()] * 100)
        self.assertEqual(self.engine.counters(7).dropped_queue_full, 100 - MOST_WAITING_PACKETS)
        self.assertEqual(self.engine.counters(7).sent_packets, 0)

    def test_unlimited_probes_do_not_fill_the_memory(self) -> None:
        client = InnerClient(7, self.engine)
        client.stream = MemoryCSTPStream(capacity=0)
        client.attach()
        for _ in range(1000):
            client.stream.feed(frame_packet(PacketKind.DPD_REQUEST, bytes(16_000)))
        client.stream.take_more(1000)
        self.assertLessEqual(len(client.frames()), 16)

    def test_a_probe_too_long_to_answer_is_ignored(self) -> None:
        client = self.client()
        client.stream.feed(b"STF\1\x40\0\3\0" + bytes(16384))
        self.assertEqual((client.frames(), client.stream.aborted), ([], ""))

    def test_datagrams_that_the_kernel_does_not_take_are_counted(self) -> None:
        client = self.client(dtls=True)
        self.datagrams.capacity = 1
        self.device.inject([client.packet_from()] * 3)
        counters = self.engine.counters(7)
        self.assertEqual((counters.sent_packets, counters.dropped_queue_full), (1, 2))
        self.assertEqual(counters.sent_bytes, len(client.packet_from()))

    def test_compressed_packets_are_expanded_and_sent(self) -> None:
        for encoding in ("lzs", "deflate", "oc-lz4"):
            with self.subTest(encoding):
                client = InnerClient(7, self.engine)
                client.stream.encoding = encoding
                client.attach()
                packet = client.packet_to(text=b"much of the same " * 30)
                payload = compressor(encoding).compress(packet)
                assert payload is not None
                client.stream.feed(frame_packet(PacketKind.COMPRESSED, payload))
                self.assertEqual(self.packets_to_kernel(), [packet])
                client.stream.feed(frame_packet(PacketKind.COMPRESSED, b"\xff" * 20))
                self.assertEqual(self.engine.counters(7).dropped_malformed, 1)
                self.device.inject([client.packet_from(text=b"much of the same " * 30)])
                ((kind, sent),) = client.frames()
                self.assertEqual(kind, PacketKind.COMPRESSED)
                self.assertLess(len(sent), 200)

    def test_a_compressed_batch_loses_nothing_to_congestion(self) -> None:
        client = InnerClient(7, self.engine)
        client.stream = MemoryCSTPStream(capacity=1)
        client.stream.encoding = "deflate"
        client.attach()
        packets = [client.packet_from(text=b"%d" % number * 100) for number in range(5)]
        self.device.inject(packets)
        client.stream.take_more(100)
        self.assertEqual(len(client.frames()), 5)

    def test_compressed_and_plain_packets_keep_their_order(self) -> None:
        client = self.client()
        client.stream.encoding = "lzs"
        client.attach()
        channel = replace(self.last_channel(client), encoding="lzs")
        self.engine.replace_channel(7, DTLS, channel)
        packets = [client.packet_to(text=text) for text in (b"much " * 90, b"1", b"more " * 90)]
        kinds_and_payloads: list[tuple[int, bytes]] = []
        for packet in packets:
            payload = compressor("lzs").compress(packet)
            kind = DATA if payload is None else PacketKind.COMPRESSED
            kinds_and_payloads.append((kind, payload or packet))
        self.assertIn(DATA, [kind for kind, _ in kinds_and_payloads])
        client.stream.feed(b"".join(frame_packet(*each) for each in kinds_and_payloads))
        self.assertEqual(self.packets_to_kernel(), packets)
        records = [client.sealer.seal_packets(*(k, [p]))[0] for k, p in kinds_and_payloads]
        self.datagrams.feed(client.path, records)
        self.assertEqual(self.packets_to_kernel(), packets)

    def test_a_probe_on_a_compressed_channel_is_answered(self) -> None:
        client = self.client()
        channel = replace(self.last_channel(client), encoding="lzs")
        self.engine.replace_channel(7, DTLS, channel)
        records = client.sealer.seal_packets(PacketKind.DPD_REQUEST, [b"probe"])
        self.datagrams.feed(client.path, [*records, *client.sealer.seal_packets(DATA, [b""])])
        answers = client.opener.open_records(self.datagrams_to(client.path))
        self.assertEqual(answers, [b"\4probe"])
        self.assertEqual(self.engine.counters(7).dropped_malformed, 1)

    def test_dtls_compresses_too(self) -> None:
        client = self.client()
        channel = replace(self.last_channel(client), encoding="lzs")
        self.engine.replace_channel(7, DTLS, channel)
        packets = [client.packet_from(text=b"much of the same " * 30), client.packet_from()]
        self.device.inject(packets)
        kinds = [each[0] for each in client.opener.open_records(self.datagrams_to(client.path))]
        self.assertEqual(kinds, [PacketKind.COMPRESSED, DATA])

    def test_a_stream_that_fails_costs_its_own_tunnel_alone(self) -> None:
        class FailingStream(MemoryCSTPStream):
            def write_frames(self, frames: Sequence[bytes]) -> int:
                raise RuntimeError("closed")

        failing, other = InnerClient(7, self.engine), self.client(8)
        failing.stream = FailingStream()
        failing.attach()
        self.device.inject([failing.packet_from(), other.packet_from()])
        self.assertEqual(other.frames(), [(DATA, other.packet_from())])
        self.assertTrue(failing.stream.aborted)
        self.assertIsNone(self.engine.activity(7, CSTP))

    def test_an_observer_that_fails_costs_its_own_tunnel_alone(self) -> None:
        class FailingObserver(RecordingObserver):
            def control_received(self, name: object, kind: int, payload: bytes) -> None:
                raise RuntimeError("a bug")

        failing, other = InnerClient(7, self.engine), self.client(8)
        failing.observer = FailingObserver()
        failing.attach()
        failing.stream.feed(frame_packet(PacketKind.TERMINATE, b""))
        self.assertTrue(failing.stream.aborted)
        other.stream.feed(frame_data([other.packet_to()])[0])
        self.assertEqual(self.packets_to_kernel(), [other.packet_to()])

    def test_dtls_without_a_sequence_number_left_gives_way_to_cstp(self) -> None:
        client = self.client()
        channel = self.last_channel(client)
        keys = replace(channel.keys, write_sequence=2**48 - 1)
        self.engine.replace_channel(7, DTLS, replace(channel, keys=keys))
        self.device.inject([client.packet_from(text=b"%d" % number) for number in range(2)])
        self.device.inject([client.packet_from()])
        self.assertEqual(client.frames()[-1], (DATA, client.packet_from()))
        self.assertIsNone(self.engine.activity(7, DTLS))
