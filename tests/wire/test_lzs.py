from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import CompressionError
from anyvpn.wire.cstp import PacketKind
from anyvpn.wire.lzs import expand_lzs, shrink_lzs
from tests.wire.captured_tunnels import read_tunnel

repetitive = st.lists(
    st.sampled_from([b"a", b"abc", bytes(7), b"GET / HTTP/1.1\r\n", bytes(range(40))])
    | st.binary(min_size=1, max_size=5),
    max_size=60,
).map(b"".join)


def packed(*codes: str) -> bytes:
    bits = "".join(codes).replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


END = "110000000"
LITERAL_A = "0 01100001"


class ExpandLZSTests:
    def test_captured_packets_have_the_length_that_ip_says(self) -> None:
        payloads = [
            frame[8:]
            for frame in read_tunnel("13b_compression_lzs").frames_of(PacketKind.COMPRESSED)
        ]
        assert len(payloads) >= 4
        for payload in payloads:
            packet = expand_lzs(payload, 16384)
            assert packet[0] >> 4 == 6
            assert len(packet) == 40 + int.from_bytes(packet[4:6])

    @pytest.mark.parametrize(
        ("length", "code"),
        [
            (2, "00"),
            (3, "01"),
            (4, "10"),
            (5, "1100"),
            (6, "1101"),
            (7, "1110"),
            (8, "1111 0000"),
            (22, "1111 1110"),
            (23, "1111 1111 0000"),
            (37, "1111 1111 1110"),
            (38, "1111 1111 1111 0000"),
        ],
    )
    def test_each_length_code_means_what_the_reference_says(self, length: int, code: str) -> None:
        near = packed(LITERAL_A, "1 1 0000001", code, END)
        far = packed(LITERAL_A, "1 0 00000000001", code, END)
        assert expand_lzs(near, 100) == expand_lzs(far, 100) == b"a" * (1 + length)

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\x00",
            packed(LITERAL_A),
            packed(END)[:1],
            packed("1 1 0000001 00", END),  # refers to nothing
            packed(LITERAL_A, "1 1 0000010 00", END),
            packed(LITERAL_A, "1 0 00000000000 00", END),  # far end marker does not exist
            packed(LITERAL_A, "1 1 0000001 1111", "1111" * 100),
        ],
    )
    def test_malformed_packets_are_refused(self, payload: bytes) -> None:
        with pytest.raises(CompressionError):
            expand_lzs(payload, 16384)

    def test_output_is_limited_to_the_byte(self) -> None:
        for payload in (shrink_lzs(bytes(1000)), shrink_lzs(os.urandom(1000))):
            assert len(expand_lzs(payload, 1000)) == 1000
            with pytest.raises(CompressionError):
                expand_lzs(payload, 999)

    def test_bomb_is_refused_before_it_is_built(self) -> None:
        bomb = packed(LITERAL_A, "1 1 0000001 1111", "1111" * 30000, "0000", END)
        with pytest.raises(CompressionError):
            expand_lzs(bomb, 16384)

    def test_each_truncation_is_refused(self) -> None:
        payload = shrink_lzs(b"abcabcabcabcabcabc, and then something else" * 3)
        for cut in range(len(payload)):
            with pytest.raises(CompressionError):
                expand_lzs(payload[:cut], 16384)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_no_payload_raises_anything_else(self, payload: bytes) -> None:
        try:
            assert len(expand_lzs(payload, 300)) <= 300
        except CompressionError:
            return


class ShrinkLZSTests:
    @settings(max_examples=200)
    @given(repetitive | st.binary(max_size=300))
    def test_packet_survives_the_wire(self, packet: bytes) -> None:
        assert expand_lzs(shrink_lzs(packet), len(packet)) == packet

    def test_repetition_takes_little_room(self) -> None:
        assert len(shrink_lzs(bytes(1400))) < 60
        assert len(shrink_lzs(b"Accept: text/html\r\n" * 70)) < 100

    def test_matches_reach_back_2047_bytes_and_no_farther(self) -> None:
        word = bytes(range(200, 240))
        filler = b"".join(number.to_bytes(2) for number in range(2, 1030))
        near, far = filler[: 2047 - len(word)], filler[: 2048 - len(word)] + b"\xff"
        assert len(shrink_lzs(word + near + word)) < len(shrink_lzs(word + far + word)) - 20
        for middle in (near, far):
            packet = word + middle + word
            assert expand_lzs(shrink_lzs(packet), 16384) == packet
