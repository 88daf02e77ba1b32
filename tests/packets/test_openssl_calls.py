"""Bytes through OpenSSL by its own calls, with pyOpenSSL at the other end."""

from __future__ import annotations

import os

import pytest
from OpenSSL import SSL

from anyvpn.packets.openssl_calls import LONGEST_RECORD_BYTES, OpenSSLCalls
from tests.packets.test_tls_in_memory import Pair


class OpenSSLCallsTests:
    def calls(self) -> tuple[Pair, OpenSSLCalls]:
        pair = Pair()
        pair.server.encrypt((b"hello",), 5)  # session tickets go along with it
        pair.received_by_client()
        return pair, OpenSSLCalls(pair.server._tls)

    def test_so_many_records_are_read_and_no_more(self) -> None:
        pair, calls = self.calls()
        sent = [b"one", os.urandom(LONGEST_RECORD_BYTES), b"three"]
        pair.server._tls.bio_write(b"".join(pair.client_sends(each) for each in sent))
        chunks: list[bytes] = []
        calls.read_records(2, chunks)
        assert chunks == [b"".join(sent[:2])]
        for most in (2, 1):
            calls.read_records(most, chunks)
            assert chunks == [b"".join(sent[:2]), sent[2]]

    def test_more_than_the_buffer_holds_is_read_in_order(self) -> None:
        pair, calls = self.calls()
        sent = [os.urandom(size) for size in (1, *[LONGEST_RECORD_BYTES] * 9, 1400)]
        pair.server._tls.bio_write(b"".join(pair.client_sends(each) for each in sent))
        chunks: list[bytes] = []
        calls.read_records(len(sent) + 1, chunks)
        assert b"".join(chunks) == b"".join(sent)

    def test_what_is_written_is_taken_whole(self) -> None:
        pair, calls = self.calls()
        sent = [os.urandom(size) for size in (1, 1400, *[LONGEST_RECORD_BYTES] * 5)]
        for each in sent:
            assert calls.write_record(each) == len(each)
        pair.client.bio_write(calls.take())
        assert [pair.client.recv(LONGEST_RECORD_BYTES) for _ in sent] == sent
        assert calls.take() == b""

    def test_no_record_is_longer_than_the_protocol_allows(self) -> None:
        pair, calls = self.calls()
        sent = os.urandom(LONGEST_RECORD_BYTES + 1)
        assert calls.write_record(sent) == LONGEST_RECORD_BYTES
        pair.client.bio_write(calls.take())
        assert pair.client.recv(1 << 20) == sent[:LONGEST_RECORD_BYTES]

    def test_the_end_and_a_forgery_are_errors_with_what_came_before(self) -> None:
        pair, calls = self.calls()
        pair.server._tls.bio_write(pair.client_sends(b"before"))
        pair.client.shutdown()
        pair.server._tls.bio_write(pair.from_client())
        chunks: list[bytes] = []
        with pytest.raises(SSL.ZeroReturnError):
            calls.read_records(2, chunks)
        assert chunks == [b"before"]

        pair, calls = self.calls()
        record = pair.client_sends(b"forged")
        pair.server._tls.bio_write(record[:-1] + bytes((record[-1] ^ 1,)))
        with pytest.raises(SSL.Error):
            calls.read_records(1, chunks)
        with pytest.raises(SSL.Error):
            calls.write_record(b"after it")
