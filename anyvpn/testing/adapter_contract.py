"""What every adapter backend must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from anyvpn.interfaces import IAdapter, IAdapterBackend
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Case
else:
    _Case = object

# From the protocol: RFC 791 and RFC 792
_ICMP = 1
_REQUEST, _REPLY = 8, 0

# Ours
GATEWAY = IPv4Address("10.99.0.1")
OWN, OTHER = IPv4Interface("10.99.0.7/24"), IPv4Interface("10.99.0.8/24")
MTU_BYTES = 1400
LOOKS = 300  # so often for what a kernel may take a moment to do
PAUSE_S = 0.02


def settings_for(address: IPv4Interface, mtu_bytes: int = MTU_BYTES) -> AdapterSettings:
    """For a tunnel that leads to its inner network alone, so that a host keeps all other ways."""
    lease = Lease(address, IPv6Interface("fd99::7/64"))
    granted = TunnelSettings(lease, mtu_bytes, split_include=(IPv4Network("10.99.0.0/24"),))
    return AdapterSettings(granted, mtu_bytes)


SETTINGS = settings_for(OWN)


def ping(number: int, destination: IPv4Address = OWN.ip) -> bytes:
    """The packet by which the gateway asks whether the client is there."""
    return _echo(_REQUEST, number, GATEWAY, destination)


def pong(packet: bytes) -> bytes:
    """What the client's host answers to a ping."""
    number = int.from_bytes(packet[26:28], "big")
    return _echo(_REPLY, number, IPv4Address(packet[16:20]), IPv4Address(packet[12:16]))


