"""Lends inner addresses from IPv4 and IPv6 pools, the same ones again to the same user."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_interface,
)
from itertools import accumulate

import attrs
from zope.interface import implementer

from anyvpn.errors import AddressesExhausted
from anyvpn.interfaces import IAddressAllocator
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import Address, GroupPolicy, Network
from anyvpn.model.tunnel_settings import Lease

Range = tuple[int, int]
"""First and last address of a range, both in it, as numbers."""

# From the protocol: the client gets its IPv6 address alone (protocol reference, section 14.3)
IPV6_LEASE_PREFIX = 128


@attrs.frozen
class PoolSettings:
    """One network, and which of its addresses may be lent."""

    name: str = attrs.field(metadata={"help": "Name by which policies choose this pool."})
    network: Network = attrs.field(
        metadata={"help": "The network of the pool, IPv4 or IPv6, with its prefix length."}
    )
    gateway: Address | None = attrs.field(
        default=None,
        metadata={"help": "The gateway's own address in it; the first one when not given."},
    )
    first: Address | None = attrs.field(
        default=None, metadata={"help": "First address to lend; the network's first by default."}
    )
    last: Address | None = attrs.field(
        default=None, metadata={"help": "Last address to lend; the network's last by default."}
    )
    exclude: tuple[Network, ...] = attrs.field(
        default=(), metadata={"help": "Addresses or networks within it that are never lent."}
    )

    def __attrs_post_init__(self) -> None:
        for key in ("gateway", "first", "last"):
            address = getattr(self, key)
            if address is not None and address not in self.network:
                raise ValueError(f"{key} {address} must lie within {self.network}")
        usable = _usable(self.network)
        if not usable[0] <= int(self.gateway_address) <= usable[1]:
            raise ValueError(
                f"gateway must not be the network's own or its broadcast address: {self.gateway}"
            )
        for network in self.exclude:
            if network.version != self.network.version:
                raise ValueError(f"exclude must hold IPv{self.network.version}, not {network}")
        if not _without(self.lendable, [int(self.gateway_address)], self.exclude):
            raise ValueError(
                f"no address of {self.network} is left to lend besides the gateway's own: "
                "use a larger network, or a wider range from first to last"
            )

    @property
    def gateway_address(self) -> Address:
        """The gateway's own address in this network."""
        return self.gateway or self.network[min(1, self.network.num_addresses - 1)]

    @property
    def lendable(self) -> Range:
        """The range from first to last, without the network's own and broadcast addresses."""
        usable_first, usable_last = _usable(self.network)
        first = usable_first if self.first is None else max(usable_first, int(self.first))
        last = usable_last if self.last is None else min(usable_last, int(self.last))
        return first, last


@attrs.frozen
class Settings:
    """Pools of inner addresses, and addresses that belong to one user each."""

    pools: tuple[PoolSettings, ...] = attrs.field(
        metadata={"help": "The pools, in the order in which they are used."}
    )
    static: dict[str, tuple[Address, ...]] = attrs.field(
        factory=dict, metadata={"help": "User to the addresses that are lent to this user alone."}
    )
    predictable: bool = attrs.field(
        default=True,
        metadata={"help": "Whether a user gets the same address again whenever it is free."},
    )

    def __attrs_post_init__(self) -> None:
        problems = [*_overlaps(self.pools), *_wrong_static(self.pools, self.static)]
        if not self.pools:
            problems.append("pools needs at least one pool")
        if problems:
            raise ValueError("; ".join(problems))


def build(settings: Settings, reactor: object) -> AddressPools:  # noqa: ARG001 - no clock needed
    """What the configuration `backend = "pool"` makes."""
    return AddressPools(settings)


