"""Writes to a TCP connection without a turn of the reactor, where the kernel has room."""

from __future__ import annotations

from twisted.internet import tcp

from anyvpn.packets.tcp_descriptor import TCPTransport


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
