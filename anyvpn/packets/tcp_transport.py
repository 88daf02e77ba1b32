"""Twisted's TCP transports as packets need them: much read at once, and nothing put off."""

from __future__ import annotations

from twisted.internet import tcp
from twisted.internet.interfaces import ITCPTransport

from anyvpn.packets.tcp_descriptor import TCPTransport

# Ours
TRANSPORT_BYTES = 128 * 1024
"""What is read at once, and may wait to be sent before a producer is paused. What comes of several
flows in one turn is merged for the tun device: twice of Twisted's own size saves a tenth."""


def prepare(transport: TCPTransport) -> None:
    """Set a connection up that has just been made."""
    if ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
    if isinstance(transport, tcp.Connection):
        transport.bufferSize = TRANSPORT_BYTES


def write_at_once(transport: TCPTransport, data: bytes) -> None:
    """Send what the kernel takes now; the rest waits in the transport, and so does any error.

    Twisted's own `write` has the reactor watch for room, turn, send, and watch no more. A pull
    producer is told by that turn alone that all has gone out, so beside one nothing is done here.
    """
    if (
        isinstance(transport, tcp.Connection)
        and transport.streamingProducer
        and not (transport.dataBuffer or transport._tempDataBuffer)
    ):
        try:
            sent = transport.socket.send(data)
        except OSError:
            sent = 0  # no room, or whatever the transport meets next and tells
        data = data[sent:]
    if data:
        transport.write(data)
