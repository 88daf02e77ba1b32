"""The compiled packet engine keeps the contract of all engines, driven by the reactor."""

from __future__ import annotations

from unittest import TestCase
from unittest.mock import patch

from anyvpn.model.events import EngineTotals
from anyvpn.model.packet_filter import UDP, FilterRule
from anyvpn.packets.compiled_engine import CompiledPacketEngine
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.testing.filter_packets import echo
from anyvpn.testing.inner_client import InnerClient
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.testing.packet_engine_contract import PacketEngineContract
from tests.packets.test_engine import EngineHooks


class CompiledEngineHooks(EngineHooks):
    kind = CompiledPacketEngine


class CompiledPacketEngineContractTests(CompiledEngineHooks, PacketEngineContract, TestCase):
    """The contract."""


class FilteredTunnelTests(CompiledEngineHooks, TestCase):
    def test_a_tunnel_with_filters_is_the_cores_like_any_other(self) -> None:
        client = InnerClient(7, self.make_engine())
        client.attach((), [FilterRule(True, protocol=UDP)])
        client.open_dtls()
        good, bad = (ipv4_packet(client.ipv4, ANYWHERE), echo(client.ipv4, ANYWHERE, 1))
        with patch.object(PythonPacketEngine, "_open_records", side_effect=AssertionError):
            records = client.sealer.seal_packets(0, [bad, good])
            self.datagrams.feed(client.path, records)
        self.assertEqual(self.packets_to_kernel(), [good])
        self.assertEqual(self.running.counters(7).dropped_filtered, 1)


class TotalsTests(CompiledEngineHooks, TestCase):
    def test_packets_for_nobody_are_counted(self) -> None:
        self.make_engine()
        self.device.inject([ipv4_packet(ANYWHERE, ANYWHERE)] * 4)
        self.assertEqual(self.running.totals(), EngineTotals(4, 0, 0))
