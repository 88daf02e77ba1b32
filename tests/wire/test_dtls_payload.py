from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.errors import MalformedPacket, PacketTooLong
from anyvpn.wire.cstp import PacketKind
from anyvpn.wire.dtls_payload import (
    LONGEST_PACKET_BYTES,
    join_payload,
    split_payload,
    split_payloads,
)
from tests.wire.captured_tunnels import CASES, read_tunnel


class PayloadTests:
    @given(st.integers(0, 255), st.binary(max_size=100))
    def test_packet_survives_the_wire(self, kind: int, packet: bytes) -> None:
        assert split_payload(join_payload(kind, packet)) == (kind, packet)

    def test_longest_packet_fills_a_record(self) -> None:
        assert len(join_payload(0, bytes(LONGEST_PACKET_BYTES))) == 16384
        with pytest.raises(PacketTooLong):
            join_payload(0, bytes(LONGEST_PACKET_BYTES + 1))

    @pytest.mark.parametrize("payload", [b"", bytes(16385)])
    def test_what_no_record_holds_is_refused(self, payload: bytes) -> None:
        with pytest.raises(MalformedPacket):
            split_payload(payload)

    def test_captured_payloads_are_of_known_kinds(self) -> None:
        payloads = [payload for case in CASES for _, payload in read_tunnel(case).payloads]
        kinds = {split_payload(payload)[0] for payload in payloads}
        assert kinds == {
            PacketKind.DATA,
            PacketKind.DPD_REQUEST,
            PacketKind.DPD_RESPONSE,
            PacketKind.KEEPALIVE,
            PacketKind.COMPRESSED,
        }
        for payload in payloads:
            assert join_payload(*split_payload(payload)) == payload


class SplitPayloadsTests:
    @given(st.lists(st.binary(max_size=4) | st.binary(max_size=3).map(lambda tail: b"\0" + tail)))
    def test_batch_is_sorted_as_its_payloads_are_one_by_one(self, payloads: list[bytes]) -> None:
        single = [split_payload(payload) for payload in payloads if payload]
        data, others, malformed = split_payloads(payloads)
        assert data == [packet for kind, packet in single if kind == PacketKind.DATA]
        assert others == [(kind, packet) for kind, packet in single if kind != PacketKind.DATA]
        assert malformed == payloads.count(b"")
