"""The channels of a tunnel: what they send in which order, and when they last did something."""

from __future__ import annotations

import os
from dataclasses import replace
from unittest import TestCase

from anyvpn.dtls.records import RecordOpener, RecordSealer
from anyvpn.model.channels import DirectionKeys, DTLSChannel, PeerPath, RecordKeys, Suite
from anyvpn.packets.channels import LiveCSTPChannel, LiveDTLSChannel
from anyvpn.testing.memory_channels import MemoryCSTPStream, MemoryDatagrams
from anyvpn.wire.compression import expander
from anyvpn.wire.cstp import FrameReader, PacketKind

SUITE = Suite("PSK-AES256-GCM-SHA384", 0x00A9, "AES-256-GCM", "sha384", 32, 4)
PATH = PeerPath(0, ("192.0.2.1", 40_000))
DATA, COMPRESSED = int(PacketKind.DATA), int(PacketKind.COMPRESSED)
DPD_REQUEST, KEEPALIVE = int(PacketKind.DPD_REQUEST), int(PacketKind.KEEPALIVE)


def frames_in(stream: MemoryCSTPStream) -> list[tuple[int, bytes]]:
    """What the stream has taken."""
    return FrameReader().receive(b"".join(stream.frames))


class LiveCSTPChannelTests(TestCase):
    def setUp(self) -> None:
        self.stream = MemoryCSTPStream()
        self.channel = LiveCSTPChannel(self.stream, 10.0)

    def test_times_are_those_of_what_was_taken(self) -> None:
        self.channel.send_data([b"packet"], 11.0)
        self.assertEqual(self.channel.activity().sent_at_s, 11.0)
        self.channel.send_control(KEEPALIVE, b"", 12.0)
        self.assertEqual(self.channel.activity().sent_at_s, 12.0)
        self.assertEqual(self.channel.activity().probed_at_s, 0.0)
        self.channel.send_control(DPD_REQUEST, b"", 13.0)
        self.assertEqual(self.channel.activity().probed_at_s, 13.0)
        self.assertEqual(self.channel.activity().received_at_s, 10.0)

    def test_what_is_not_taken_was_not_sent(self) -> None:
        self.stream.take_more(0)
        self.assertEqual(self.channel.send_data([b"packet"], 11.0), 0)
        self.channel.send_control(KEEPALIVE, b"", 12.0)
        self.assertEqual(self.channel.activity().sent_at_s, 10.0)

    def test_data_does_not_overtake_control_that_waits(self) -> None:
        self.stream.take_more(0)
        self.channel.send_control(KEEPALIVE, b"", 12.0)
        self.stream.take_more(9)
        self.assertEqual(self.channel.send_data([b"packet"], 13.0), 0)
        self.channel.send_waiting_frames(14.0)
        self.assertEqual(self.channel.send_data([b"packet"], 15.0), 1)
        self.assertEqual(frames_in(self.stream), [(KEEPALIVE, b""), (DATA, b"packet")])

    def test_a_compressed_batch_waits_whole_and_the_next_one_is_refused(self) -> None:
        self.stream.encoding = "deflate"
        channel = LiveCSTPChannel(self.stream, 10.0)
        self.stream.take_more(1)
        packets = [b"%d" % number * 100 for number in range(5)]
        self.assertEqual(channel.send_data(packets, 11.0), 5)
        self.assertEqual(channel.send_data(packets, 12.0), 0)
        self.stream.take_more(9)
        channel.send_waiting_frames(13.0)
        expanding = expander("deflate")
        frames = frames_in(self.stream)
        self.assertEqual([kind for kind, _ in frames], [COMPRESSED] * 5)
        self.assertEqual([expanding.expand(payload) for _, payload in frames], packets)

    def test_a_goodbye_waits_for_nothing(self) -> None:
        stream = MemoryCSTPStream(capacity=0)
        channel = LiveCSTPChannel(stream, 10.0)
        channel.send_control(DPD_REQUEST, b"", 11.0)
        channel.send_control(PacketKind.DISCONNECT, b"", 12.0)
        self.assertEqual(frames_in(stream), [(PacketKind.DISCONNECT, b"")])


class LiveDTLSChannelTests(TestCase):
    def setUp(self) -> None:
        ours, theirs = (DirectionKeys(os.urandom(32), os.urandom(4)) for _ in range(2))
        keys = RecordKeys(b"\xfe\xfd", SUITE, ours, theirs, 1, 0)
        mirrored = replace(keys, write=theirs, read=ours)
        self.sealer, self.opener = RecordSealer(mirrored), RecordOpener(mirrored)
        self.datagrams = MemoryDatagrams()
        self.channel = LiveDTLSChannel(7, DTLSChannel(keys, PATH), self.datagrams, 10.0)

    def test_times_are_those_of_the_last_batch(self) -> None:
        self.channel.send_data([b"packet"], 11.0)
        self.assertEqual(self.channel.activity().sent_at_s, 11.0)
        self.channel.send_control(KEEPALIVE, b"", 12.0)
        self.assertEqual(self.channel.activity().sent_at_s, 12.0)
        self.assertEqual(self.channel.activity().probed_at_s, 0.0)
        self.channel.send_control(DPD_REQUEST, b"", 13.0)
        self.assertEqual(self.channel.activity().probed_at_s, 13.0)
        sent = self.opener.open_records(self.datagrams.take_sent(PATH))
        self.assertEqual(sent, [b"\0packet", b"\7", b"\3"])

    def test_only_one_data_record_of_the_epoch_is_a_whole_record(self) -> None:
        record = self.sealer.seal(b"text")
        self.assertTrue(self.channel.holds_whole_record(record))
        for other in (
            b"",
            record[:12],
            record[:-1],
            record + b"\0",
            record + self.sealer.seal(b"more"),
            b"\x16" + record[1:],
            record[:3] + b"\0\2" + record[5:],
            record[:1] + b"\xfe\xff" + record[3:],
        ):
            self.assertFalse(self.channel.holds_whole_record(other))
