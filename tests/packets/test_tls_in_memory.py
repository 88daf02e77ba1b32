"""TLS through buffers that stay small, with plain OpenSSL at the other end."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest
from OpenSSL import SSL

from anyvpn.packets.tls_in_memory import LONGEST_RECORD_BYTES, PIECE_BYTES, TLSInMemory
from tests.gateway.memory_tls import client_context, server_context
from tests.heap import heap_bytes

CONNECTIONS = 20
BURST = bytes(range(250)) * 4 * 256  # 256 KB
RECORDS = tuple(BURST[at : at + 1400] for at in range(0, len(BURST), 1400))


class Pair:
    """A server of ours and a client, joined; `secure` is the handshake."""

    def __init__(self, *, secure: bool = True, version: int = SSL.TLS1_3_VERSION) -> None:
        connection = SSL.Connection(server_context(), None)
        connection.set_accept_state()
        self.server = TLSInMemory(connection)
        context = client_context()
        context.set_max_proto_version(version)
        self.client = SSL.Connection(context, None)
        self.client.set_connect_state()
        if secure:
            while not self.server.shake_hands(is_client=False):
                self.advance_client()
                self.server.feed(self.from_client())
            self.advance_client()

    def advance_client(self) -> None:
        """The client takes what the server has for it, and answers."""
        data = self.server.take()
        if data:
            self.client.bio_write(data)
        with suppress(SSL.WantReadError):
            self.client.do_handshake()

    def from_client(self) -> bytes:
        """What the client has for the server."""
        sent = b""
        with suppress(SSL.WantReadError):
            while True:
                sent += self.client.bio_read(1 << 20)
        return sent

    def client_sends(self, data: bytes) -> bytes:
        """The records that the client makes of it."""
        for start in range(0, len(data), LONGEST_RECORD_BYTES):
            self.client.send(data[start : start + LONGEST_RECORD_BYTES])
        return self.from_client()

    def received_by_client(self) -> list[bytes]:
        """What the client is sent, a record each."""
        self.client.bio_write(self.server.take())
        records = []
        with suppress(SSL.WantReadError):
            while True:
                records.append(self.client.recv(LONGEST_RECORD_BYTES))
        return records

    def received_by_server(self) -> bytes:
        """What the server has been sent."""
        chunks: list[bytes] = []
        self.server.decrypt(chunks)
        return b"".join(chunks)


class TLSInMemoryTests:
    def test_a_burst_arrives_whole_a_record_for_each_packet(self) -> None:
        pair = Pair()
        assert pair.server.encrypt(RECORDS, len(BURST)) == len(RECORDS)
        assert tuple(pair.received_by_client()) == RECORDS
        assert pair.server.take() == b""

    def test_what_goes_beyond_the_bound_is_left_but_the_first_never_is(self) -> None:
        pair = Pair()
        assert pair.server.encrypt(RECORDS, 3 * 1400) == 3
        assert pair.server.encrypt(RECORDS, 10) == 1
        assert tuple(pair.received_by_client()) == (*RECORDS[:3], RECORDS[0])

    def test_a_burst_is_taken_in_whole(self) -> None:
        pair = Pair()
        pair.server.feed(pair.client_sends(BURST))
        assert pair.received_by_server() == BURST

    def test_bursts_that_nobody_asks_for_yet_wait_in_their_order(self) -> None:
        pair = Pair()
        for part in (BURST[: PIECE_BYTES * 2], b"next", BURST[:100]):
            pair.server.feed(pair.client_sends(part))
        assert pair.received_by_server() == BURST[: PIECE_BYTES * 2] + b"next" + BURST[:100]

    def test_what_comes_along_with_the_end_of_the_handshake_is_there(self) -> None:
        pair = Pair(secure=False)
        pair.advance_client()
        pair.server.feed(pair.from_client())
        assert not pair.server.shake_hands(is_client=False)
        pair.advance_client()
        pair.server.feed(pair.client_sends(BURST))
        assert pair.server.shake_hands(is_client=False)
        assert pair.received_by_server() == BURST

    def test_session_tickets_wait_for_the_first_answer(self) -> None:
        """Nobody waits for them, and a write of their own costs a turn of the reactor."""
        pair = Pair()
        assert pair.server.take() == b""
        pair.server.encrypt([b"answer"], 100)
        assert pair.server.sent.since_handshake > 1
        assert pair.received_by_client() == [b"answer"]

    def test_tls12_ends_its_handshake_at_once(self) -> None:
        """There the last word is the server's, and the client waits for it."""
        pair = Pair(secure=False, version=SSL.TLS1_2_VERSION)
        pair.advance_client()
        pair.server.feed(pair.from_client())
        assert not pair.server.shake_hands(is_client=False)
        pair.advance_client()
        pair.server.feed(pair.from_client())
        assert pair.server.shake_hands(is_client=False)
        pair.client.bio_write(pair.server.take())
        pair.client.do_handshake()

    def test_what_came_before_the_goodbye_is_there(self) -> None:
        pair = Pair()
        sent = pair.client_sends(BURST)
        pair.client.shutdown()
        pair.server.feed(sent + pair.from_client())
        chunks: list[bytes] = []
        with pytest.raises(SSL.ZeroReturnError):
            pair.server.decrypt(chunks)
        assert b"".join(chunks) == BURST

    def test_after_bursts_both_ways_a_connection_is_small_again(self) -> None:
        pairs = [Pair() for _ in range(CONNECTIONS)]
        for pair in pairs:
            pair.server.feed(pair.client_sends(b"one record"))
            assert pair.received_by_server() == b"one record"
        gc.collect()
        before = heap_bytes()
        for pair in pairs:
            sent = pair.client_sends(BURST)
            pair.client = SSL.Connection(client_context(), None)  # its own buffers are gone
            pair.server.feed(sent)
            assert pair.received_by_server() == BURST
            pair.server.encrypt(RECORDS, len(BURST))
            pair.server.take()
        del sent
        gc.collect()
        kept = (heap_bytes() - before) / CONNECTIONS
        print(f"\nTwo bursts of 256 KB leave {kept / 1024:.0f} KB behind.")
        assert kept < 100 * 1024
