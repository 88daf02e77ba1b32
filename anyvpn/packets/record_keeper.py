"""How a TLS connection's records pass from OpenSSL to somebody else, in the middle of its life.

The moment is one at which all that was written has gone out, and OpenSSL holds no part of a record:
then keys and the numbers of the next records say all that there is to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from OpenSSL import SSL
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from anyvpn.interfaces import IRecordKeeper
from anyvpn.model.channels import TLSKeys, TLSRecords
from anyvpn.packets.tcp_descriptor import TCPTransport, take_descriptor
from anyvpn.packets.tls_in_memory import TLSInMemory
from anyvpn.packets.tls_keys import TLSSecrets


class Connection(NamedTuple):
    """What is to be handed over."""

    tls: SSL.Connection
    is_client: bool
    memory: TLSInMemory
    transport: TCPTransport


def hand_over(
    connection: Connection,
    secrets: TLSSecrets,
    keeper: IRecordKeeper,
    is_drained: Callable[[], bool],
    handed_over: Callable[[IRecordKeeper | None], None],
) -> None:
    """Give the keeper the records when all that was written has gone out.

    `is_drained` is asked then, and again after whatever it has written; `handed_over` is told of
    the keeper, or of None when keys or numbers cannot be had. The transport must have no producer.
    """

    def drained() -> None:
        if not is_drained():
            return
        drain.stop()
        given = _given(connection, secrets)
        handed_over(None if given is None else keeper)
        if given is not None:
            secrets.forget(connection.tls)
            keeper.keep(TLSRecords(take_descriptor(connection.transport), *given))

    drain = _Drain(connection.transport, drained)
    drain.start()


def _given(connection: Connection, secrets: TLSSecrets) -> tuple[TLSKeys, int, int, bytes] | None:
    tls, memory = connection.tls, connection.memory
    keys = secrets.keys_of(tls, is_client=connection.is_client)
    if keys is None or memory.received.is_broken or not memory.is_sent:
        return None
    sent, received = (
        each.since_handshake if keys.is_tls13 else each.since_ciphers
        for each in (memory.sent, memory.received)
    )
    return keys, sent, received, memory.unread


@implementer(IPullProducer)
class _Drain:
    """Calls `drained` whenever the transport has nothing left to write, until it is stopped."""

    def __init__(self, transport: TCPTransport, drained: Callable[[], None]) -> None:
        self._transport = transport
        self._drained = drained
        self._is_started = False

    def start(self) -> None:
        """Begin; the transport asks at once, which means nothing."""
        self._transport.registerProducer(self, False)
        self._is_started = True
        self._transport.startWriting()

    def resumeProducing(self) -> None:
        """The transport has nothing left."""
        if self._is_started:
            self._drained()

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._is_started = False

    def stop(self) -> None:
        """Call no more."""
        self._is_started = False
        del self._drained  # it holds this object, too
        self._transport.unregisterProducer()
