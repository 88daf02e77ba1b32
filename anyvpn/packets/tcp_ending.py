"""How a TCP connection ends so that the last words arrive."""

from __future__ import annotations

from anyvpn.packets.tcp_descriptor import TCPTransport
from anyvpn.packets.tcp_path import is_socket


def end_in_order(transport: TCPTransport) -> None:
    """Send what was written, end our half, and read on until the peer ends its own.

    Whoever closes a connection on which something still comes answers that with a reset, which
    may overtake what was sent last. How long the peer may take is the caller's to limit.
    Source: RFC 9112, section 9.6; RFC 2525, section 2.17.
    """
    if is_socket(transport):
        transport.loseWriteConnection()
        transport.resumeProducing()
    else:
        transport.loseConnection()
