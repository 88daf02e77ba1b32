"""A TLS connection's records pass to somebody else, and OpenSSL lets go."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Iterator

import pytest
from OpenSSL import SSL
from twisted.internet.task import Clock
from zope.interface import implementer

from anyvpn.interfaces import IRecordKeeper
from anyvpn.model.channels import ReturnedConnection, TLSRecords
from anyvpn.packets.stream import CLOSE_TIME_S, TLSStream
from anyvpn.packets.tls_keys import TLSSecrets
from tests.gateway.memory_tls import (
    HOST,
    MemoryTransport,
    TLSClient,
    Wire,
    client_context,
    server_context,
)
from tests.packets.test_stream import Reader

VERSIONS = pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])


class SocketTransport(MemoryTransport):
    """A transport in memory that says that there is a socket below it."""

    def __init__(self) -> None:
        super().__init__()
        self._handle = socket.socket()

    def getHandle(self) -> socket.socket:
        return self._handle

    def startWriting(self) -> None:
        """It has nothing to write, as all of it is in memory."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def loseWriteConnection(self) -> None:
        """The peer ends its half as soon as it sees that."""
        self.loseConnection()

    def stopReading(self) -> None:
        self.is_paused = True

    def stopWriting(self) -> None:
        """Nor is it asked to write then."""

    def close(self) -> None:
        self._handle.close()


@implementer(IRecordKeeper)
class Keeper:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.kept: list[TLSRecords] = []

    def keep(self, records: TLSRecords) -> None:
        self.kept.append(records)

    def give_back(self) -> ReturnedConnection:
        return ReturnedConnection(self.kept[-1].descriptor, b"the keeper's goodbye")


class Handed:
    """A stream of ours that has been handed over, and the client at its other end."""

    def __init__(self, version: int, said: bytes = b"before") -> None:
        context, self.secrets = server_context.__wrapped__(), TLSSecrets()
        self.secrets.watch(context)
        context.set_max_proto_version(version)
        self.reader, self.keeper, self.transport = Reader(), Keeper(), SocketTransport()
        self.clock = clock = Clock()
        self.stream = TLSStream(clock, context, self.reader, secrets=self.secrets)
        self.wire = Wire(clock, self.transport, MemoryTransport())
        self.transport.protocol = self.stream
        self.stream.makeConnection(self.transport)  # type: ignore[arg-type]  # all that it calls
        self.client = TLSClient(self.wire.far, client_context(), HOST)
        self.wire.pump()
        self.stream.write(said)
        self.wire.pump()
        self.openssl = weakref.ref(self.stream.tls)
        self.stream.hand_over(self.keeper)


@pytest.fixture
def handed(version: int) -> Iterator[Handed]:
    gc.disable()
    handed = Handed(version)
    yield handed
    handed.transport.close()
    gc.enable()


@VERSIONS
class RecordKeeperTests:
    def test_keys_and_numbers_are_given(self, handed: Handed) -> None:
        (records,) = handed.keeper.kept
        with socket.socket(fileno=records.descriptor) as taken:
            assert taken.type is socket.SOCK_STREAM
        assert handed.transport.getHandle().fileno() == -1
        assert handed.client.take() == b"before"
        assert records.keys.is_tls13 == (handed.client.tls.get_protocol_version_name() == "TLSv1.3")

    def test_openssl_is_gone_at_once(self, handed: Handed) -> None:
        assert handed.keeper.kept
        assert handed.openssl() is None

    def test_to_close_is_to_send_what_the_keeper_has_to_say(self, handed: Handed) -> None:
        handed.stream.close()
        assert bytes(handed.transport.outgoing) == b"the keeper's goodbye"
        assert handed.transport.closing

    def test_a_peer_that_does_not_end_its_half_is_cut(self, handed: Handed) -> None:
        handed.transport.loseWriteConnection = lambda: None  # type: ignore[method-assign]  # nobody answers
        handed.stream.close()
        handed.stream.dataReceived(bytes(100_000))  # what still comes is nobody's
        handed.clock.advance(CLOSE_TIME_S - 0.1)
        handed.wire.pump()
        assert handed.reader.closings == []
        handed.clock.advance(0.2)
        handed.wire.pump()
        assert handed.reader.closings == ["closed here"]
        assert handed.clock.getDelayedCalls() == []

    def test_who_has_no_descriptor_does_not_read(self, handed: Handed) -> None:
        handed.stream.pause_reading()
        handed.transport.is_paused = True
        handed.stream.resume_reading()
        assert handed.transport.is_paused

    def test_an_abort_needs_nothing_of_openssl(self, handed: Handed) -> None:
        handed.stream.abort("enough")
        handed.wire.pump()
        assert handed.reader.closings == ["enough"]


def test_session_tickets_that_have_not_gone_out_keep_a_stream_where_it_is() -> None:
    handed = Handed(SSL.TLS1_3_VERSION, said=b"")
    assert not handed.keeper.kept
    handed.stream.write(b"after")
    handed.wire.pump()
    assert handed.client.take() == b"after"
    handed.transport.close()
