"""Records of TLS are counted wherever the bytes are cut, and what is no TLS is known."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.packets.tls_records import RecordCount


def record(body: bytes, content_type: int = 23) -> bytes:
    return bytes((content_type, 3, 3)) + len(body).to_bytes(2, "big") + body


RECORDS = record(b"a" * 40, 22) + record(b"\1", 20) + record(b"") + record(os.urandom(300))


class RecordCountTests:
    @pytest.mark.parametrize("size", range(len(RECORDS) + 1))
    def test_whole_records_alone_are_counted_at_every_cut(self, size: int) -> None:
        count = RecordCount()
        end = count.take(RECORDS[:size], size)
        rest = RECORDS[end:]
        assert not count.is_broken
        count.take(rest, len(rest))
        assert (count.since_handshake, count.since_ciphers) == (4, 2)

    def test_one_is_taken_where_one_is_wanted(self) -> None:
        count = RecordCount()
        assert count.take(RECORDS, len(RECORDS), only_one=True) == 45
        assert count.since_handshake == 1

    @pytest.mark.parametrize(
        "garbage",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x17\2\3\0\1a",
            b"\x13\3\3\0\1a",
            b"\x17\3\3\xff\xff" + bytes(9),
        ],
    )
    def test_what_is_no_tls_is_all_taken_and_remembered(self, garbage: bytes) -> None:
        count = RecordCount()
        assert count.take(RECORDS + garbage, 10_000) == len(RECORDS + garbage)
        assert count.is_broken
        assert count.take(RECORDS, 10_000) == len(RECORDS)
        assert count.is_broken

    @given(
        st.lists(st.sampled_from((0, 1, 30, 30, 30, 286)), max_size=12),
        st.integers(0, 400),
        st.integers(0, 40),
    )
    def test_records_alike_are_counted_as_if_one_by_one(
        self, sizes: list[int], most: int, cut: int
    ) -> None:
        data = b"".join(record(bytes(size)) for size in sizes)
        data = data[: max(0, len(data) - cut)]
        bulk, single = RecordCount(), RecordCount()
        end = bulk.take(data, most)
        at = 0
        while at < most and (size := single.take(data[at:], 1, only_one=True)):
            at += size
        assert (end, bulk.since_handshake, bulk.since_ciphers) == (
            at,
            single.since_handshake,
            single.since_ciphers,
        )

    @given(st.binary(max_size=200), st.integers(0, 300))
    def test_any_bytes_are_taken_or_left_and_nothing_raises(self, data: bytes, most: int) -> None:
        assert 0 <= RecordCount().take(data, most) <= len(data)
