"""Reads what the kernel sends to clients; what is too much for the moment waits in fair turns.

A tun device has one queue for all tunnels, which drops what comes last: whoever has filled it
stays ahead, since the TCP of others finds no room in it and slows down. So who falls behind reads
more than is sent, and keeps that in a queue of its own, which is fair. A tunnel that has the device
for itself needs no turns, and loses less in the kernel's queue, which is longer.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from anyvpn.interfaces import ITunDevice
from anyvpn.packets.fair_queue import FairQueue
from anyvpn.packets.offload import packets_in
from anyvpn.packets.routing import Routes
from anyvpn.packets.tunnels import Tunnel

log = Logger()

# From the protocol: RFC 791 and RFC 8200, both headers without options
_HEADER_BYTES = 40

# Ours
FRAMES_PER_READ = 16
FRAMES_PER_WAKE = 64
BYTES_PER_WAKE = 512 << 10
"""A wake that finds more leaves the rest to the next one, so that the reactor goes on."""
MOST_WAITING_BYTES = 1 << 20
"""When the queue is full: what a core sends in 6 ms, and two turns for each of thirty tunnels."""
MOST_FOR_ALL_BYTES = 2 * MOST_WAITING_BYTES
"""When nothing more is read: tunnels with less than their share may add to a full queue."""
FRAMES_KEPT_PER_WAKE = 3 * FRAMES_PER_WAKE
"""How many are read to wait, or to be dropped: reading those must not be all that is done."""
ALONE_AFTER_S = 1.0
"""Who has had the device for itself for so long needs no turns."""


class DeviceReader:
    """Hands frames to `frames_read`, some at a time, those of a tunnel in their order."""

    def __init__(
        self,
        reactor: IReactorTime,
        device: ITunDevice,
        routes: Routes[Tunnel],
        frames_read: Callable[[list[bytes]], None],
    ) -> None:
        self._reactor = reactor
        self._device = device
        self._routes = routes
        self._frames_read = frames_read
        self._queue: FairQueue[Tunnel | None] = FairQueue(MOST_WAITING_BYTES)
        self._next_turn: IDelayedCall | None = None
        self._shared_until_s = 0.0
        self._running = False

    def start(self) -> None:
        """Begin to read."""
        self._running = True
        self._device.start_reading(self._ready)

    def stop(self) -> None:
        """Read no more, and forget what waits; stopping twice does no harm."""
        self._running = False
        self._queue.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def _ready(self) -> None:
        if not self._running:
            return
        if self._next_turn is None:
            frames, were_all = self._read(FRAMES_PER_WAKE, BYTES_PER_WAKE)
            if were_all or self._is_alone(frames):
                self._hand_over(frames)
                return
            self._let_wait(frames)
        room_bytes = MOST_FOR_ALL_BYTES - self._queue.size_bytes
        self._let_wait(self._read(FRAMES_KEPT_PER_WAKE, room_bytes)[0])
        if self._next_turn is None and self._queue.size_bytes:
            self._take_turn()

    def _is_alone(self, frames: list[bytes]) -> bool:
        now_s = self._reactor.seconds()
        if len(set(self._destinations(frames))) > 1:
            self._shared_until_s = now_s + ALONE_AFTER_S
        return now_s >= self._shared_until_s

    def _read(self, most_frames: int, room_bytes: int) -> tuple[list[bytes], bool]:
        """About so many frames, and whether no others wait."""
        frames: list[bytes] = []
        while len(frames) < most_frames and room_bytes > 0:
            some = self._device.read_packets(FRAMES_PER_READ)
            frames += some
            if len(some) < FRAMES_PER_READ:
                return frames, True
            room_bytes -= sum(map(len, some))
        return frames, False

    def _destinations(self, frames: list[bytes]) -> list[Tunnel | None]:
        start = self._device.vnet_header_bytes
        end = start + _HEADER_BYTES
        return [self._routes.destination_of(frame[start:end]) for frame in frames]

    def _let_wait(self, frames: list[bytes]) -> None:
        if not self._running:
            return  # the device is gone, and its owner has stopped us
        for tunnel, frame in zip(self._destinations(frames), frames, strict=True):
            if not self._queue.add(tunnel, frame) and tunnel is not None:
                tunnel.dropped_queue_full += packets_in(frame, self._device.vnet_header_bytes)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._hand_over(self._queue.take(FRAMES_PER_WAKE, BYTES_PER_WAKE))
        if self._queue.size_bytes:
            self._next_turn = self._reactor.callLater(0, self._take_turn)

    def _hand_over(self, frames: list[bytes]) -> None:
        if not frames:
            return
        try:
            self._frames_read(frames)
        except Exception:
            # The reactor would take the device away, and with it everybody's packets
            log.failure("Packets from {device} are lost", device=self._device.name)
