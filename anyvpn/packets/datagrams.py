"""UDP sockets that receive and send in bursts (UDP_GRO, UDP_SEGMENT).

What comes is handed over by sender, many datagrams at a time; what goes out leaves from the
address that the peer spoke to. Datagrams may be fragmented on their way, as those of ocserv
are unless it is told otherwise: a path that is narrower than the tunnel believes loses nothing.

Source: Linux, net/ipv4/udp_offload.c, udp(7), ip(7), ipv6(7).
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, runtime_checkable

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.model.channels import PeerPath
from anyvpn.packets.datagram_reader import (
    DATAGRAMS_PER_CALL,
    LONGEST_DATAGRAM_BYTES,
    DatagramReader,
    Origin,
    SocketAddress,
    socket_address,
)

log = Logger()

# From Linux; Python's socket module does not name all of them
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_IP_PKTINFO, _IP_MTU_DISCOVER = 8, 10
_IPV6_MTU_DISCOVER, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 23, 49, 50
_PMTUDISC_DONT = 0
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_MOST_SEGMENTS = 64
_MOST_SEGMENTED_BYTES = 65_000  # 65,507, and some room for what the kernel adds

# Ours
SOCKET_BUFFER_BYTES = 4 << 20
"""What the kernel may hold for us, each way, while we do something else."""
DATAGRAMS_PER_WAKE = 128
RECEIVE_BYTES_PER_WAKE = 512 << 10
"""A wake that finds more leaves the rest to the next one, so that the reactor goes on.

Joined ones that come behind single ones may make it five times as much.
"""
_MOST_REMEMBERED = 4096

DATAGRAMS_ALONE = 4096
"""After so many that had to go alone a burst is tried again: the path may be wider by then."""

_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - recognised, not bound
_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS)
_BUFFER_OPTIONS = (
    (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
    (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
)
_UNSIGNED_SHORT = struct.Struct("=H")

DatagramsReceived = Callable[[PeerPath, list[bytes]], None]
_Ancillary = tuple[int, int, bytes]


class SocketTaker(Protocol):
    """Who reads UDP sockets instead of the reactor."""

    def add_socket(self, index: int, opened: socket.socket, queue: int) -> None:
        """Read this one from now on; its datagrams come as from socket `index`.

        An address may have several sockets, among which the kernel divides peers: `queue` counts
        them.
        """

    def remove_socket(self, index: int) -> None:
        """Read it no more: it is about to be closed."""


@runtime_checkable
class HandedOver(Protocol):
    """Datagrams whose sockets may be read by somebody else."""

    def hand_over(self, taker: SocketTaker) -> None:
        """Let `taker` read all sockets, and those that come later."""


class DatagramSockets:
    """All UDP sockets of a gateway; `on_handshake` is told of what no channel can open.

    `on_handshake` is called with a path and one datagram: handshake messages, alerts, and
    records that came before their keys. Whoever takes it answers nothing that names no live
    session.
    """

    def __init__(self, reactor: IReactorFDSet) -> None:
        self.on_handshake: Callable[[PeerPath, bytes], None] = _ignore
        self._reactor = reactor
        self._sockets: list[_DatagramSocket] = []
        self._reader = DatagramReader()
        self._taker: SocketTaker | None = None

    def open(
        self,
        addresses: Sequence[tuple[str, int]],
        *,
        tells_local: bool = True,
        queues: int = 1,
        receive_buffer_bytes: int = SOCKET_BUFFER_BYTES,
    ) -> None:
        """Bind a socket, or one for each queue, to each (host, port); port 0 takes any.

        With `tells_local` the paths of a socket that is bound to no address say which one was
        spoken to. Raises: CannotListenError: one of them cannot be had; none is kept.
        """
        kind = _Kind(tells_local, queues > 1, receive_buffer_bytes)
        for host, port in addresses:
            twins = [each for each, same in addresses if same == port and ":" not in each]
            try:
                ipv6_only = host != "::" or bool(twins)
                opened = _open_socket(host, port, ipv6_only, kind)
                self._sockets.append(_DatagramSocket(len(self._sockets), opened, self._reader))
                _, taken = self._sockets[-1].address
                for _ in range(1, queues):
                    self._sockets[-1].twins.append(_open_socket(host, taken, ipv6_only, kind))
            except OSError as error:
                self.close()
                raise CannotListenError(host, port, error) from error  # type: ignore[no-untyped-call]  # Twisted has no types here

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where the sockets are bound, in the order of their index."""
        return tuple(each.address for each in self._sockets)

    def start(self, received: DatagramsReceived) -> None:
        """Begin to read: hand over what came from one sender, in order, some at a time."""
        for each in self._sockets:
            each.received = received
            self._reactor.addReader(each)

    def hand_over(self, taker: SocketTaker) -> None:
        """Let `taker` read all of them instead."""
        self._taker = taker
        for index, each in enumerate(self._sockets):
            for queue, opened in enumerate((each.socket, *each.twins)):
                taker.add_socket(index, opened, queue)

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        """Send as many as the kernel takes now; gives the number that it did not take."""
        if path.socket_index >= len(self._sockets):
            return len(datagrams)
        return self._sockets[path.socket_index].send(path, datagrams)

    def close(self) -> None:
        """Close all; closing twice does no harm."""
        sockets, self._sockets = self._sockets, []
        for index, each in enumerate(sockets):
            if self._taker is not None:
                self._taker.remove_socket(index)
            self._reactor.removeReader(each)
            each.close()


