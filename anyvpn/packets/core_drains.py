"""Sends what waits in the compiled core for channels that are Python's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IReactorTime

from anyvpn.packets._compiled import Core
from anyvpn.packets.tunnels import MOST_WAITING_PACKETS, Tunnel

# Ours
PACKETS_PER_DRAIN, DRAINS_PER_TURN = 128, 8


class CoreDrains:
    """One drain at a time for each tunnel: the core's threads are as quick as we are.

    `serial_of` gives a tunnel's number in the core, 0 when it is there no more; `guard` has what
    goes wrong with a tunnel cost that tunnel alone.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        core: Core,
        serial_of: Callable[[Tunnel], int],
        guard: Callable[[Tunnel, Callable[[], object]], None],
    ) -> None:
        self._reactor = reactor
        self._core = core
        self._serial_of = serial_of
        self._guard = guard
        self._going_on: set[Tunnel] = set()

    def drain(self, tunnel: Tunnel) -> None:
        """Send what waits, some of it now, the rest in later turns."""
        if tunnel not in self._going_on:
            self._guard(tunnel, partial(self._send_waiting, tunnel))

    def _go_on(self, tunnel: Tunnel) -> None:
        self._going_on.discard(tunnel)
        self.drain(tunnel)

    def _send_waiting(self, tunnel: Tunnel) -> None:
        now_s = self._reactor.seconds()
        for _ in range(DRAINS_PER_TURN):
            serial = self._serial_of(tunnel)
            by_dtls, packets = self._core.take_waiting(serial, PACKETS_PER_DRAIN)
            waiting: list[bytes] = []
            if packets:
                waiting = self._send(tunnel, serial, by_dtls, packets, now_s)
            if waiting:
                self._core.set_cstp(serial, tunnel.cstp is not None, True)
                self._core.put_back(serial, waiting)
            if waiting or not packets:
                self._core.send_waiting(serial)  # the way may be the core's by now
                return
        self._going_on.add(tunnel)
        self._reactor.callLater(0, self._go_on, tunnel)

    def _send(
        self, tunnel: Tunnel, serial: int, by_dtls: int, packets: list[bytes], now_s: float
    ) -> list[bytes]:
        """Send these packets; gives those that have to wait for a stream."""
        taken = 0
        if by_dtls and tunnel.dtls is not None:
            taken = len(packets) - tunnel.dtls.send_data(packets, now_s)
        elif tunnel.cstp is not None:
            taken = tunnel.cstp.send_data(packets, now_s)
        waiting = packets[taken : taken + MOST_WAITING_PACKETS] if not by_dtls else []
        lost = len(packets) - taken - len(waiting)
        self._core.count(serial, taken, sum(map(len, packets[:taken])), lost, 0, 0)
        return waiting