@implementer(IAddressAllocator)
class AddressPools:
    """All pools; what is lent lives in memory, sessions bring theirs back as wishes."""

    def __init__(self, settings: Settings) -> None:
        self._static = settings.static
        belonging = {address for addresses in settings.static.values() for address in addresses}
        self._pools = {
            each.name: _Pool(each, belonging, settings.predictable) for each in settings.pools
        }
        self.gateway_addresses: tuple[IPv4Interface | IPv6Interface, ...] = tuple(
            ip_interface((each.gateway_address, each.network.prefixlen)) for each in settings.pools
        )

    async def lease(
        self, identity: Identity, policy: GroupPolicy, families: frozenset[int], wish: Lease | None
    ) -> Lease:
        """One address of each family that is asked for, allowed by the policy and has a pool.

        Raises: AddressesExhausted: a family has pools but no free address, or none has a pool.
        """
        pools = self._pools_of(policy)
        wished = wish.addresses if wish is not None else ()
        allowed = {4: policy.ipv4, 6: policy.ipv6}
        lent: list[Address] = []
        try:
            for version in sorted(families):
                of_this_version = [each for each in pools if each.network.version == version]
                wanted = (*self._of_policy(policy), *self._static.get(identity.user, ()))
                own = [each for each in wanted if each.version == version]
                if allowed.get(version) and (of_this_version or own):
                    lent.append(self._lend(identity.user, of_this_version, own, wished, version))
        except AddressesExhausted:
            for address in lent:
                self._take_back(address)
            raise
        if not lent:
            asked = " or ".join(f"IPv{version}" for version in sorted(families)) or "nothing"
            raise AddressesExhausted(
                f'policy "{policy.name}" has no pool for what the client asks for ({asked})'
            )
        return self._as_lease(lent)

    async def release(self, lease: Lease) -> None:
        """Take the addresses back; what is not lent is left alone."""
        for address in lease.addresses:
            self._take_back(address)

    def _of_policy(self, policy: GroupPolicy) -> Iterator[Address]:
        """What the policy wants this user to have. Raises: AddressesExhausted: it cannot be."""
        for address in (policy.ipv4_address, policy.ipv6_address):
            if address is None:
                continue
            home = next((each for each in self._pools.values() if address in each.network), None)
            if home is None or not home.has(address):
                raise AddressesExhausted(
                    f'policy "{policy.name}" wants {address}, which lies in no pool\'s network '
                    "or is no host's"
                )
            yield address

    def _pools_of(self, policy: GroupPolicy) -> list[_Pool]:
        if not policy.address_pools:
            return list(self._pools.values())
        unknown = [name for name in policy.address_pools if name not in self._pools]
        if unknown:
            raise AddressesExhausted(
                f'policy "{policy.name}" names pools that do not exist: {", ".join(unknown)}; '
                f"there are {', '.join(self._pools)}"
            )
        return [self._pools[name] for name in policy.address_pools]

    def _lend(
        self,
        user: str,
        pools: list[_Pool],
        own: list[Address],
        wished: tuple[Address, ...],
        version: int,
    ) -> Address:
        candidates = [each for each in wished if each in own]
        candidates += [
            each
            for each in wished
            if each.version == version and any(pool.lends(each) for pool in pools)
        ]
        # the wish goes before the user's own: a session must get back what it had
        for address in (*candidates, *own):
            home = self._home(address)
            if home.is_free(address):
                home.lent.add(int(address))
                return address
        for pool in pools:
            free = pool.next_free(user)
            if free is not None:
                pool.lent.add(int(free))
                return free
        names = ", ".join(pool.name for pool in pools) or "static addresses"
        raise AddressesExhausted(f"no IPv{version} address is free in {names}")

    def _home(self, address: Address) -> _Pool:
        return next(pool for pool in self._pools.values() if address in pool.network)

    def _take_back(self, address: Address) -> None:
        for pool in self._pools.values():
            if address in pool.network:
                pool.lent.discard(int(address))

    def _as_lease(self, addresses: Iterable[Address]) -> Lease:
        ipv4 = ipv6 = None
        for address in addresses:
            if isinstance(address, IPv4Address):
                ipv4 = IPv4Interface((address, self._home(address).network.prefixlen))
            else:
                ipv6 = IPv6Interface((address, IPV6_LEASE_PREFIX))
        return Lease(ipv4, ipv6)


