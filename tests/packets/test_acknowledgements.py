"""Of acknowledgements in a row the last one goes on, by either engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest

from anyvpn.packets._compiled import Core
from anyvpn.packets.merging import merge_segments
from tests.packets.test_offload import tcp_packet

HEADER = bytes(10)
ACK, PSH, FIN, ECE = 0x10, 0x08, 0x01, 0x40
TIMESTAMPS = b"\1\1\x08\x0a"
SACK = b"\1\1\5\x0a" + bytes(8)

Merge = Callable[[Sequence[bytes], int], list[bytes]]


def merge_compiled(packets: Sequence[bytes], header_bytes: int) -> list[bytes]:
    """What the compiled engine writes to a device for packets of one client."""
    core = Core(True, header_bytes)
    core.attach(1, [(b"\x0a\0\0\1", 32)], 1, 1500)
    core.take_packets(1, list(packets), True)
    return core.written()


def acknowledgement(version: int, number: int, *, options: bytes = b"", **kwargs: Any) -> bytes:
    return tcp_packet(version, b"", acknowledge=number, options=options, **kwargs)


BOTH = pytest.mark.parametrize(
    ("merge", "version"), list(product((merge_segments, merge_compiled), (4, 6)))
)


@BOTH
class AcknowledgementTests:
    def kept(self, merge: Merge, packets: Sequence[bytes]) -> list[bytes]:
        frames = merge(packets, len(HEADER))
        assert all(frame[: len(HEADER)] == HEADER for frame in frames)
        return [frame[len(HEADER) :] for frame in frames]

    @pytest.mark.parametrize("options", [b"", TIMESTAMPS + bytes(8)])
    def test_the_last_of_several_goes_on(self, merge: Merge, version: int, options: bytes) -> None:
        row = [acknowledgement(version, 1000 + each, options=options) for each in range(5)]
        assert self.kept(merge, row) == row[-1:]

    def test_numbers_go_round(self, merge: Merge, version: int) -> None:
        row = [acknowledgement(version, each) for each in (0xFFFFFFF0, 0x10)]
        assert self.kept(merge, row) == row[-1:]

    def test_what_repeats_or_goes_back_is_kept(self, merge: Merge, version: int) -> None:
        row = [acknowledgement(version, each) for each in (1000, 1000, 1000, 900)]
        assert self.kept(merge, row) == row

    def test_timestamps_may_advance(self, merge: Merge, version: int) -> None:
        row = [
            acknowledgement(version, 1000 + each, options=TIMESTAMPS + bytes((each,)) * 8)
            for each in range(3)
        ]
        assert self.kept(merge, row) == row[-1:]

    def test_what_says_more_than_a_number_is_kept(self, merge: Merge, version: int) -> None:
        for special in (
            acknowledgement(version, 1001, options=SACK),
            acknowledgement(version, 1001, flags=ACK | ECE),
            acknowledgement(version, 1001, flags=ACK | FIN),
            acknowledgement(version, 1001, sequence=77),
            tcp_packet(version, b"data", acknowledge=1001, flags=ACK | PSH),
        ):
            row = [acknowledgement(version, 1000), special, acknowledgement(version, 1002)]
            assert self.kept(merge, row) == row

    def test_a_damaged_one_makes_no_other_needless(self, merge: Merge, version: int) -> None:
        row = [acknowledgement(version, 1000), acknowledgement(version, 1001)]
        row[1] = row[1][:-3] + bytes((row[1][-3] ^ 1,)) + row[1][-2:]
        assert self.kept(merge, row) == row

    def test_flows_do_not_mix(self, merge: Merge, version: int) -> None:
        one = [acknowledgement(version, 1000 + each) for each in range(3)]
        other = [acknowledgement(version, 50 + each, ports=(99, 80)) for each in range(3)]
        row = [packet for pair in zip(one, other, strict=True) for packet in pair]
        assert sorted(self.kept(merge, row)) == sorted([one[-1], other[-1]])

    def test_a_packet_whose_flow_is_unknown_is_no_place_to_pass(
        self, merge: Merge, version: int
    ) -> None:
        unknown = bytearray(acknowledgement(4, 1001))
        unknown[6] = 0x20  # more fragments
        row = [acknowledgement(version, 1000), bytes(unknown), acknowledgement(version, 1002)]
        assert self.kept(merge, row) == row
