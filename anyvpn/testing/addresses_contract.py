"""What every address allocator must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from anyvpn.errors import AddressesExhausted
from anyvpn.interfaces import IAddressAllocator
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.outcomes import error_of

BOTH = frozenset((4, 6))
IPV4 = frozenset((4,))
IPV6 = frozenset((6,))
POLICY = GroupPolicy()
ALICE = Identity("alice")


class AddressesContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`, and say how to make yours."""

    def make_addresses(self) -> IAddressAllocator:
        """An allocator with IPv4 and IPv6 addresses: exactly `ipv4_addresses` of IPv4."""
        raise NotImplementedError

    ipv4_addresses = 5

    async def test_interface_is_provided(self) -> None:
        verifyObject(IAddressAllocator, self.make_addresses())

    async def test_lease_has_the_families_that_were_asked_for(self) -> None:
        addresses = self.make_addresses()
        for families in (IPV4, IPV6, BOTH):
            lease = await addresses.lease(ALICE, POLICY, families, None)
            assert {each.version for each in lease.addresses} == families, lease

    async def test_policy_without_a_family_keeps_it_away(self) -> None:
        addresses = self.make_addresses()
        lease = await addresses.lease(ALICE, GroupPolicy(ipv6=False), BOTH, None)
        assert lease.ipv6 is None
        lease = await addresses.lease(ALICE, GroupPolicy(ipv4=False), BOTH, None)
        assert lease.ipv4 is None
        await error_of(
            addresses.lease(ALICE, GroupPolicy(ipv4=False), IPV4, None), AddressesExhausted
        )

    async def test_addresses_lie_in_the_gateway_s_networks_and_are_not_its_own(self) -> None:
        addresses = self.make_addresses()
        own = addresses.gateway_addresses
        for number in range(self.ipv4_addresses):
            lease = await addresses.lease(Identity(f"user{number}"), POLICY, BOTH, None)
            for address in lease.addresses:
                assert any(address in each.network for each in own), lease
                assert address not in [each.ip for each in own], lease

    async def test_nobody_shares_an_address(self) -> None:
        addresses = self.make_addresses()
        leases = [
            await addresses.lease(Identity(f"user{number % 2}"), POLICY, BOTH, None)
            for number in range(self.ipv4_addresses)
        ]
        lent = [address for lease in leases for address in lease.addresses]
        assert len(set(lent)) == 2 * self.ipv4_addresses, lent

    async def test_exhausted_addresses_are_refused_until_one_is_released(self) -> None:
        addresses = self.make_addresses()
        leases = [
            await addresses.lease(Identity(f"user{number}"), POLICY, IPV4, None)
            for number in range(self.ipv4_addresses)
        ]
        await error_of(addresses.lease(ALICE, POLICY, BOTH, None), AddressesExhausted)
        await addresses.release(leases[1])
        assert (await addresses.lease(ALICE, POLICY, IPV4, None)).ipv4 == leases[1].ipv4

    async def test_releasing_twice_does_no_harm(self) -> None:
        addresses = self.make_addresses()
        lease = await addresses.lease(ALICE, POLICY, BOTH, None)
        other = await addresses.lease(Identity("bob"), POLICY, BOTH, None)
        await addresses.release(lease)
        await addresses.release(lease)
        third = await addresses.lease(Identity("bob"), POLICY, BOTH, None)
        assert not set(third.addresses) & set(other.addresses)

    async def test_wish_is_granted_when_it_is_free(self) -> None:
        """What a restarted gateway does with the sessions that it finds in its store."""
        wishes = []
        before = self.make_addresses()
        for number in range(self.ipv4_addresses):
            user = Identity(f"user{number % 2}")
            wishes.append((user, await before.lease(user, POLICY, BOTH, None)))
        after = self.make_addresses()
        for user, wish in reversed(wishes):
            assert await after.lease(user, POLICY, BOTH, wish) == wish

    async def test_wish_of_what_is_lent_gets_something_else(self) -> None:
        addresses = self.make_addresses()
        wish = await addresses.lease(Identity("bob"), POLICY, BOTH, None)
        lease = await addresses.lease(ALICE, POLICY, BOTH, wish)
        assert not set(lease.addresses) & set(wish.addresses)

    async def test_gateway_s_own_address_is_not_granted(self) -> None:
        addresses = self.make_addresses()
        for own in addresses.gateway_addresses:
            wish = Lease(ipv4=own) if own.version == 4 else Lease(ipv6=own)
            lease = await addresses.lease(ALICE, POLICY, BOTH, wish)
            assert own.ip not in lease.addresses