@implementer(IReadDescriptor)
class _DatagramSocket:
    """One socket; itself what the reactor watches."""

    def __init__(self, index: int, opened: socket.socket, reader: DatagramReader) -> None:
        name = opened.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        self.received: DatagramsReceived = _ignore_all
        self.socket = opened
        self.twins: list[socket.socket] = []
        """The others of its address, for further queues."""
        self._index = index
        self._reader = reader
        self._is_ipv6 = opened.family == socket.AF_INET6
        self._segmentation = True
        self._narrow_paths: dict[SocketAddress, _NarrowPath] = {}
        self._paths: dict[Origin, PeerPath] = {}

    def fileno(self) -> int:
        """The descriptor that the reactor watches; -1 when it is closed."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return f"UDP {self.address[0]}:{self.address[1]}"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up."""
        if self.fileno() >= 0:
            log.error("{socket} is lost: {reason}", socket=self.logPrefix(), reason=reason.value)
            self.close()

    def close(self) -> None:
        """Let the port go."""
        for each in (self.socket, *self.twins):
            each.close()

    def doRead(self) -> None:
        """Read what waits, up to a bound, and hand it over by sender."""
        batches: dict[Origin, list[bytes]] = {}
        self._receive(batches)
        for origin, datagrams in batches.items():
            path = self._path(origin)
            try:
                self.received(path, datagrams)
            except Exception:
                # The reactor would take the socket away, and with it everybody's channel
                log.failure("Datagrams from {peer} are lost", peer=path.address)

    def _receive(self, batches: dict[Origin, list[bytes]]) -> None:
        left, room = DATAGRAMS_PER_WAKE, RECEIVE_BYTES_PER_WAKE
        expected_bytes = LONGEST_DATAGRAM_BYTES
        while left > 0 and room > 0:
            most = min(DATAGRAMS_PER_CALL, left, -(-room // expected_bytes))
            try:
                count, size = self._reader.receive(self.socket, most, batches)
            except ConnectionError:
                left -= 1  # an ICMP message about something that we sent
                continue
            except BlockingIOError:
                return
            except OSError as error:
                # Such as no memory now; the reactor would take the socket away for good
                log.error("{socket} cannot receive: {why}", socket=self.logPrefix(), why=error)
                return
            if count < most:
                return
            left -= count
            room -= size
            expected_bytes = max(1, size // count)

    def _path(self, origin: Origin) -> PeerPath:
        """The way back to where datagrams came from."""
        path = self._paths.get(origin)
        if path is None:
            name, information = origin
            local = self._local_text(information) if information else ""
            path = PeerPath(self._index, socket_address(name), local)
            if len(self._paths) >= _MOST_REMEMBERED:
                self._paths.clear()
            self._paths[origin] = path
        return path

    def _local_text(self, information: bytes) -> str:
        """The address of ours that a datagram was sent to, out of its packet information."""
        # in6_pktinfo begins with the address, in_pktinfo has it after the interface
        if self._is_ipv6:
            return socket.inet_ntop(socket.AF_INET6, information[:16])
        return socket.inet_ntop(socket.AF_INET, information[4:8])

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        """Send to one peer in bursts; gives the number that was dropped."""
        source = self._source(path)
        dropped = start = 0
        count = len(datagrams)
        while start < count:
            end = self._end_of_burst(path.address, datagrams, start)
            try:
                self._send_burst(path.address, datagrams[start:end], source)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return dropped + count - start
                if end - start > 1 and self._do_without(error, path.address, len(datagrams[start])):
                    continue
                dropped += end - start
            start = end
        return dropped

    def _end_of_burst(self, address: SocketAddress, datagrams: Sequence[bytes], start: int) -> int:
        """Where the datagrams of one size end; a shorter one may be the last of them."""
        size = len(datagrams[start])
        if not self._segmentation or not size:
            return start + 1
        narrow = self._narrow_paths.get(address)
        if narrow is not None and size > narrow.longest_bytes and not narrow.may_be_over():
            return start + 1
        most = min(_MOST_SEGMENTS, _MOST_SEGMENTED_BYTES // size)
        limit = min(len(datagrams), start + most)
        end = start + 1
        while end < limit and len(datagrams[end]) == size:
            end += 1
        if end < limit and 0 < len(datagrams[end]) < size:
            end += 1
        return end

    def _send_burst(
        self, address: SocketAddress, datagrams: Sequence[bytes], source: list[_Ancillary]
    ) -> None:
        if len(datagrams) == 1:
            if source:
                self.socket.sendmsg(datagrams, source, 0, address)
            else:
                self.socket.sendto(datagrams[0], address)
            return
        size = _UNSIGNED_SHORT.pack(len(datagrams[0]))
        segments: list[_Ancillary] = [(_SOL_UDP, _UDP_SEGMENT, size)]
        self.socket.sendmsg([b"".join(datagrams)], segments + source, 0, address)

    def _do_without(self, error: OSError, address: SocketAddress, size: int) -> bool:
        """Whether datagrams sent one by one may pass where a burst was refused; remember it."""
        if error.errno == errno.EIO:
            # The device below has no checksum offload, which bursts need
            self._segmentation = False
            return True
        if error.errno in (errno.EINVAL, errno.EMSGSIZE):
            # Only whole datagrams may be fragmented, and these are longer than the path's MTU
            if len(self._narrow_paths) >= _MOST_REMEMBERED:
                self._narrow_paths.clear()
            self._narrow_paths[address] = _NarrowPath(size - 1)
            return True
        return False

    def _source(self, path: PeerPath) -> list[_Ancillary]:
        """What makes a datagram leave from the address that the peer spoke to."""
        if not path.local_address:
            return []
        if not self._is_ipv6:
            packed = socket.inet_pton(socket.AF_INET, path.local_address)
            return [(socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + packed + bytes(4))]
        packed = socket.inet_pton(socket.AF_INET6, path.local_address)
        interface = path.address[3] if len(path.address) == 4 else 0
        return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, packed + interface.to_bytes(4, sys.byteorder))]


class _NarrowPath:
    """A path on which longer datagrams than these went in no burst, some time ago."""

    __slots__ = ("_left", "longest_bytes")

    def __init__(self, longest_bytes: int) -> None:
        self.longest_bytes = longest_bytes
        self._left = DATAGRAMS_ALONE

    def may_be_over(self) -> bool:
        """Whether so many went alone that a burst is worth a trial."""
        self._left -= 1
        return self._left < 0


class _Kind(NamedTuple):
    """What a socket can do beside receiving."""

    tells_local: bool
    shares_port: bool
    receive_buffer_bytes: int


def _open_socket(host: str, port: int, ipv6_only: bool, kind: _Kind) -> socket.socket:
    is_ipv6 = ":" in host
    opened = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if is_ipv6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(ipv6_only))
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        if not is_ipv6 or not ipv6_only:
            opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        if kind.shares_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind.tells_local and host in _WILDCARDS:
            if is_ipv6:
                opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            else:
                opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        with suppress(OSError):  # an older kernel gives datagrams one by one
            opened.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        buffers_bytes = (SOCKET_BUFFER_BYTES, kind.receive_buffer_bytes)
        for (forced, modest), size_bytes in zip(_BUFFER_OPTIONS, buffers_bytes, strict=True):
            try:
                opened.setsockopt(socket.SOL_SOCKET, forced, size_bytes)
            except PermissionError:
                opened.setsockopt(socket.SOL_SOCKET, modest, size_bytes)
        opened.bind((host, port))
    except OSError:
        opened.close()
        raise
    return opened


def _ignore(path: PeerPath, datagram: bytes) -> None:
    """Nobody listens yet."""


def _ignore_all(path: PeerPath, datagrams: list[bytes]) -> None:
    """Nobody listens yet."""