class AdapterContract(_Case):
    """Say how to make yours, and fill the hooks in.

    The host that the adapter belongs to must answer pings to the tunnel's address, as kernels do.
    """

    def make_backend(self) -> IAdapterBackend:
        """The backend under test."""
        raise NotImplementedError

    async def take_away(self, adapter: IAdapter) -> None:
        """Let the device vanish under the adapter, as when somebody deletes it."""
        raise NotImplementedError

    async def let_it_happen(self, adapter: IAdapter) -> None:  # noqa: ARG002 - not every host
        """Give the host a moment to answer."""
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        await deferLater(cast(IReactorTime, reactor), PAUSE_S)

    async def test_the_interfaces_are_provided(self) -> None:
        verifyObject(IAdapterBackend, self.make_backend())
        verifyObject(IAdapter, await self._open())

    async def test_an_adapter_says_what_it_is(self) -> None:
        adapter = await self._open()
        assert adapter.name
        assert adapter.mtu_bytes == MTU_BYTES, adapter.mtu_bytes
        assert adapter.vnet_header_bytes in (0, 10, 12)
        assert adapter.vnet_header_bytes or not adapter.takes_datagrams

    async def test_packets_pass_in_order_both_ways(self) -> None:
        adapter = await self._open()
        self._write(adapter, 5)
        assert await self._read(adapter, 5) == [0, 1, 2, 3, 4]

    async def test_no_more_are_read_than_asked_for(self) -> None:
        adapter = await self._open()
        self._write(adapter, 5)
        assert await self._read(adapter, 5, limit=2) == [0, 1, 2, 3, 4]
        assert adapter.read_packets(0) == []

    async def test_waiting_packets_are_announced(self) -> None:
        adapter = await self._open()
        announced: list[int] = []
        adapter.start_reading(lambda: announced.extend(_replies(adapter, 10)))
        self._write(adapter, 1)
        for _ in range(LOOKS):
            if announced:
                break
            await self.let_it_happen(adapter)
        assert announced == [0]

    async def test_new_settings_apply_while_it_is_up(self) -> None:
        adapter = await self._open()
        for settings in (settings_for(OWN, 1300), settings_for(OTHER), settings_for(OTHER)):
            await adapter.apply(settings)
            assert adapter.mtu_bytes == settings.mtu_bytes
            lease = settings.granted.lease.ipv4
            assert lease is not None
            self._write(adapter, 2, lease.ip)
            assert await self._read(adapter, 2) == [0, 1], settings

    async def test_a_family_may_come_and_go(self) -> None:
        adapter = await self._open()
        lease = replace(SETTINGS.granted.lease, ipv6=None)
        without = replace(SETTINGS, granted=replace(SETTINGS.granted, lease=lease))
        for settings in (without, SETTINGS):
            await adapter.apply(settings)
            self._write(adapter, 1)
            assert await self._read(adapter, 1) == [0], settings

    async def test_preparing_a_reconnect_interrupts_nothing(self) -> None:
        adapter = await self._open()
        for _ in range(2):
            await adapter.prepare_reconnect()
            self._write(adapter, 1)
            assert await self._read(adapter, 1) == [0]

    async def test_a_closed_one_reads_nothing_and_refuses_everything(self) -> None:
        adapter = await self._open()
        adapter.start_reading(lambda: None)
        await adapter.close()
        assert adapter.read_packets(10) == []
        frames = [bytes(adapter.vnet_header_bytes) + ping(0)] * 3
        assert adapter.write_packets(frames) == 3

    async def test_closing_twice_does_no_harm_and_is_no_loss(self) -> None:
        adapter = await self._open()
        lost: list[str] = []
        adapter.on_lost = lost.append
        adapter.start_reading(lambda: None)
        await adapter.close()
        await adapter.close()
        assert lost == []

    async def test_after_one_there_may_be_another(self) -> None:
        backend = self.make_backend()
        for _ in range(2):
            adapter = await self._open(backend)
            self._write(adapter, 1)
            assert await self._read(adapter, 1) == [0]
            await adapter.close()

    async def test_a_device_that_is_gone_is_told_once(self) -> None:
        adapter = await self._open()
        lost: list[str] = []
        adapter.on_lost = lost.append
        adapter.start_reading(lambda: None)
        await self.take_away(adapter)
        for _ in range(LOOKS):
            if lost:
                break
            adapter.read_packets(10)
            await self.let_it_happen(adapter)
        assert len(lost) == 1 and lost[0], lost
        assert adapter.write_packets([bytes(adapter.vnet_header_bytes) + ping(0)]) == 1
        await adapter.close()
        assert len(lost) == 1, lost

    # --- within -------------------------------------------------------------------------------

    async def _open(self, backend: IAdapterBackend | None = None) -> IAdapter:
        adapter: IAdapter = await (backend or self.make_backend()).open(SETTINGS)
        self.addCleanup(lambda: Deferred.fromCoroutine(adapter.close()))
        return adapter

    def _write(self, adapter: IAdapter, count: int, to: IPv4Address = OWN.ip) -> None:
        header = bytes(adapter.vnet_header_bytes)
        refused = adapter.write_packets(iter([header + ping(each, to) for each in range(count)]))
        assert refused == 0, refused

    async def _read(self, adapter: IAdapter, count: int, limit: int = 100) -> list[int]:
        found: list[int] = []
        for _ in range(LOOKS):
            found += _replies(adapter, limit)
            if len(found) >= count:
                break
            await self.let_it_happen(adapter)
        return found


def _replies(adapter: IAdapter, limit: int) -> list[int]:
    """The numbers of the pings that the packets are answers to; hosts say other things, too."""
    frames = adapter.read_packets(limit)
    assert len(frames) <= limit, len(frames)
    packets = [each[adapter.vnet_header_bytes :] for each in frames]
    return [
        int.from_bytes(each[26:28], "big")
        for each in packets
        if each[:1] == b"\x45" and each[9] == _ICMP and each[20] == _REPLY
    ]


def _echo(kind: int, number: int, source: IPv4Address, destination: IPv4Address) -> bytes:
    message = _summed(struct.pack("!BBHHH", kind, 0, 0, 9, number) + b"are you there?", 2)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0x4000, 64, _ICMP, 0)
    return _summed(head + source.packed + destination.packed, 10) + message


def _summed(text: bytes, at: int) -> bytes:
    """With the Internet's checksum in the two bytes that stand there."""
    checksum = -int.from_bytes(text, "big") % 0xFFFF
    return text[:at] + checksum.to_bytes(2, "big") + text[at + 2 :]
