"""The tun contract can be kept, and breaking it is noticed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from unittest import TestCase, TestResult

from zope.interface import implementer

from anyvpn.interfaces import IRoutedTunDevice, ITunBackend
from anyvpn.model.group_policy import Network
from anyvpn.testing.tun_contract import TunContract


@implementer(IRoutedTunDevice)
class QueueTun:
    """The least that keeps the contract."""

    name = "queue0"
    vnet_header_bytes = 0
    takes_datagrams = False

    def __init__(self, mtu_bytes: int) -> None:
        self.mtu_bytes = mtu_bytes
        self.waiting: list[bytes] = []
        self.written: list[bytes] = []
        self.packets_ready: Callable[[], None] = lambda: None
        self.on_lost: Callable[[str], None] = lambda _: None
        self.closed = False
        self.routes: frozenset[Network] = frozenset()

    def start_reading(self, packets_ready: Callable[[], None]) -> None:
        self.packets_ready = packets_ready

    def read_packets(self, limit: int) -> list[bytes]:
        packets, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return packets

    def write_packets(self, packets: Iterable[bytes]) -> int:
        taken = list(packets)
        if self.closed:
            return len(taken)
        self.written += taken
        return 0

    async def set_routes(self, networks: Collection[Network]) -> None:
        self.routes = frozenset(networks)

    async def close(self) -> None:
        self.closed = True
        self.waiting = []


@implementer(ITunBackend)
class QueueTunBackend:
    """Makes them."""

    device_class = QueueTun

    async def open(self, addresses: object, mtu_bytes: int) -> QueueTun:
        return self.device_class(mtu_bytes)


class QueueTunTests(TunContract, TestCase):
    """The contract itself."""

    def make_backend(self) -> ITunBackend:
        return QueueTunBackend()

    def inject_from_kernel(self, device: IRoutedTunDevice, packets: Sequence[bytes]) -> None:
        assert isinstance(device, QueueTun)
        device.waiting += packets
        device.packets_ready()

    def packets_to_kernel(self, device: IRoutedTunDevice) -> list[bytes]:
        assert isinstance(device, QueueTun)
        return device.written

    def routes_to(self, device: IRoutedTunDevice) -> set[Network]:
        assert isinstance(device, QueueTun)
        return set(device.routes)


def failures_with(**broken: object) -> set[str]:
    """The tests of the contract that a device with these methods does not pass."""

    class Case(QueueTunTests):
        """Not collected: it lives in here only."""

        def make_backend(self) -> ITunBackend:
            backend = QueueTunBackend()
            backend.device_class = type("BrokenTun", (QueueTun,), broken)
            return backend

    failed = set()
    for name in dir(Case):
        if name.startswith("test_"):
            result = TestResult()
            Case(name).run(result)
            if not result.wasSuccessful():
                failed.add(name)
    return failed


class BrokenTunTests(TestCase):
    """Each fault fails the claim that it breaks."""

    def test_an_intact_one_passes(self) -> None:
        self.assertEqual(failures_with(), set())

    def test_one_that_ignores_the_limit_fails(self) -> None:
        original = QueueTun.read_packets
        failed = failures_with(read_packets=lambda device, limit: original(device, 1000))
        self.assertIn("test_no_more_are_read_than_asked_for", failed)

    def test_one_that_never_announces_fails(self) -> None:
        failed = failures_with(start_reading=lambda device, packets_ready: None)
        self.assertIn("test_waiting_packets_are_announced", failed)

    def test_one_that_swallows_packets_fails(self) -> None:
        failed = failures_with(write_packets=lambda device, packets: 0)
        self.assertIn("test_packets_are_written_in_order", failed)
        self.assertIn("test_a_closed_device_reads_nothing_and_refuses_everything", failed)

    def test_one_that_reverses_packets_fails(self) -> None:
        original = QueueTun.read_packets
        failed = failures_with(read_packets=lambda device, limit: original(device, limit)[::-1])
        self.assertIn("test_packets_are_read_in_order", failed)

    def test_one_that_keeps_old_routes_fails(self) -> None:
        async def set_routes(device: QueueTun, networks: Collection[Network]) -> None:
            device.routes |= frozenset(networks)

        failed = failures_with(set_routes=set_routes)
        self.assertIn("test_networks_lead_to_the_device_until_others_do", failed)
