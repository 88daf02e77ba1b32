"""TLS over any transport: one record for each frame, and a clear word about every end."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from zope.interface import implementer

from anyvpn.gateway.tls_contexts import peer_certificates_der
from anyvpn.packets.stream import (
    CLOSE_TIME_S,
    LARGEST_BATCH_BYTES,
    MOST_UNREAD_ANSWER_BYTES,
    TLSStream,
)
from anyvpn.packets.tcp_path import path_mtu_below
from tests.gateway.memory_tls import (
    HOST,
    MemoryTransport,
    TLSClient,
    Wire,
    authority,
    client_context,
    connect,
    server_context,
)

LABEL = b"EXPORTER-anyvpn-test"


class Reader:
    """Notes what a stream tells its reader."""

    def __init__(self) -> None:
        self.secured_count = 0
        self.data: list[bytes] = []
        self.closings: list[str] = []

    def secured(self) -> None:
        self.secured_count += 1

    def received(self, data: bytes) -> None:
        self.data.append(data)

    def closed(self, reason: str) -> None:
        self.closings.append(reason)


class Connected:
    """A stream of ours at the server's end, and a plain client."""

    def __init__(self, context: SSL.Context | None = None, server_name: str = HOST) -> None:
        self.clock = Clock()
        self.reader = Reader()
        self.stream = TLSStream(self.clock, server_context(), self.reader, handshake_time_s=7.0)
        self.client, self.wire = connect(self.clock, self.stream, context, server_name)

    def stall(self) -> None:
        """The client's host takes nothing any more."""
        self.wire.far.is_stalled = True


def bare() -> tuple[Clock, Reader, TLSStream, Wire]:
    """A stream whose peer has not said anything yet."""
    clock, reader = Clock(), Reader()
    stream = TLSStream(clock, server_context(), reader, handshake_time_s=7.0)
    wire = Wire(clock, MemoryTransport(), MemoryTransport())
    wire.near.protocol = stream
    wire.far.protocol = SimpleNamespace(  # type: ignore[assignment]  # it only listens
        dataReceived=lambda data: None, connectionLost=lambda reason: None
    )
    stream.makeConnection(wire.near)  # type: ignore[arg-type]  # all that a stream calls
    return clock, reader, stream, wire


