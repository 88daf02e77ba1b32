"""The compiled packet engine keeps the contract of all engines, driven by the reactor."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import TestCase

from twisted.internet.task import Clock

from anyvpn.interfaces import IPacketEngine
from anyvpn.model.channels import PeerPath
from anyvpn.model.events import EngineTotals
from anyvpn.packets.compiled_engine import CompiledPacketEngine
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.memory_channels import MemoryDatagrams
from anyvpn.testing.memory_tun import MemoryTun
from anyvpn.testing.packet_engine_contract import PacketEngineContract


class CompiledEngineHooks:
    """An engine between a device and datagrams in memory."""

    def make_engine(self) -> IPacketEngine:
        self.clock = Clock()
        self.clock.advance(1000)
        self.device = MemoryTun()
        self.datagrams = MemoryDatagrams()
        self.compiled_engine = CompiledPacketEngine(self.clock, self.device, self.datagrams)
        self.compiled_engine.start()
        return self.compiled_engine

    def send_from_kernel(self, packets: Sequence[bytes]) -> None:
        self.device.inject(packets)

    def packets_to_kernel(self) -> list[bytes]:
        packets, self.device.written = self.device.written, []
        return packets

    def send_datagrams(self, path: PeerPath, datagrams: Sequence[bytes]) -> None:
        self.datagrams.feed(path, datagrams)

    def datagrams_to(self, path: PeerPath) -> list[bytes]:
        return self.datagrams.take_sent(path)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


class CompiledPacketEngineContractTests(CompiledEngineHooks, PacketEngineContract, TestCase):
    """The contract."""


class TotalsTests(CompiledEngineHooks, TestCase):
    def test_packets_for_nobody_are_counted(self) -> None:
        self.make_engine()
        self.device.inject([ipv4_packet(ANYWHERE, ANYWHERE)] * 4)
        self.assertEqual(self.compiled_engine.totals(), EngineTotals(4, 0, 0))
