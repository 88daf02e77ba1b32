"""Reads several datagrams of a UDP socket in one system call (recvmmsg).

Python's own calls read one datagram each, and make an address, a list of ancillary data and, at the
end, an exception: half of what receiving costs. Here the kernel writes into slots of one array,
which all sockets share, and each datagram is taken out of it once.

Source: recvmmsg(2), cmsg(3); Linux, include/linux/socket.h, net/ipv4/udp_offload.c.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Sequence
from struct import Struct, calcsize
from typing import Final, Protocol, cast

# From Linux
_SOL_UDP: Final = 17
_MSG_DONTWAIT: Final = 0x40
LONGEST_DATAGRAM_BYTES: Final = 65535
_ANCILLARY_HEADER = Struct("@Nii")
_ALIGNMENT_BYTES: Final = calcsize("@N")
_IPV4_NAME = Struct("!2xH4s")
_IPV6_NAME = Struct("!2xHI16s")

# Ours
DATAGRAMS_PER_CALL: Final = 32
_SLOT_BYTES: Final = 0x10000 + 1600
"""No multiple of a page: else what lies at the beginning of each would share few lines of cache."""
_NAME_BYTES: Final = 32  # an IPv6 address needs 28
_ORIGIN_BYTES: Final = _NAME_BYTES + 128  # three messages, one of them with an IPv6 address
_SLOT_STARTS: Final = tuple(range(0, DATAGRAMS_PER_CALL * _SLOT_BYTES, _SLOT_BYTES))

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Origin = tuple[bytes, bytes]
"""Who has sent a datagram, as `socket_address` reads it, and the packet information of where to."""


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size_bytes", ctypes.c_size_t))


class _Message(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("ancillary", ctypes.c_void_p),
        ("ancillary_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _CountedMessage(ctypes.Structure):
    _fields_ = (("message", _Message), ("size_bytes", ctypes.c_uint))


class _Octets(Protocol):
    """What is known of an array of bytes in C."""

    def __getitem__(self, where: slice) -> bytes:
        """A copy of some of them."""


_MESSAGE_BYTES: Final = ctypes.sizeof(_CountedMessage)
_ORIGINS_AT: Final = DATAGRAMS_PER_CALL * _MESSAGE_BYTES

_receive_messages = ctypes.CDLL(None, use_errno=True).recvmmsg
_receive_messages.argtypes = (
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p),
)


class DatagramReader:
    """Slots for the datagrams of one call.

    Beside the slots lies what the kernel is told and tells of each: a message that points to them,
    and an origin, which is the sender's address with ancillary data behind it.
    """

    def __init__(self) -> None:
        count = DATAGRAMS_PER_CALL
        self._data = (ctypes.c_char * (count * _SLOT_BYTES))()
        self._heads = (ctypes.c_char * (count * (_MESSAGE_BYTES + _ORIGIN_BYTES)))()
        self._pieces = (_Piece * count)()
        messages = (_CountedMessage * count).from_buffer(self._heads)
        origins_at = ctypes.addressof(self._heads) + _ORIGINS_AT
        for index, (counted, piece) in enumerate(zip(messages, self._pieces, strict=True)):
            message = counted.message
            piece.base = ctypes.addressof(self._data) + index * _SLOT_BYTES
            piece.size_bytes = LONGEST_DATAGRAM_BYTES
            message.pieces, message.piece_count = ctypes.addressof(piece), 1
            message.name, message.name_bytes = origins_at + index * _ORIGIN_BYTES, _NAME_BYTES
            message.ancillary = message.name + _NAME_BYTES
            message.ancillary_bytes = _ORIGIN_BYTES - _NAME_BYTES
        self._prepared = self._heads.raw
        self._address = ctypes.addressof(self._heads)
        sizes = memoryview(self._heads).cast("B")[: count * _MESSAGE_BYTES].cast("I")
        field = _CountedMessage.size_bytes.offset // sizes.itemsize
        self._last_origin = b""
        self._last: Origin = (b"", b"")
        self._joined_bytes = 0
        self._sizes_bytes = sizes[field :: _MESSAGE_BYTES // sizes.itemsize]

    def receive(
        self, opened: socket.socket, most: int, batches: dict[Origin, list[bytes]]
    ) -> tuple[int, int]:
        """Add up to `most` of what waits to the batches; gives how many those were, and bytes.

        Those that the kernel has joined are one here, and several in the batch.
        Raises: OSError: such as BlockingIOError when nothing waits.
        """
        self._heads.raw = self._prepared
        count: int = _receive_messages(opened.fileno(), self._address, most, _MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        sizes: list[int] = self._sizes_bytes[:count].tolist()
        heads = cast(_Octets, self._heads)
        origins = heads[_ORIGINS_AT : _ORIGINS_AT + count * _ORIGIN_BYTES]
        first = origins[:_ORIGIN_BYTES]
        if origins == first * count:
            self._take(0, sizes, first, batches)
        else:
            for index, size in enumerate(sizes):
                at = index * _ORIGIN_BYTES
                self._take(index, (size,), origins[at : at + _ORIGIN_BYTES], batches)
        return count, sum(sizes)

    def _take(
        self,
        index: int,
        sizes: Sequence[int],
        origin: bytes,
        batches: dict[Origin, list[bytes]],
    ) -> None:
        """Take what has one origin out of the slots from `index` on."""
        if origin != self._last_origin:
            self._last_origin = origin
            self._joined_bytes, information = _read_ancillary(origin)
            self._last = (origin[:_NAME_BYTES], information)
        batch = batches.setdefault(self._last, [])
        data = cast(_Octets, self._data)
        starts = _SLOT_STARTS[index:]
        joined_bytes = self._joined_bytes
        if not joined_bytes:
            batch += [data[at : at + size] for at, size in zip(starts, sizes)]  # noqa: B905 - fewer
            return
        for at, size in zip(starts, sizes):  # noqa: B905 - fewer
            end = at + size
            # One that nothing was joined to, and that may be empty, has a size as well
            for start in range(at, end, joined_bytes) or (at,):
                batch.append(data[start : min(start + joined_bytes, end)])


def socket_address(name: bytes) -> SocketAddress:
    """The address in the kernel's words as Python has it."""
    if int.from_bytes(name[:2], sys.byteorder) == socket.AF_INET:
        port, packed = _IPV4_NAME.unpack_from(name)
        return socket.inet_ntop(socket.AF_INET, packed), port
    port, flow, packed = _IPV6_NAME.unpack_from(name)
    scope = int.from_bytes(name[_IPV6_NAME.size : _IPV6_NAME.size + 4], sys.byteorder)
    return socket.inet_ntop(socket.AF_INET6, packed), port, flow, scope


def _read_ancillary(origin: bytes) -> tuple[int, bytes]:
    """The size of datagrams that came as one, 0 for a single one, and where they came to."""
    joined_bytes = 0
    local = b""
    at = _NAME_BYTES
    while at + _ANCILLARY_HEADER.size <= len(origin):
        size, level, _ = _ANCILLARY_HEADER.unpack_from(origin, at)
        if size < _ANCILLARY_HEADER.size:
            break
        value = origin[at + _ANCILLARY_HEADER.size : at + size]
        if level == _SOL_UDP:
            joined_bytes = int.from_bytes(value, sys.byteorder)
        else:
            local = value
        at += -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return joined_bytes, local
