"""The client's way to the gateway's UDP port: one socket at a time, a new one for each handshake.

A new port tells gateways a new handshake from records of the channel before it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet

from anyvpn.errors import GatewayUnreachable
from anyvpn.model.channels import PeerPath
from anyvpn.packets.datagrams import (
    RECEIVE_BYTES_PER_WAKE,
    DatagramSockets,
    DatagramsReceived,
    SocketTaker,
)

# Ours
RECEIVE_BUFFER_BYTES = 2 * RECEIVE_BYTES_PER_WAKE
"""While what one wake has read is worked off, as much again may come. What is more would only make
all that is in the tunnel late: TCP fills whatever there is."""

_WILDCARDS = {False: "0.0.0.0", True: "::"}  # noqa: S104 - the kernel chooses by the way to the gateway


class GatewayDatagrams:
    """What a tunnel's packet engine sends through; paths of sockets that are gone lead nowhere.

    `on_handshake` is told of everything that no channel can open.
    """

    def __init__(self, reactor: IReactorFDSet) -> None:
        self.on_handshake: Callable[[PeerPath, bytes], None] = _ignore
        self._reactor = reactor
        self._received: DatagramsReceived | None = None
        self._taker: SocketTaker | None = None
        self._sockets: DatagramSockets | None = None
        self._generation = 0

    def start(self, received: DatagramsReceived) -> None:
        """Begin to hand over what comes, from this socket and from those after it."""
        self._received = received

    def hand_over(self, taker: SocketTaker) -> None:
        """Let `taker` read this socket, and those after it, instead."""
        self._taker = taker
        if self._sockets is not None:
            self._sockets.hand_over(_Numbered(taker, self._generation))

    def renew(self, host: str, port: int) -> PeerPath:
        """Take a new socket; gives the path to the gateway's port through it.

        Raises: GatewayUnreachable: no socket can be had.
        """
        self.close()
        sockets = DatagramSockets(self._reactor)
        is_ipv6 = ":" in host
        try:
            sockets.open(
                ((_WILDCARDS[is_ipv6], 0),),
                tells_local=False,
                receive_buffer_bytes=RECEIVE_BUFFER_BYTES,
            )
        except CannotListenError as error:
            raise GatewayUnreachable(f"no UDP socket: {error}") from None
        self._generation += 1
        self._sockets = sockets
        generation = self._generation
        if self._taker is None:
            sockets.start(
                lambda path, datagrams: self._datagrams_received(generation, path, datagrams)
            )
        else:
            sockets.hand_over(_Numbered(self._taker, generation))
        address = (host, port, 0, 0) if is_ipv6 else (host, port)
        return PeerPath(generation, address)

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        """Send what the kernel takes now; gives the number that was dropped."""
        if self._sockets is None or path.socket_index != self._generation:
            return len(datagrams)
        return self._sockets.send(replace(path, socket_index=0), datagrams)

    def close(self) -> None:
        """Let the socket go; closing twice does no harm."""
        sockets, self._sockets = self._sockets, None
        if sockets is not None:
            sockets.close()

    def _datagrams_received(self, generation: int, path: PeerPath, datagrams: list[bytes]) -> None:
        if self._received is not None and generation == self._generation:
            self._received(replace(path, socket_index=generation), datagrams)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """Gives a taker the one socket of a generation under the generation's number."""

    taker: SocketTaker
    generation: int

    def add_socket(self, index: int, opened: socket.socket, queue: int) -> None:  # noqa: ARG002 - there is one
        self.taker.add_socket(self.generation, opened, queue)

    def remove_socket(self, index: int) -> None:  # noqa: ARG002 - as above
        self.taker.remove_socket(self.generation)


def _ignore(path: PeerPath, datagram: bytes) -> None:
    """Nobody listens yet."""
