"""An adapter without a device: what comes is counted, and pings are all that goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from zope.interface import implementer

from anyvpn.interfaces import IAdapter, IAdapterBackend
from anyvpn.model.adapter import AdapterSettings
from anyvpn.packets.checksums import internet_checksum

# From the protocol (RFC 791 and RFC 792)
_IPV4_HEADER_BYTES = 20
_ICMP = 1
_ECHO_REPLY, _ECHO_REQUEST = 0, 8
_LIFE_HOPS = 64

# Ours
PING_BYTES = 100
"""Of the whole inner packet: as small as those that cost a gateway most."""


def echo_request(source: IPv4Address, destination: IPv4Address) -> bytes:
    """An ICMP packet that its destination sends back."""
    body = bytes((_ECHO_REQUEST,)).ljust(PING_BYTES - _IPV4_HEADER_BYTES, b"\0")
    body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
    head = b"\x45\0" + PING_BYTES.to_bytes(2, "big") + bytes((0, 0, 0, 0, _LIFE_HOPS, _ICMP))
    head += bytes(2) + source.packed + destination.packed
    return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + body


def is_echo_reply(packet: bytes) -> bool:
    """Whether it is what comes back."""
    return (
        len(packet) == PING_BYTES
        and packet[0] == 0x45
        and packet[9] == _ICMP
        and packet[_IPV4_HEADER_BYTES] == _ECHO_REPLY
    )


@implementer(IAdapter)
class NoDevice:
    """One tunnel's end; `on_echo` is told how many answers came at once."""

    name = "none"
    vnet_header_bytes = 0
    takes_datagrams = False

    def __init__(self, settings: AdapterSettings) -> None:
        self.mtu_bytes = settings.mtu_bytes
        self.on_lost: Callable[[str], None] = _never
        self.on_echo: Callable[[int], None] = _not_counted
        self._waiting: list[bytes] = []
        self._packets_ready: Callable[[], None] | None = None

    def send(self, packet: bytes) -> None:
        """Let a packet go to the gateway, as if an application had sent it."""
        if self._packets_ready is not None:
            self._waiting.append(packet)
            self._packets_ready()

    def start_reading(self, packets_ready: Callable[[], None]) -> None:
        """What is sent from now on goes."""
        self._packets_ready = packets_ready

    def read_packets(self, limit: int) -> list[bytes]:
        """What waits."""
        packets, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return packets

    def write_packets(self, packets: Iterable[bytes]) -> int:
        """Count answers; nobody else wants what comes."""
        answers = sum(map(is_echo_reply, packets))
        if answers:
            self.on_echo(answers)
        return 0

    async def apply(self, settings: AdapterSettings) -> None:
        """Be as long as they say."""
        self.mtu_bytes = settings.mtu_bytes

    async def prepare_reconnect(self) -> None:
        """There is nothing to prepare."""

    async def close(self) -> None:
        """Send nothing any more."""
        self._packets_ready = None


@implementer(IAdapterBackend)
class NoDevices:
    """Makes them."""

    async def open(self, settings: AdapterSettings) -> NoDevice:
        """One that is up."""
        return NoDevice(settings)


def _never(reason: str) -> None:
    """What is not there cannot be lost."""


def _not_counted(answers: int) -> None:
    """Nobody has sent a ping yet."""
