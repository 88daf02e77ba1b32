from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedPacket, PacketTooLong
from anyvpn.wire.cstp import (
    GOODBYE_BY_USER,
    LONGEST_GOODBYE_CHARACTERS,
    LONGEST_RECEIVED_BYTES,
    LONGEST_SENT_BYTES,
    FrameReader,
    Goodbye,
    PacketKind,
    data_and_others,
    frame_data,
    frame_packet,
    read_goodbye,
    write_goodbye,
)
from tests.wire.captured_tunnels import CASES, read_tunnel

frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=80)), max_size=8)


def joined(packets: list[tuple[int, bytes]]) -> bytes:
    return b"".join(frame_packet(kind, payload) for kind, payload in packets)


class FramePacketTests:
    def test_header_is_what_the_reference_draws(self) -> None:
        assert frame_packet(PacketKind.DPD_REQUEST, b"") == bytes.fromhex("5354460100000300")
        assert frame_packet(PacketKind.DATA, b"ab") == bytes.fromhex("53544601000200006162")

    def test_longest_frame_is_one_tls_record(self) -> None:
        assert len(frame_packet(0, bytes(LONGEST_SENT_BYTES))) == 16384
        assert len(frame_data([bytes(LONGEST_SENT_BYTES)])[0]) == 16384

    @pytest.mark.parametrize("length", [LONGEST_SENT_BYTES + 1, 65536])
    def test_more_than_a_record_is_refused(self, length: int) -> None:
        with pytest.raises(PacketTooLong):
            frame_packet(0, bytes(length))
        for _ in range(2):
            with pytest.raises(PacketTooLong):
                frame_data([b"x", bytes(length)])

    @given(st.lists(st.binary(max_size=100), max_size=10))
    def test_data_frames_are_those_of_single_packets(self, packets: list[bytes]) -> None:
        assert frame_data(packets) == [frame_packet(PacketKind.DATA, each) for each in packets]


class FrameReaderTests:
    @given(frames, st.data())
    def test_frames_come_back_however_they_are_cut(
        self, packets: list[tuple[int, bytes]], data: st.DataObject
    ) -> None:
        stream = joined(packets)
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10).map(sorted))
        reader = FrameReader()
        received = []
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            received += reader.receive(stream[begin:end])
        assert received == packets

    def test_each_truncation_waits_for_the_rest(self) -> None:
        stream = joined([(3, b""), (0, b"packet"), (7, b"")])
        whole = FrameReader().receive(stream)
        for cut in range(len(stream)):
            reader = FrameReader()
            first = reader.receive(stream[:cut])
            assert first == whole[: len(first)]
            assert len(first) < len(whole)
            assert first + reader.receive(stream[cut:]) == whole

    def test_one_byte_at_a_time_is_enough(self) -> None:
        packets = [(0, b"x" * 300), (9, b"")]
        reader = FrameReader()
        received = [each for byte in joined(packets) for each in reader.receive(bytes([byte]))]
        assert received == packets

    def test_unknown_kinds_are_given_to_the_caller(self) -> None:
        assert FrameReader().receive(frame_packet(200, b"?")) == [(200, b"?")]

    def test_longest_payload_is_accepted_from_a_peer_with_two_records(self) -> None:
        payload = bytes(LONGEST_RECEIVED_BYTES)
        stream = b"STF\x01\x40\x00\x00\x00" + payload
        assert FrameReader().receive(stream) == [(0, payload)]

    @pytest.mark.parametrize(
        "header",
        [
            "5354460200000300",  # version 2
            "4745542f20485454",  # GET / HTT
            "5354460100000301",  # byte 7
            "5354460140010000",  # 16385 bytes
            "53544601ffff0000",
        ],
    )
    @pytest.mark.parametrize("cut", [0, 1, 4, 5, 7])
    @pytest.mark.parametrize("good", [b"", frame_packet(0, b"good")])
    def test_malformed_frame_ends_the_stream(self, header: str, cut: int, good: bytes) -> None:
        reader = FrameReader()
        bad = bytes.fromhex(header)
        with pytest.raises(MalformedPacket):
            for part in (good + bad[:cut], bad[cut:]):
                reader.receive(part)
        for _ in range(2):
            with pytest.raises(MalformedPacket):
                reader.receive(frame_packet(0, b"after"))

    def test_wrong_magic_is_refused_before_the_header_is_whole(self) -> None:
        reader = FrameReader()
        with pytest.raises(MalformedPacket):
            reader.receive(b"SX")

    def test_unfinished_frame_is_all_that_is_held(self) -> None:
        reader = FrameReader()
        unfinished = frame_packet(0, bytes(LONGEST_SENT_BYTES))[:-1]
        for _ in range(50):
            reader.receive(unfinished)
            assert len(reader._rest) <= 8 + LONGEST_RECEIVED_BYTES
            assert reader.receive(b"\x00") == [(0, bytes(LONGEST_SENT_BYTES))]
            assert not reader._rest

    @settings(max_examples=200)
    @given(st.lists(st.binary(max_size=40) | st.just(frame_packet(0, b"ok")), max_size=8))
    def test_no_input_raises_anything_else(self, parts: list[bytes]) -> None:
        reader = FrameReader()
        for part in parts:
            try:
                reader.receive(part)
            except MalformedPacket:
                break

    @pytest.mark.parametrize("case", CASES)
    def test_captured_records_hold_one_frame_each(self, case: str) -> None:
        for _, record in read_tunnel(case).frames:
            [(kind, payload)] = FrameReader().receive(record)
            assert frame_packet(kind, payload) == record
            assert kind in set(PacketKind)

    def test_captured_records_are_read_in_one_piece_too(self) -> None:
        records = [record for case in CASES for _, record in read_tunnel(case).frames]
        assert len(FrameReader().receive(b"".join(records))) == len(records) > 40