class _Pool:
    """One pool: the ranges that may be lent, numbered through, and what is lent now."""

    def __init__(self, settings: PoolSettings, belonging: set[Address], predictable: bool) -> None:
        self.name = settings.name
        self.network = settings.network
        self._gateway_address = settings.gateway_address
        self.lent: set[int] = set()
        self._predictable = predictable
        self._cursor = 0
        reserved = [int(each) for each in belonging if each in settings.network]
        reserved.append(int(settings.gateway_address))
        self._ranges = _without(settings.lendable, reserved, settings.exclude)
        lengths = [last - first + 1 for first, last in self._ranges]
        self._starts = [0, *accumulate(lengths)]

    @property
    def _size(self) -> int:
        return self._starts[-1]

    def has(self, address: Address) -> bool:
        """Whether it is a host of this network, and not the gateway."""
        first, last = _usable(self.network)
        return first <= int(address) <= last and address != self._gateway_address

    def is_free(self, address: Address) -> bool:
        """Whether nobody has it now."""
        return int(address) not in self.lent

    def lends(self, address: Address) -> bool:
        """Whether it is one of those that anybody may get."""
        number = int(address)
        return address.version == self.network.version and any(
            first <= number <= last for first, last in self._ranges
        )

    def next_free(self, user: str) -> Address | None:
        """The user's own place in the pool or the next free one after it; None when all are lent.

        The search passes lent addresses only, never all of a network.
        """
        if not self._size:
            return None
        place = _place(user, self._size) if self._predictable else self._cursor
        for first, last in self._from(place):
            # of numbers, as there may be thousands that are lent
            number = next((each for each in range(first, last + 1) if each not in self.lent), None)
            if number is not None:
                self._cursor = (place + number + 1 - first) % self._size
                return IPv4Address(number) if self.network.version == 4 else IPv6Address(number)
            place += last + 1 - first
        return None

    def _from(self, place: int) -> Iterator[Range]:
        """The ranges from that place on, once round."""
        which = bisect_right(self._starts, place) - 1
        first, last = self._ranges[which]
        middle = first + place - self._starts[which]
        yield middle, last
        yield from self._ranges[which + 1 :]
        yield from self._ranges[:which]
        yield first, middle - 1


def _place(user: str, size: int) -> int:
    digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest, "big") % size


def _usable(network: Network) -> Range:
    """The hosts of a network; point-to-point and single-address ones have no other addresses."""
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.max_prefixlen - network.prefixlen < 2:
        return first, last
    return first + 1, last - 1 if network.version == 4 else last


def _without(whole: Range, reserved: Iterable[int], excluded: Iterable[Network]) -> list[Range]:
    holes = [(number, number) for number in reserved]
    holes += [(int(each.network_address), int(each.broadcast_address)) for each in excluded]
    ranges = []
    first, last = whole
    for hole_first, hole_last in sorted(holes):
        if first <= min(last, hole_first - 1):
            ranges.append((first, min(last, hole_first - 1)))
        first = max(first, hole_last + 1)
    if first <= last:
        ranges.append((first, last))
    return ranges


def _overlaps(pools: tuple[PoolSettings, ...]) -> Iterator[str]:
    for number, pool in enumerate(pools):
        for other in pools[:number]:
            if pool.name == other.name:
                yield f'two pools have the name "{pool.name}"'
            if pool.network.version == other.network.version and pool.network.overlaps(
                other.network
            ):
                yield f'pool "{pool.name}" ({pool.network}) overlaps "{other.name}"'


def _wrong_static(
    pools: tuple[PoolSettings, ...], static: dict[str, tuple[Address, ...]]
) -> Iterator[str]:
    owners: dict[Address, str] = {}
    for user, addresses in static.items():
        for address in addresses:
            pool = next((each for each in pools if address in each.network), None)
            if address in owners:
                yield f"static: {address} belongs to {owners[address]} and to {user}"
            owners[address] = user
            if pool is None:
                yield f"static: {address} of {user} lies in no pool's network"
            elif address == pool.gateway_address:
                yield f"static: {address} of {user} is the gateway's own"
            elif not _usable(pool.network)[0] <= int(address) <= _usable(pool.network)[1]:
                yield f"static: {address} of {user} is the network's own or its broadcast address"
