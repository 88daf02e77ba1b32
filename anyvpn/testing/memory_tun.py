"""A tun device that is nothing but two lists: what the kernel sends, what it was given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface

from zope.interface import implementer

from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IAdapter, IAdapterBackend, IRoutedTunDevice, ITunBackend
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.group_policy import Network


@implementer(IRoutedTunDevice)
class MemoryTun:
    """Plain packets, without offloads. `written` holds what came from clients.

    `refuse_writes` lets it refuse everything, as a device that is gone does; `refused_routes` are
    networks that it cannot have. `routes` are those that lead to it.
    """

    def __init__(self, name: str = "memory0", mtu_bytes: int = 1500) -> None:
        self.name = name
        self.mtu_bytes = mtu_bytes
        self.vnet_header_bytes = 0
        self.takes_datagrams = False
        self.written: list[bytes] = []
        self.refuse_writes = False
        self.routes: frozenset[Network] = frozenset()
        self.refused_routes: frozenset[Network] = frozenset()
        self.on_lost: Callable[[str], None] = _ignore
        self._waiting: list[bytes] = []
        self._packets_ready: Callable[[], None] | None = None
        self._closed = False

    def inject(self, packets: Sequence[bytes]) -> None:
        """Let the kernel send these to clients; whoever reads is called until it stops reading."""
        if not self._closed:
            self._waiting += packets
            self._announce()

    def start_reading(self, packets_ready: Callable[[], None]) -> None:
        """Call `packets_ready` whenever packets wait."""
        self._packets_ready = packets_ready
        self._announce()

    def read_packets(self, limit: int) -> list[bytes]:
        """Up to `limit` packets that wait now."""
        packets, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return packets

    def write_packets(self, packets: Iterable[bytes]) -> int:
        """Keep packets in `written`; gives the number that was refused."""
        taken = list(packets)
        if self._closed or self.refuse_writes:
            return len(taken)
        self.written += taken
        return 0

    async def set_routes(self, networks: Collection[Network]) -> None:
        """Keep them in `routes`. Raises: TunUnavailable: one is among `refused_routes`."""
        self.routes &= frozenset(networks)
        for each in sorted(self.refused_routes.intersection(networks), key=str):
            raise TunUnavailable(f"{each} is refused")
        self.routes = frozenset(networks)

    async def close(self) -> None:
        """Read nothing and refuse everything from now on."""
        self._closed = True
        self._waiting = []
        self.routes = frozenset()

    def _announce(self) -> None:
        waiting = -1
        while self._packets_ready is not None and len(self._waiting) not in (0, waiting):
            waiting = len(self._waiting)
            self._packets_ready()


@implementer(ITunBackend)
class MemoryTunBackend:
    """Makes them, and remembers each in `devices` with the addresses that it was given."""

    def __init__(self) -> None:
        self.devices: list[MemoryTun] = []
        self.addresses: list[tuple[IPv4Interface | IPv6Interface, ...]] = []

    async def open(
        self, addresses: Sequence[IPv4Interface | IPv6Interface], mtu_bytes: int
    ) -> MemoryTun:
        """A device of its own name."""
        device = MemoryTun(f"memory{len(self.devices)}", mtu_bytes)
        self.devices.append(device)
        self.addresses.append(tuple(addresses))
        return device


@implementer(IAdapter)
class MemoryAdapter(MemoryTun):
    """A client's adapter that is nothing but lists; `applied` holds all its settings in order."""

    def __init__(self, name: str, settings: AdapterSettings) -> None:
        super().__init__(name, settings.mtu_bytes)
        self.applied = [settings]
        self.reconnects_prepared = 0
        self.is_closed = False

    async def apply(self, settings: AdapterSettings) -> None:
        """Keep the settings."""
        self.applied.append(settings)
        self.mtu_bytes = settings.mtu_bytes

    async def prepare_reconnect(self) -> None:
        """Count it."""
        self.reconnects_prepared += 1

    async def close(self) -> None:
        """Read nothing and refuse everything from now on."""
        self.is_closed = True
        await super().close()


@implementer(IAdapterBackend)
class MemoryAdapterBackend:
    """Makes them, and remembers each in `adapters`."""

    def __init__(self) -> None:
        self.adapters: list[MemoryAdapter] = []

    async def open(self, settings: AdapterSettings) -> MemoryAdapter:
        """An adapter of its own name."""
        adapter = MemoryAdapter(f"memory{len(self.adapters)}", settings)
        self.adapters.append(adapter)
        return adapter


def _ignore(reason: str) -> None:
    """Nobody minds."""