class DataAndOthersTests:
    def test_data_is_told_from_other_kinds_in_order(self) -> None:
        frames = [(0, b"a"), (3, b"probe"), (0, b"b"), (9, b""), (0, b"")]
        assert data_and_others(frames) == ([b"a", b"b", b""], [(3, b"probe"), (9, b"")])
        assert data_and_others(frames[:1]) == ([b"a"], [])
        assert data_and_others(()) == ([], [])


class GoodbyeTests:
    def test_captured_goodbyes_say_who_ended_it(self) -> None:
        found = {
            (sender, read_goodbye(frame[8:]))
            for case in CASES
            for sender, frame in read_tunnel(case).frames
            if frame[6] == PacketKind.DISCONNECT
        }
        assert found == {
            ("client", Goodbye(GOODBYE_BY_USER, "Aborted by caller")),
            ("client", Goodbye(GOODBYE_BY_USER, "Server request")),
            ("gateway", Goodbye()),
        }

    @pytest.mark.parametrize(
        ("payload", "ends"), [(b"", False), (b"\xb0", True), (b"\xb0bye", True), (b"\xb1", False)]
    )
    def test_only_the_users_own_ends_the_session(self, payload: bytes, ends: bool) -> None:
        assert read_goodbye(payload).ends_session is ends

    @given(
        st.integers(0, 255),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
    )
    def test_goodbye_survives_the_wire(self, reason: int, text: str) -> None:
        goodbye = Goodbye(reason, text)
        assert read_goodbye(write_goodbye(goodbye)) == goodbye
        assert write_goodbye(Goodbye()) == b""

    @given(st.binary(max_size=600))
    def test_any_payload_gives_a_short_printable_text(self, payload: bytes) -> None:
        text = read_goodbye(payload).text
        assert len(text) <= LONGEST_GOODBYE_CHARACTERS
        assert text.isprintable()

    def test_controls_cannot_forge_a_log_line(self) -> None:
        assert read_goodbye(b"\xb0a\r\n\x1b[2Jb").text == "a???[2Jb"
        assert write_goodbye(Goodbye(0xB0, "a\nb\xe9")) == b"\xb0a?b?"

    def test_impossible_goodbyes_do_not_exist(self) -> None:
        with pytest.raises(ValueError, match="one byte"):
            Goodbye(256)
        with pytest.raises(ValueError, match="needs a reason"):
            Goodbye(None, "text")
