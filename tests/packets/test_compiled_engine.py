"""The compiled packet engine keeps the contract of all engines, driven by the reactor."""

from __future__ import annotations

from unittest import TestCase
from unittest.mock import Mock, patch

from anyvpn.model.events import EngineTotals
from anyvpn.model.packet_filter import UDP, FilterRule
from anyvpn.packets.compiled_engine import CompiledPacketEngine
from anyvpn.packets.core_drains import DRAINS_PER_TURN, PACKETS_PER_DRAIN
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


class DrainTests(CompiledEngineHooks, TestCase):
    """What waits in the core for a stream that is Python's."""

    def test_threads_that_are_as_quick_do_not_keep_the_reactor(self) -> None:
        client = InnerClient(7, self.make_engine())
        client.attach()
        tunnel = self.running._tunnels[7]
        core = self.running._core
        packets = [client.packet_to() for _ in range(PACKETS_PER_DRAIN)]
        with patch.object(self.running._drains, "_core", Mock(wraps=core)) as much:
            much.take_waiting.side_effect = [(False, packets)] * 20 + [(False, [])]
            for _ in range(3):  # so often the core may tell of it in the meantime
                self.running._drains.drain(tunnel)
            self.assertEqual(much.take_waiting.call_count, DRAINS_PER_TURN)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.advance(0)
        self.assertEqual(len(client.frames()), 20 * PACKETS_PER_DRAIN)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TotalsTests(CompiledEngineHooks, TestCase):
    def test_packets_for_nobody_are_counted(self) -> None:
        self.make_engine()
        self.device.inject([ipv4_packet(ANYWHERE, ANYWHERE)] * 4)
        self.assertEqual(self.running.totals(), EngineTotals(4, 0, 0))
