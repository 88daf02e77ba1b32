"""Which tunnel an inner address belongs to, in both directions; on bytes, not on objects.

An address is its 4 or 16 bytes as they stand in a packet, so that a slice of the packet finds
its tunnel in a dict. Packets that are too short give a slice that no tunnel has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from anyvpn.model.group_policy import Address, Network

Tunnel = TypeVar("Tunnel")

# From the protocol
_BELOW_VERSION_5 = b"\x50"
"""A packet sorts below this when its first half byte is 4 (or less, which nobody sends)."""
_IPV4_HEADER_BYTES, _IPV6_HEADER_BYTES = 20, 40

# Ours
_NO_ADDRESS = bytes(17)  # longer than any slice that it is compared with


def source_in(packet: bytes) -> bytes:
    """The source address of an IP packet; empty when it is none, or is cut off."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_HEADER_BYTES:
        return packet[12:16]
    if version == 6 and len(packet) >= _IPV6_HEADER_BYTES:
        return packet[8:24]
    return b""


class _Networks(Generic[Tunnel]):
    """Networks of one address length, found by the longest prefix."""

    def __init__(self, address_bytes: int) -> None:
        self._address_bits = address_bytes * 8
        self._by_shift: dict[int, dict[int, Tunnel]] = {}  # in order of rising shifts

    def add(self, network: Network, tunnel: Tunnel) -> None:
        shift = self._address_bits - network.prefixlen
        self._by_shift.setdefault(shift, {})[int(network.network_address) >> shift] = tunnel
        self._by_shift = dict(sorted(self._by_shift.items()))

    def remove(self, network: Network, tunnel: Tunnel) -> None:
        shift = self._address_bits - network.prefixlen
        prefixes = self._by_shift.get(shift, {})
        prefix = int(network.network_address) >> shift
        if prefixes.get(prefix) is tunnel:
            del prefixes[prefix]
        if not prefixes:
            self._by_shift.pop(shift, None)

    def find(self, address: bytes) -> Tunnel | None:
        number = int.from_bytes(address, "big")
        for shift, prefixes in self._by_shift.items():
            tunnel = prefixes.get(number >> shift)
            if tunnel is not None:
                return tunnel
        return None

    def __bool__(self) -> bool:
        return bool(self._by_shift)


class Routes(Generic[Tunnel]):
    """Inner addresses and networks, each with its tunnel.

    Whoever comes later gets the address: a session that comes back does so before its old
    tunnel is gone, and the old one's removal takes nothing from the new one.
    """

    def __init__(self) -> None:
        self._addresses: dict[bytes, Tunnel] = {}
        self._networks: dict[int, _Networks[Tunnel]] = {4: _Networks(4), 16: _Networks(16)}

    def add(
        self, tunnel: Tunnel, addresses: Iterable[Address], networks: Iterable[Network]
    ) -> None:
        """Route these addresses, and the networks behind the client, to the tunnel."""
        for address in addresses:
            self._addresses[address.packed] = tunnel
        for network in networks:
            self._networks[len(network.network_address.packed)].add(network, tunnel)

    def remove(
        self, tunnel: Tunnel, addresses: Iterable[Address], networks: Iterable[Network]
    ) -> None:
        """Forget those of them that are the tunnel's still."""
        for address in addresses:
            if self._addresses.get(address.packed) is tunnel:
                del self._addresses[address.packed]
        for network in networks:
            self._networks[len(network.network_address.packed)].remove(network, tunnel)

    def find(self, address: bytes) -> Tunnel | None:
        """The tunnel of an address, 4 or 16 bytes; None: it lies behind none."""
        tunnel = self._addresses.get(address)
        if tunnel is None:
            networks = self._networks.get(len(address))
            if networks:
                return networks.find(address)
        return tunnel

    def destination_of(self, packet: bytes) -> Tunnel | None:
        """The tunnel behind which a packet goes, if there is one; its first 40 bytes will do."""
        return self.find(packet[16:20] if packet < _BELOW_VERSION_5 else packet[24:40])

    def group_by_destination(
        self, packets: Sequence[bytes]
    ) -> tuple[dict[Tunnel, list[bytes]], list[bytes]]:
        """Packets by the tunnel behind which they go, in order, and those that go elsewhere."""
        groups: dict[Tunnel, list[bytes]] = {}
        elsewhere: list[bytes] = []
        # Packets of one flow come in a row: one comparison each is enough
        last_address: bytes | None = None
        append = elsewhere.append
        for packet in packets:
            address = packet[16:20] if packet < _BELOW_VERSION_5 else packet[24:40]
            if address != last_address:
                last_address = address
                tunnel = self.find(address)
                append = (elsewhere if tunnel is None else groups.setdefault(tunnel, [])).append
            append(packet)
        return groups, elsewhere


class Sources:
    """The inner addresses that a tunnel's client may send from."""

    def __init__(self, addresses: Sequence[Address], networks: Iterable[Network]) -> None:
        self._addresses = tuple(each.packed for each in addresses)
        self._ipv4 = next((each.packed for each in addresses if each.version == 4), _NO_ADDRESS)
        self._ipv6 = next((each.packed for each in addresses if each.version == 6), _NO_ADDRESS)
        self._networks: dict[int, _Networks[Sources]] = {}  # for few clients there are any
        for network in networks:
            size = len(network.network_address.packed)
            self._networks.setdefault(size, _Networks(size)).add(network, self)

    def hold_all(self, packets: Sequence[bytes]) -> bool:
        """Whether all come from the tunnel's own addresses; a quick look at the usual case."""
        ipv4, ipv6 = self._ipv4, self._ipv6
        for packet in packets:
            if packet[12:16] == ipv4:
                if packet[0] >> 4 != 4 or len(packet) < _IPV4_HEADER_BYTES:
                    return False
            elif packet[8:24] != ipv6 or packet[0] >> 4 != 6 or len(packet) < _IPV6_HEADER_BYTES:
                return False
        return True

    def hold(self, address: bytes) -> bool:
        """Whether the client may send from this address, as `source_in` gives it."""
        if address in self._addresses:
            return True
        networks = self._networks.get(len(address))
        return networks is not None and networks.find(address) is not None
