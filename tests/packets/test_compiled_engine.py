"""The compiled packet engine keeps the contract of all engines, driven by the reactor."""

from __future__ import annotations

from unittest import TestCase

from anyvpn.model.events import EngineTotals
from anyvpn.packets.compiled_engine import CompiledPacketEngine
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.packet_engine_contract import PacketEngineContract
from tests.packets.test_engine import EngineHooks


class CompiledEngineHooks(EngineHooks):
    kind = CompiledPacketEngine


class CompiledPacketEngineContractTests(CompiledEngineHooks, PacketEngineContract, TestCase):
    """The contract."""


class TotalsTests(CompiledEngineHooks, TestCase):
    def test_packets_for_nobody_are_counted(self) -> None:
        self.make_engine()
        self.device.inject([ipv4_packet(ANYWHERE, ANYWHERE)] * 4)
        self.assertEqual(self.running.totals(), EngineTotals(4, 0, 0))
