"""The device in memory keeps the contract of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import TestCase

from anyvpn.interfaces import IRoutedTunDevice, ITunBackend
from anyvpn.model.group_policy import Network
from anyvpn.testing.memory_tun import MemoryTun, MemoryTunBackend
from anyvpn.testing.tun_contract import GATEWAY, TunContract, run_at_once


class MemoryTunContractTests(TunContract, TestCase):
    """The contract."""

    def make_backend(self) -> ITunBackend:
        return MemoryTunBackend()

    def inject_from_kernel(self, device: IRoutedTunDevice, packets: Sequence[bytes]) -> None:
        assert isinstance(device, MemoryTun)
        device.inject(packets)

    def packets_to_kernel(self, device: IRoutedTunDevice) -> list[bytes]:
        assert isinstance(device, MemoryTun)
        return device.written

    def routes_to(self, device: IRoutedTunDevice) -> set[Network]:
        assert isinstance(device, MemoryTun)
        return set(device.routes)


class MemoryTunTests(TestCase):
    def test_a_reader_with_a_limit_is_called_until_nothing_waits(self) -> None:
        device = MemoryTun()
        batches: list[list[bytes]] = []
        device.start_reading(lambda: batches.append(device.read_packets(2)))
        device.inject([b"1", b"2", b"3"])
        self.assertEqual(batches, [[b"1", b"2"], [b"3"]])

    def test_what_waited_before_reading_began_is_announced(self) -> None:
        device = MemoryTun()
        device.inject([b"1"])
        read: list[bytes] = []
        device.start_reading(lambda: read.extend(device.read_packets(9)))
        self.assertEqual(read, [b"1"])

    def test_a_backend_remembers_what_it_opened(self) -> None:
        backend = MemoryTunBackend()
        device = run_at_once(backend.open((GATEWAY,), 1300))
        self.assertEqual(backend.devices, [device])
        self.assertEqual(backend.addresses, [(GATEWAY,)])