class HandshakeTests:
    @pytest.mark.parametrize(
        ("version", "name"), [(SSL.TLS1_2_VERSION, "TLSv1.2"), (SSL.TLS1_3_VERSION, "TLSv1.3")]
    )
    def test_reader_is_told_once_and_both_sides_agree(self, version: int, name: str) -> None:
        context = client_context()
        context.set_max_proto_version(version)
        both = Connected(context)
        assert both.reader.secured_count == 1
        assert both.stream.protocol_version() == name
        assert both.stream.cipher_name() == both.client.tls.get_cipher_name()
        assert both.stream.server_name_indication() == HOST
        exported = both.client.tls.export_keying_material(LABEL, 32, None)
        assert both.stream.export_keying_material(LABEL, 32) == exported

    def test_client_without_a_name_or_a_certificate_has_none(self) -> None:
        both = Connected(server_name="")
        assert both.stream.server_name_indication() == ""
        assert peer_certificates_der(both.stream.tls) == ()

    def test_two_of_ours_talk_to_each_other(self) -> None:
        clock, ours, theirs = Clock(), Reader(), Reader()
        server = TLSStream(clock, server_context(), ours)
        client = TLSStream(clock, client_context(), theirs, is_client=True, server_name=HOST)
        wire = Wire(clock, MemoryTransport(), MemoryTransport())
        wire.near.protocol, wire.far.protocol = server, client
        server.makeConnection(wire.near)  # type: ignore[arg-type]  # all that a stream calls
        client.makeConnection(wire.far)  # type: ignore[arg-type]  # all that a stream calls
        wire.pump()
        client.write(b"hello")
        wire.pump()
        assert b"".join(ours.data) == b"hello"
        assert server.server_name_indication() == HOST
        assert len(peer_certificates_der(client.tls)) == 1

    def test_certificate_of_the_client_is_given_leaf_first(self) -> None:
        server = server_context.__wrapped__()
        authority().configure_trust(server)
        server.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        leaf = authority().issue_cert("client@example.com")
        clock, reader = Clock(), Reader()
        stream = TLSStream(clock, server, reader)
        connect(clock, stream, client_context(leaf))
        first = peer_certificates_der(stream.tls)[0]
        pem = leaf.cert_chain_pems[0].bytes()
        assert first == x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)

    def test_plain_http_is_named(self) -> None:
        _, reader, stream, _ = bare()
        stream.dataReceived(b"GET / HTTP/1.1\r\nHost: vpn\r\n\r\n")
        assert reader.closings == ["no TLS: the peer spoke plain HTTP"]

    @settings(max_examples=100)
    @given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
    def test_nothing_but_an_end_comes_of_garbage(self, pieces: list[bytes]) -> None:
        clock, reader, stream, wire = bare()
        for piece in pieces:
            stream.dataReceived(piece)
        clock.advance(7.1)
        wire.pump()
        clock.advance(CLOSE_TIME_S + 0.1)
        wire.pump()
        assert len(reader.closings) == 1
        assert reader.secured_count == 0
        assert clock.getDelayedCalls() == []

    def test_handshake_that_takes_too_long_is_cut(self) -> None:
        clock, reader, _stream, wire = bare()
        clock.advance(6.9)
        assert reader.closings == []
        clock.advance(0.2)
        wire.pump()
        assert reader.closings == ["TLS handshake failed: it was not complete after 7 s"]

    def test_peer_that_goes_away_in_the_handshake_is_told_apart(self) -> None:
        _, reader, _, wire = bare()
        wire.far.loseConnection()
        wire.pump()
        assert reader.closings == ["TLS handshake failed: the peer closed the connection"]

    def test_client_that_meets_something_else_says_so(self) -> None:
        clock, reader = Clock(), Reader()
        stream = TLSStream(clock, client_context(), reader, is_client=True, server_name=HOST)
        stream.makeConnection(MemoryTransport())  # type: ignore[arg-type]  # all that it calls
        stream.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        [reason] = reader.closings
        assert reason.startswith("no TLS: what the peer sent is something else")

    def test_handshake_may_come_byte_by_byte(self) -> None:
        _, reader, stream, wire = bare()
        client = TLSClient(wire.far, client_context())
        while wire.far.outgoing or wire.near.outgoing:
            sent, wire.far.outgoing = bytes(wire.far.outgoing), bytearray()
            for byte in sent:
                stream.dataReceived(bytes((byte,)))
            answer, wire.near.outgoing = bytes(wire.near.outgoing), bytearray()
            if answer:
                client.dataReceived(answer)
        assert (reader.secured_count, reader.closings, client.is_secured) == (1, [], True)

    def test_two_without_a_common_cipher_are_told_so(self) -> None:
        server = server_context.__wrapped__()
        server.set_cipher_list(b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384")
        context = client_context()
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
        clock, reader = Clock(), Reader()
        connect(clock, TLSStream(clock, server, reader), context)
        assert reader.closings == ["TLS handshake failed: no shared cipher"]

    def test_version_that_nobody_should_speak_is_refused(self) -> None:
        context = client_context()
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        both = Connected(context)
        [reason] = both.reader.closings
        assert reason.startswith("TLS handshake failed")
        assert both.client.is_closed


class TransportTests:
    def test_tcp_sends_at_once_and_notices_a_peer_that_is_gone(self) -> None:
        @implementer(ITCPTransport)
        class TCPTransport(MemoryTransport):
            def setTcpNoDelay(self, enabled: bool) -> None:
                self.no_delay = enabled

            def setTcpKeepAlive(self, enabled: bool) -> None:
                self.keep_alive = enabled

        transport = TCPTransport()
        TLSStream(Clock(), server_context(), Reader()).makeConnection(transport)  # type: ignore[arg-type]  # all that it calls
        assert (transport.no_delay, transport.keep_alive) == (True, True)


class WriteTests:
    def test_each_frame_has_a_record_of_its_own(self) -> None:
        both = Connected()
        frames = [b"a" * 8, b"b" * 1500, b"c" * 16384, b"d"]
        assert both.stream.write_frames(frames) == 4
        both.wire.pump()
        assert both.client.take_records() == frames

    def test_batch_is_one_write_to_the_transport(self) -> None:
        both = Connected()
        written: list[bytes] = []
        both.wire.near.write = written.append  # type: ignore[method-assign]  # to count them
        both.stream.write_frames([bytes(1000)] * 50)
        assert len(written) == 1

    def test_long_text_takes_as_few_records_as_it_needs(self) -> None:
        both = Connected()
        both.stream.write(bytes(40_000))
        both.wire.pump()
        assert list(map(len, both.client.take_records())) == [16384, 16384, 7232]

    def test_congested_connection_takes_nothing_and_says_when_it_does_again(self) -> None:
        both = Connected()
        told: list[bool] = []
        both.stream.take_over(lambda data: None, lambda: told.append(True))
        both.stall()
        taken = 0
        while count := both.stream.write_frames([bytes(1400)] * 50):
            taken += count
            assert taken < 1000, "no bound"
        waiting = len(both.wire.near.outgoing)
        assert waiting <= 64 * 1024 + LARGEST_BATCH_BYTES
        assert told == []
        both.wire.far.is_stalled = False
        both.wire.pump()
        assert told == [True]
        assert len(both.client.take_records()) == taken
        assert both.stream.write_frames([b"again"]) == 1

    def test_a_congested_connection_takes_a_last_frame(self) -> None:
        both = Connected()
        both.stall()
        while both.stream.write_frames([bytes(1400)] * 50):
            continue
        both.stream.write_last(b"goodbye")
        both.stream.close()
        both.wire.far.is_stalled = False
        both.wire.pump()
        assert both.client.take_records()[-1] == b"goodbye"

    def test_peer_that_wants_shorter_records_gets_every_byte(self) -> None:
        both = Connected()
        original = both.stream.tls.send
        # As OpenSSL does when the client has negotiated a maximum fragment length
        both.stream.tls.send = lambda data: original(data[:512])  # type: ignore[method-assign]
        text, frames = bytes(range(256)) * 100, [b"a" * 1400, b"b" * 8, b"c" * 1024]
        both.stream.write(text)
        assert both.stream.write_frames(frames) == 3
        both.wire.pump()
        assert both.client.take() == text + b"".join(frames)

    def test_huge_batch_is_taken_in_part(self) -> None:
        both = Connected()
        frames = [bytes(16_000)] * 40
        taken = both.stream.write_frames(frames)
        assert 0 < taken * 16_000 <= LARGEST_BATCH_BYTES

    def test_huge_batch_is_taken_whole_where_nothing_has_to_wait(self) -> None:
        both = Connected()
        both.wire.near.unregisterProducer()  # so nobody would come back for the rest
        assert both.stream.write_frames([bytes(16_000)] * 40) == 40

    def test_nothing_is_written_to_a_closed_connection(self) -> None:
        both = Connected()
        both.stream.close()
        both.wire.pump()
        both.stream.write(b"late")
        assert both.stream.write_frames([b"late"]) == 0


class ReadTests:
    def test_reader_may_be_changed_in_the_middle(self) -> None:
        both = Connected()
        later = Reader()

        def first_line(data: bytes) -> None:
            line, _, rest = data.partition(b"\n")
            both.reader.data.append(line)
            both.stream.reader = later
            both.stream.give_back(rest)

        both.reader.received = first_line  # type: ignore[method-assign]  # reads a line only
        both.client.send(b"one\ntwo")
        both.wire.pump()
        both.client.send(b"three")
        both.wire.pump()
        assert both.reader.data == [b"one"]
        assert b"".join(later.data) == b"twothree"

    def test_what_was_given_back_goes_to_whoever_takes_over(self) -> None:
        both = Connected()
        taken: list[bytes] = []
        both.reader.received = both.stream.give_back  # type: ignore[method-assign]  # reads nothing
        both.client.send(b"first")
        both.stream.pause_reading()
        both.wire.pump()
        both.stream.take_over(taken.append, lambda: None)
        both.stream.resume_reading()
        both.wire.pump()
        both.client.send(b"second")
        both.wire.pump()
        assert b"".join(taken) == b"firstsecond"

    def test_what_is_given_back_late_goes_to_the_reader_again(self) -> None:
        both = Connected()
        both.client.send(b"once")
        both.wire.pump()
        both.stream.give_back(b"once")
        both.wire.pump()
        assert both.reader.data == [b"once", b"once"]

    def test_what_comes_while_something_is_delivered_follows_it(self) -> None:
        both = Connected()
        delivered: list[bytes] = []

        def received(data: bytes) -> None:
            delivered.append(b"begin " + data)
            if len(delivered) == 1:
                both.client.send(b"second")
                both.wire.pump()
            delivered.append(b"end " + data)

        both.reader.received = received  # type: ignore[method-assign]  # sends within
        both.client.send(b"first")
        both.wire.pump()
        assert delivered == [b"begin first", b"end first", b"begin second", b"end second"]

    def test_paused_stream_reads_nothing(self) -> None:
        both = Connected()
        both.stream.pause_reading()
        assert both.wire.near.is_paused
        both.client.send(b"later")
        both.wire.pump()
        # What the transport had read already
        both.stream.dataReceived(bytes(both.wire.far.outgoing))
        both.wire.far.outgoing.clear()
        assert both.reader.data == []
        both.stream.resume_reading()
        both.wire.pump()
        assert both.reader.data == [b"later"]


class EndTests:
    def test_close_says_goodbye_after_what_was_written(self) -> None:
        both = Connected()
        both.stream.write(b"last words")
        both.stream.close()
        both.wire.pump()
        assert both.client.take() == b"last words"
        assert both.client.tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN
        assert both.reader.closings == ["closed here"]
        # Twisted's transport would wait for a producer that was paused
        assert both.wire.near._producer is None
        assert both.clock.getDelayedCalls() == []

    def test_close_does_not_wait_for_ever(self) -> None:
        both = Connected()
        both.stall()
        both.stream.write(bytes(100_000))
        both.stream.close()
        both.wire.pump()
        assert both.reader.closings == []
        both.clock.advance(CLOSE_TIME_S)
        both.wire.pump()
        assert len(both.reader.closings) == 1

    def test_goodbye_of_the_peer_ends_it(self) -> None:
        both = Connected()
        both.client.close()
        both.wire.pump()
        assert both.reader.closings == ["the peer closed the TLS connection"]

    def test_lost_connection_ends_it_once(self) -> None:
        both = Connected()
        both.client.vanish()
        both.wire.pump()
        assert len(both.reader.closings) == 1
        both.stream.close()
        both.stream.abort()
        assert len(both.reader.closings) == 1

    def test_abort_gives_its_reason(self) -> None:
        both = Connected()
        both.stream.abort("not a CSTP frame")
        both.wire.pump()
        assert both.reader.closings == ["not a CSTP frame"]

    def test_record_that_was_tampered_with_ends_it(self) -> None:
        both = Connected()
        both.client.tls.send(b"hello")
        sealed = bytearray(both.client.tls.bio_read(65536))
        sealed[-1] ^= 1
        both.stream.dataReceived(bytes(sealed))
        both.wire.pump()
        [reason] = both.reader.closings
        assert reason.startswith("TLS failed: ")

    def test_renegotiation_is_refused(self) -> None:
        context = client_context()
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        both = Connected(context)
        assert both.client.tls.renegotiate()
        with pytest.raises(SSL.WantReadError):
            both.client.tls.do_handshake()
        both.stream.dataReceived(both.client.tls.bio_read(65536))
        with pytest.raises(SSL.Error, match="no renegotiation"):
            answer_of_the_server(both)
        assert both.reader.secured_count == 1

    def test_peer_that_asks_and_reads_nothing_is_cut(self) -> None:
        both = Connected()
        both.stall()
        while both.stream.write_frames([bytes(1400)] * 50):
            pass
        for _ in range(MOST_UNREAD_ANSWER_BYTES // 1000):
            both.stream.tls.send(bytes(1000))  # as OpenSSL itself does for an answer
            both.client.send(b"?")
            both.wire.pump()
        assert both.reader.closings == ["the peer asks for more answers than it reads"]

    def test_answers_that_are_read_do_not_add_up(self) -> None:
        both = Connected()
        for _ in range(4):
            both.stall()
            while both.stream.write_frames([bytes(1400)] * 50):
                pass
            both.stream.tls.send(bytes(MOST_UNREAD_ANSWER_BYTES // 2)[:16384])
            both.stream.tls.send(bytes(MOST_UNREAD_ANSWER_BYTES // 2)[:16384])
            both.client.send(b"?")
            both.wire.pump()
            both.wire.far.is_stalled = False
            both.wire.pump()
        assert both.reader.closings == []


class PathMTUTests:
    def test_it_is_the_one_of_the_transport(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as connection,
        ):
            stream = TLSStream(Clock(), server_context(), Reader())
            transport = MemoryTransport()
            transport.getHandle = lambda: connection  # type: ignore[attr-defined]  # as TCP has
            stream.makeConnection(transport)  # type: ignore[arg-type]  # all that it calls
            assert stream.path_mtu() == path_mtu_below(transport) > 0

    def test_nothing_is_known_in_memory(self) -> None:
        assert Connected().stream.path_mtu() == 0


def answer_of_the_server(both: Connected) -> None:
    """Give the client's TLS what the server has written, and let it judge."""
    both.client.tls.bio_write(bytes(both.wire.near.outgoing))
    both.client.tls.do_handshake()


def test_client_of_these_tests_sees_records() -> None:
    """Two writes are two records, or the tests of frames would prove nothing."""
    both = Connected()
    both.stream.write(b"one")
    both.stream.write(b"two")
    both.wire.pump()
    assert isinstance(both.client, TLSClient)
    assert both.client.take_records() == [b"one", b"two"]
