from __future__ import annotations

import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import CompressionError
from anyvpn.wire.compression import DTLS_ENCODINGS, ENCODINGS, compressor, expander
from anyvpn.wire.cstp import PacketKind
from anyvpn.wire.dtls_payload import split_payload
from tests.wire.captured_tunnels import read_tunnel

packets = st.lists(
    st.binary(max_size=60)
    | st.builds(bytes.__mul__, st.binary(min_size=1, max_size=20), st.integers(1, 30)),
    max_size=8,
)


def ip_length(packet: bytes) -> int:
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4])
    return 40 + int.from_bytes(packet[4:6])


class EncodingTests:
    def test_deflate_is_never_for_datagrams(self) -> None:
        assert ENCODINGS == ("oc-lz4", "lzs", "deflate")
        assert DTLS_ENCODINGS == ("oc-lz4", "lzs")

    @pytest.mark.parametrize("name", ["", "gzip", "LZS"])
    def test_unknown_names_are_our_own_mistake(self, name: str) -> None:
        with pytest.raises(ValueError, match="no such encoding"):
            compressor(name)
        with pytest.raises(ValueError, match="no such encoding"):
            expander(name)


@pytest.mark.parametrize("encoding", ENCODINGS)
class EachEncodingTests:
    @settings(max_examples=60)
    @given(packets=packets)
    def test_packets_survive_the_wire_in_order(self, encoding: str, packets: list[bytes]) -> None:
        sender, receiver = compressor(encoding), expander(encoding)
        for packet in packets:
            payload = sender.compress(packet)
            if payload is not None:
                assert receiver.expand(payload) == packet

    def test_longest_packet_survives_and_a_longer_one_is_left_alone(self, encoding: str) -> None:
        sender, receiver = compressor(encoding), expander(encoding)
        payload = sender.compress(bytes(16384))
        assert payload is not None
        assert receiver.expand(payload) == bytes(16384)
        assert sender.compress(bytes(16385)) is None

    def test_small_packets_are_left_alone(self, encoding: str) -> None:
        assert compressor(encoding).compress(bytes(39)) is None
        assert compressor(encoding).compress(bytes(40)) is not None

    def test_each_truncation_is_refused_or_shorter(self, encoding: str) -> None:
        packet = b"abcabcabcabcabcabc, and then something else" * 3
        payload = compressor(encoding).compress(packet)
        assert payload is not None
        for cut in range(len(payload)):
            try:
                assert expander(encoding).expand(payload[:cut]) != packet
            except CompressionError:
                continue

    @settings(max_examples=100)
    @given(payloads=st.lists(st.binary(max_size=80), max_size=4))
    def test_no_payload_raises_anything_else(self, encoding: str, payloads: list[bytes]) -> None:
        receiver = expander(encoding)
        for payload in payloads:
            try:
                assert len(receiver.expand(payload)) <= 16384
            except CompressionError:
                continue

    def test_nothing_is_no_packet(self, encoding: str) -> None:
        with pytest.raises(CompressionError):
            expander(encoding).expand(b"")


class StatelessEncodingTests:
    @pytest.mark.parametrize("encoding", DTLS_ENCODINGS)
    def test_what_does_not_shrink_goes_as_it_is(self, encoding: str) -> None:
        assert compressor(encoding).compress(os.urandom(1400)) is None

    @pytest.mark.parametrize("encoding", DTLS_ENCODINGS)
    def test_malformed_payload_spoils_no_later_one(self, encoding: str) -> None:
        receiver = expander(encoding)
        payload = compressor(encoding).compress(bytes(100))
        assert payload is not None
        with pytest.raises(CompressionError):
            receiver.expand(b"\xff\xff\xff")
        assert receiver.expand(payload) == bytes(100)

    @pytest.mark.parametrize(
        ("case", "encoding"), [("13_compression_lz4", "oc-lz4"), ("13b_compression_lzs", "lzs")]
    )
    def test_captured_frames_hold_whole_packets(self, case: str, encoding: str) -> None:
        payloads = [frame[8:] for frame in read_tunnel(case).frames_of(PacketKind.COMPRESSED)]
        assert payloads
        for payload in payloads:
            packet = expander(encoding).expand(payload)
            assert len(packet) == ip_length(packet)

    def test_captured_datagrams_hold_whole_packets(self) -> None:
        split = [
            split_payload(each) for _, each in read_tunnel("13c_compression_dtls_lz4").payloads
        ]
        payloads = [packet for kind, packet in split if kind == PacketKind.COMPRESSED]
        assert payloads
        for payload in payloads:
            packet = expander("oc-lz4").expand(payload)
            assert len(packet) == ip_length(packet)

    def test_lz4_bomb_is_refused(self) -> None:
        bomb = b"\x1fa\x01\x00" + b"\xff" * 16000 + b"\x00\x50aaaaa"
        with pytest.raises(CompressionError):
            expander("oc-lz4").expand(bomb)


class DeflateTests:
    def test_later_packets_build_on_earlier_ones(self) -> None:
        sender, receiver = compressor("deflate"), expander("deflate")
        packet = os.urandom(500)
        first, second = sender.compress(packet), sender.compress(packet)
        assert first is not None
        assert second is not None
        assert len(second) < 30 < len(first)
        assert receiver.expand(first) == receiver.expand(second) == packet
        with pytest.raises(CompressionError):
            expander("deflate").expand(second)

    def test_packet_is_raw_deflate_of_a_small_window_with_a_checksum_of_all(self) -> None:
        sender = compressor("deflate")
        payloads = [sender.compress(bytes([n]) * 100) for n in (1, 2)]
        stream = zlib.decompressobj(wbits=-12)
        out = b""
        for payload in payloads:
            assert payload is not None
            assert payload[:-4].endswith(b"\x00\x00\xff\xff")
            out += stream.decompress(payload[:-4])
            assert payload[-4:] == zlib.adler32(out).to_bytes(4)
        assert out == b"\x01" * 100 + b"\x02" * 100

    def test_wrong_checksum_breaks_the_channel_for_good(self) -> None:
        sender, receiver = compressor("deflate"), expander("deflate")
        payload = sender.compress(bytes(100))
        assert payload is not None
        with pytest.raises(CompressionError):
            receiver.expand(payload[:-1] + bytes([payload[-1] ^ 1]))
        following = sender.compress(bytes(100))
        assert following is not None
        with pytest.raises(CompressionError):
            receiver.expand(following)

    def test_bomb_is_refused(self) -> None:
        stream = zlib.compressobj(wbits=-12)
        body = stream.compress(bytes(10_000_000)) + stream.flush(zlib.Z_SYNC_FLUSH)
        with pytest.raises(CompressionError):
            expander("deflate").expand(body[:16384] + zlib.adler32(bytes(10_000_000)).to_bytes(4))
        packet = bytes(16385)
        stream = zlib.compressobj(wbits=-12)
        body = stream.compress(packet) + stream.flush(zlib.Z_SYNC_FLUSH)
        with pytest.raises(CompressionError):
            expander("deflate").expand(body + zlib.adler32(packet).to_bytes(4))

    def test_end_of_the_stream_is_refused(self) -> None:
        stream = zlib.compressobj(wbits=-12)
        body = stream.compress(bytes(100)) + stream.flush(zlib.Z_FINISH)
        with pytest.raises(CompressionError):
            expander("deflate").expand(body + zlib.adler32(bytes(100)).to_bytes(4))
