"""The one descriptor of a TCP connection, which Twisted's transport has or somebody else.

Whoever takes it takes it out of the transport's socket object, so its number stands in one place at
any time. A transport without it is a shell: it can be asked for its peer and be aborted, and what
it closes is nothing.
"""

from __future__ import annotations

import socket

from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ITCPTransport,
)


class TCPTransport(ITCPTransport, IConsumer, IPushProducer):
    """What Twisted's TCP transports are, and those that wrap them."""

    def getHandle() -> socket.socket:
        """The socket itself."""

    def startWriting() -> None:
        """Look whether something can be written, even when there is nothing to write."""

    def stopReading() -> None:
        """Look no more whether something came."""

    def stopWriting() -> None:
        """Look no more whether something can be written."""


def take_descriptor(transport: TCPTransport) -> int:
    """The transport's descriptor, which is the caller's from now on."""
    transport.stopReading()  # the reactor finds a transport by its descriptor
    transport.stopWriting()
    return transport.getHandle().detach()


def put_descriptor(transport: TCPTransport, descriptor: int) -> None:
    """Let the transport have it again; it does not begin to read."""
    handle = transport.getHandle()
    # The reactor and the transport both know this very object
    socket.socket.__init__(handle, fileno=descriptor)
    handle.setblocking(False)
