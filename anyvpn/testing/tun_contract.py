"""What every tun backend and its devices must do."""

from __future__ import annotations

import struct
from collections.abc import Coroutine, Sequence
from ipaddress import IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, TypeVar

from zope.interface.verify import verifyObject

from anyvpn.interfaces import IRoutedTunDevice, ITunBackend
from anyvpn.model.group_policy import Network

if TYPE_CHECKING:
    from unittest import TestCase as _Case
else:
    _Case = object

Result = TypeVar("Result")

# Ours
GATEWAY = IPv4Interface("10.99.0.1/24")
CLIENT = IPv4Interface("10.99.0.7/24")
MTU_BYTES = 1400
NETWORKS: tuple[Network, ...] = (
    IPv4Network("10.98.0.0/16"),
    IPv4Network("10.97.1.0/24"),
    IPv4Network("10.97.2.3/32"),
)


def run_at_once(coroutine: Coroutine[object, object, Result]) -> Result:
    """The result of a coroutine that may not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    coroutine.close()
    raise AssertionError("it waits for the reactor, which does not run yet")


def udp_packet(source: IPv4Interface, destination: IPv4Interface, payload: bytes) -> bytes:
    """An IPv4 packet with good checksums; UDP's is left out, as UDP allows."""
    udp = struct.pack("!HHHH", 4000, 4001, 8 + len(payload), 0) + payload
    addresses = source.ip.packed + destination.ip.packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 9, 0x4000, 64, 17, 0) + addresses
    checksum = -int.from_bytes(header, "big") % 0xFFFF
    return header[:10] + checksum.to_bytes(2, "big") + header[12:] + udp


class TunContract(_Case):
    """Mix it into a TestCase and fill the hooks in; each test opens a device of its own."""

    def make_backend(self) -> ITunBackend:
        """The backend under test."""
        raise NotImplementedError

    def inject_from_kernel(self, device: IRoutedTunDevice, packets: Sequence[bytes]) -> None:
        """Let the other side of the device send these IP packets, to clients."""
        raise NotImplementedError

    def packets_to_kernel(self, device: IRoutedTunDevice) -> list[bytes]:
        """The IP packets that the other side of the device received so far, from clients."""
        raise NotImplementedError

    def routes_to(self, device: IRoutedTunDevice) -> set[Network]:
        """The networks behind clients that lead to the device now."""
        raise NotImplementedError

    def let_events_happen(self, device: IRoutedTunDevice) -> None:
        """Run the reactor once, if the device needs one."""

    def open_device(self) -> IRoutedTunDevice:
        """A device that the test's end closes."""
        device = run_at_once(self.make_backend().open((GATEWAY,), MTU_BYTES))
        self.addCleanup(lambda: run_at_once(device.close()))
        return device

    def framed(self, device: IRoutedTunDevice, packets: Sequence[bytes]) -> list[bytes]:
        """Packets behind headers that say nothing."""
        return [bytes(device.vnet_header_bytes) + packet for packet in packets]

    def to_clients(self, count: int) -> list[bytes]:
        """Packets that differ."""
        return [udp_packet(GATEWAY, CLIENT, b"to client %d" % number) for number in range(count)]

    def from_clients(self, count: int) -> list[bytes]:
        """Packets that differ."""
        return [udp_packet(CLIENT, GATEWAY, b"from client %d" % number) for number in range(count)]

    def read_all(self, device: IRoutedTunDevice) -> list[bytes]:
        """Every packet that waits, without its header; those of other families left out."""
        frames = device.read_packets(1000)
        packets = [frame[device.vnet_header_bytes :] for frame in frames]
        return [packet for packet in packets if packet[:1] == b"\x45" and packet[9] == 17]

    def test_it_keeps_to_the_interfaces(self) -> None:
        self.assertTrue(verifyObject(ITunBackend, self.make_backend()))
        self.assertTrue(verifyObject(IRoutedTunDevice, self.open_device()))

    def test_a_device_says_what_it_is(self) -> None:
        device = self.open_device()
        self.assertTrue(device.name)
        self.assertEqual(device.mtu_bytes, MTU_BYTES)
        self.assertIn(device.vnet_header_bytes, (0, 10, 12))

    def test_nothing_is_read_when_nothing_waits(self) -> None:
        device = self.open_device()
        self.read_all(device)
        self.assertEqual(device.read_packets(10), [])

    def test_packets_are_read_in_order(self) -> None:
        device = self.open_device()
        packets = self.to_clients(5)
        self.inject_from_kernel(device, packets)
        self.assertEqual(self.read_all(device), packets)

    def test_no_more_are_read_than_asked_for(self) -> None:
        device = self.open_device()
        self.read_all(device)
        packets = self.to_clients(5)
        self.inject_from_kernel(device, packets)
        self.assertEqual(device.read_packets(2), self.framed(device, packets[:2]))
        self.assertEqual(device.read_packets(0), [])
        self.assertEqual(device.read_packets(10), self.framed(device, packets[2:]))

    def test_waiting_packets_are_announced(self) -> None:
        device = self.open_device()
        self.read_all(device)
        calls: list[int] = []
        device.start_reading(lambda: calls.append(1))
        self.inject_from_kernel(device, self.to_clients(1))
        self.let_events_happen(device)
        self.assertTrue(calls)

    def test_packets_are_written_in_order(self) -> None:
        device = self.open_device()
        packets = self.from_clients(5)
        self.assertEqual(device.write_packets(self.framed(device, packets)), 0)
        self.assertEqual(self.packets_to_kernel(device), packets)

    def test_any_iterable_is_written(self) -> None:
        device = self.open_device()
        packets = self.from_clients(2)
        self.assertEqual(device.write_packets(iter(self.framed(device, packets))), 0)
        self.assertEqual(self.packets_to_kernel(device), packets)

    def test_networks_lead_to_the_device_until_others_do(self) -> None:
        device = self.open_device()
        self.assertEqual(self.routes_to(device), set())
        for networks in (NETWORKS[:2], NETWORKS[:2], NETWORKS[1:], ()):
            run_at_once(device.set_routes(networks))
            self.assertEqual(self.routes_to(device), set(networks))

    def test_any_collection_of_networks_will_do(self) -> None:
        device = self.open_device()
        run_at_once(device.set_routes(dict.fromkeys(NETWORKS)))
        self.assertEqual(self.routes_to(device), set(NETWORKS))

    def test_a_closed_device_reads_nothing_and_refuses_everything(self) -> None:
        device = self.open_device()
        device.start_reading(lambda: None)
        self.inject_from_kernel(device, self.to_clients(2))
        run_at_once(device.close())
        self.assertEqual(device.read_packets(10), [])
        self.assertEqual(device.write_packets(self.framed(device, self.from_clients(3))), 3)

    def test_closing_twice_does_no_harm(self) -> None:
        device = self.open_device()
        run_at_once(device.close())
        run_at_once(device.close())
