"""An open tun device of the Linux kernel, as the packet engine uses it.

What was made with the descriptor goes when it is closed, so it is gone even after the process
was killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.interfaces import IDescriptorDevice
from anyvpn.tun.descriptor import OpenedTun, adopt_descriptor

# Ours: the longest frame of the kernel, 64 KB of packet behind a header
_LONGEST_FRAME_BYTES = 65_536 + 16


def adopt(reactor: IReactorFDSet, descriptor: int, mtu_bytes: int) -> LinuxTunDevice:
    """A device from a descriptor that another process opened and configured, now ours to close.

    Raises: TunUnavailable: the descriptor is none of a tun device without packet information.
    """
    return LinuxTunDevice(reactor, adopt_descriptor(descriptor), mtu_bytes)


@implementer(IDescriptorDevice, IReadDescriptor)
class LinuxTunDevice:
    """Itself what the reactor watches; `closed` is called once, when it is closed."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        opened: OpenedTun,
        mtu_bytes: int,
        closed: Callable[[], None] | None = None,
    ) -> None:
        self.name = opened.name
        self.mtu_bytes = mtu_bytes
        self.vnet_header_bytes = opened.vnet_header_bytes
        self.takes_datagrams = "UDP" in opened.offloads
        self._reactor = reactor
        self._descriptor = opened.descriptor
        self._further = opened.further
        self._closed = closed
        self._packets_ready: Callable[[], None] | None = None
        self.on_lost: Callable[[str], None] = _ignore

    def start_reading(self, packets_ready: Callable[[], None]) -> None:
        """Call `packets_ready` on the reactor's thread whenever packets wait."""
        self._packets_ready = packets_ready
        self._close_further()  # the kernel would give them packets that nobody reads
        if self._descriptor >= 0:
            self._reactor.addReader(self)

    def read_packets(self, limit: int) -> list[bytes]:
        """Up to `limit` frames that wait now; none from a device that is gone."""
        frames: list[bytes] = []
        descriptor = self._descriptor
        if descriptor < 0:
            return frames
        try:
            with suppress(BlockingIOError):  # all that wait are read
                for _ in range(limit):
                    frames.append(os.read(descriptor, _LONGEST_FRAME_BYTES))
        except OSError as error:
            self.lost(error.strerror or str(error))
        return frames

    def write_packets(self, packets: Iterable[bytes]) -> int:
        """Hand frames to the kernel; gives the number that it refused."""
        refused = 0
        descriptor = self._descriptor
        for packet in packets:
            try:
                os.write(descriptor, packet)
            except OSError:
                refused += 1
        return refused

    async def close(self) -> None:
        """Remove the device, and with it its addresses and routes; then call `closed`."""
        self._let_go()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()

    def descriptors(self) -> tuple[int, ...]:
        """Those of its queues; none when it is closed."""
        return () if self._descriptor < 0 else (self._descriptor, *self._further)

    def fileno(self) -> int:
        """The descriptor that the reactor watches; -1 when it is closed."""
        return self._descriptor

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return f"tun {self.name}"

    def doRead(self) -> None:
        """Packets wait."""
        if self._packets_ready is not None:
            self._packets_ready()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up: somebody removed the device."""
        self.lost(reason.getErrorMessage())

    def lost(self, reason: str) -> None:
        """The device is gone: tell the owner, once."""
        if self._descriptor >= 0:
            self._let_go()
            self.on_lost(f"the tun device {self.name} is gone ({reason})")

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            if self._packets_ready is not None:
                self._reactor.removeReader(self)
            descriptor, self._descriptor = self._descriptor, -1
            self._close_further()
            os.close(descriptor)

    def _close_further(self) -> None:
        further, self._further = self._further, ()
        for each in further:
            os.close(each)


def _ignore(reason: str) -> None:
    """Nobody minds."""
