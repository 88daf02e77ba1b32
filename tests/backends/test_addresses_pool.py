from __future__ import annotations

import time
import unittest
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from anyvpn.backends.addresses_pool import AddressPools, PoolSettings, Settings, build
from anyvpn.errors import AddressesExhausted
from anyvpn.interfaces import IAddressAllocator
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import Address, GroupPolicy
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.addresses_contract import BOTH, IPV4, IPV6, AddressesContract
from anyvpn.testing.outcomes import completed

ALICE = Identity("alice")
BOB = Identity("bob")
OPEN = GroupPolicy()


def pool(name: str, network: str, **more: object) -> PoolSettings:
    return PoolSettings(name, ip_network(network), **more)  # type: ignore[arg-type]


def pools(
    *each: PoolSettings, static: dict[str, tuple[Address, ...]] | None = None, **more: bool
) -> AddressPools:
    return build(Settings(each, static or {}, **more), None)


def lend(
    allocator: AddressPools,
    user: Identity = ALICE,
    policy: GroupPolicy = OPEN,
    families: frozenset[int] = BOTH,
    wish: Lease | None = None,
) -> Lease:
    return completed(allocator.lease(user, policy, families, wish))


def lent_ipv4(allocator: AddressPools, user: Identity = ALICE) -> str:
    lease = lend(allocator, user, families=IPV4)
    assert lease.ipv4 is not None
    return str(lease.ipv4.ip)


class PoolContractTests(AddressesContract, TestCase):
    ipv4_addresses = 5

    def make_addresses(self) -> IAddressAllocator:
        return pools(pool("ipv4", "10.9.0.0/29"), pool("ipv6", "fd09::/64"))


class UnpredictablePoolContractTests(AddressesContract, TestCase):
    ipv4_addresses = 5

    def make_addresses(self) -> IAddressAllocator:
        return pools(pool("ipv4", "10.9.0.0/29"), pool("ipv6", "fd09::/64"), predictable=False)


class SeveralPoolsContractTests(AddressesContract, TestCase):
    ipv4_addresses = 8

    def make_addresses(self) -> IAddressAllocator:
        return pools(
            pool("a", "10.9.0.0/29", exclude=(ip_network("10.9.0.4/31"),)),
            pool("b", "10.9.1.0/24", first=ip_address("10.9.1.200"), last=ip_address("10.9.1.204")),
            pool("c", "fd09::/120"),
        )


class LeaseTests(unittest.TestCase):
    def test_ipv4_comes_with_the_network_and_ipv6_alone(self) -> None:
        lease = lend(pools(pool("a", "10.9.0.0/16"), pool("b", "fd09::/64")))
        assert lease.ipv4 is not None
        assert lease.ipv6 is not None
        assert lease.ipv4.network == IPv4Network("10.9.0.0/16")
        assert lease.ipv6.network.prefixlen == 128
        assert lease.ipv6.ip in IPv6Network("fd09::/64")

    def test_gateway_is_the_first_host_unless_said_otherwise(self) -> None:
        allocator = pools(
            pool("a", "10.9.0.0/24"), pool("b", "fd09::/64", gateway=ip_address("fd09::ffff"))
        )
        assert list(map(str, allocator.gateway_addresses)) == ["10.9.0.1/24", "fd09::ffff/64"]

    def test_small_network_lends_all_but_its_special_addresses(self) -> None:
        allocator = pools(pool("a", "10.9.0.0/29", gateway=ip_address("10.9.0.3")))
        lent = {lent_ipv4(allocator, Identity(f"u{n}")) for n in range(5)}
        assert lent == {f"10.9.0.{n}" for n in (1, 2, 4, 5, 6)}
        with pytest.raises(AddressesExhausted, match=r"no IPv4 address is free in a"):
            lend(allocator)

    def test_point_to_point_network_lends_its_other_address(self) -> None:
        assert lent_ipv4(pools(pool("a", "10.9.0.0/31"))) == "10.9.0.0"
        lease = lend(pools(pool("a", "fd09::/127")))
        assert str(lease.ipv6) == "fd09::/128"

    def test_excluded_addresses_are_never_lent(self) -> None:
        excluded = (ip_network("10.9.0.0/30"), ip_network("10.9.0.5"), ip_network("10.9.0.8/29"))
        allocator = pools(pool("a", "10.9.0.0/28", exclude=excluded))
        lent = {lent_ipv4(allocator, Identity(f"u{n}")) for n in range(3)}
        assert lent == {"10.9.0.4", "10.9.0.6", "10.9.0.7"}

    def test_huge_ipv6_network_is_not_walked_through(self) -> None:
        allocator = pools(pool("a", "fd00::/8", exclude=(ip_network("fd80::/9"),)))
        started_s = time.monotonic()
        for number in range(500):
            lend(allocator, Identity(f"user{number}"))
            lend(allocator, ALICE)
        assert time.monotonic() - started_s < 2.0

    def test_missing_family_leaves_the_other(self) -> None:
        lease = lend(pools(pool("a", "10.9.0.0/24")))
        assert lease.ipv6 is None
        with pytest.raises(AddressesExhausted, match="IPv6"):
            lend(pools(pool("a", "10.9.0.0/24")), families=IPV6)

    def test_refused_second_family_gives_the_first_back(self) -> None:
        allocator = pools(pool("a", "10.9.0.0/30"), pool("b", "fd09::/127"))
        lend(allocator, BOB, families=IPV6)
        for _ in range(2):
            with pytest.raises(AddressesExhausted, match="no IPv6 address"):
                lend(allocator)
        assert lent_ipv4(allocator) == "10.9.0.2"

    @settings(max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["alice", "bob", "carol"]),
                st.sampled_from([IPV4, IPV6, BOTH]),
                st.booleans(),
            ),
            max_size=40,
        )
    )
    def test_whatever_is_asked_nobody_shares_an_address(
        self, requests: list[tuple[str, frozenset[int], bool]]
    ) -> None:
        allocator = pools(pool("a", "10.9.0.0/28"), pool("b", "fd09::/124"))
        held: list[Lease] = []
        released: Lease | None = None
        for user, families, give_back in requests:
            if give_back and held:
                released = held.pop(0)
                completed(allocator.release(released))
                continue
            try:
                held.append(lend(allocator, Identity(user), families=families, wish=released))
            except AddressesExhausted:
                continue
            everything = [address for lease in held for address in lease.addresses]
            assert len(set(everything)) == len(everything)


class PredictableTests(unittest.TestCase):
    def test_user_gets_the_same_address_again_after_a_restart(self) -> None:
        first, second = (pools(pool("a", "10.9.0.0/16")) for _ in range(2))
        lent_ipv4(second, BOB)
        assert lent_ipv4(first) == lent_ipv4(second)

    def test_second_session_gets_the_next_address(self) -> None:
        allocator = pools(pool("a", "10.9.0.0/16"))
        one, two = IPv4Address(lent_ipv4(allocator)), IPv4Address(lent_ipv4(allocator))
        assert int(two) == int(one) + 1

    def test_users_are_spread(self) -> None:
        allocator = pools(pool("a", "10.9.0.0/16"))
        lent = sorted(int(IPv4Address(lent_ipv4(allocator, Identity(f"u{n}")))) for n in range(50))
        assert lent[-1] - lent[0] > 10_000

    def test_unpredictable_address_is_not_given_again_at_once(self) -> None:
        allocator = pools(pool("a", "10.9.0.0/24"), predictable=False)
        lease = lend(allocator)
        completed(allocator.release(lease))
        assert lend(allocator) != lease


class PolicyPoolTests(unittest.TestCase):
    def setUp(self) -> None:
        self.allocator = pools(
            pool("a", "10.9.0.0/30"), pool("b", "10.9.1.0/24"), pool("c", "fd09::/64")
        )

    def test_policy_chooses_its_pools_in_its_order(self) -> None:
        policy = GroupPolicy(address_pools=("b", "a"))
        lease = lend(self.allocator, policy=policy)
        assert lease.ipv4 is not None
        assert lease.ipv4.ip in IPv4Network("10.9.1.0/24")
        assert lease.ipv6 is None

    def test_next_pool_is_used_when_one_is_empty(self) -> None:
        assert lent_ipv4(self.allocator).startswith("10.9.0.")
        assert lent_ipv4(self.allocator).startswith("10.9.1.")

    def test_unknown_pool_is_named(self) -> None:
        with pytest.raises(AddressesExhausted, match="do not exist: z; there are a, b, c"):
            lend(self.allocator, policy=GroupPolicy(address_pools=("z",)))

    def test_wish_from_another_pool_is_not_granted(self) -> None:
        wish = lend(self.allocator, policy=GroupPolicy(address_pools=("b",)))
        completed(self.allocator.release(wish))
        lease = lend(self.allocator, policy=GroupPolicy(address_pools=("a",)), wish=wish)
        assert lease.ipv4 != wish.ipv4


class PolicyAddressTests(unittest.TestCase):
    """Addresses that a directory or a RADIUS server has for a user."""

    def setUp(self) -> None:
        self.pools = pools(pool("ipv4", "10.9.0.0/29"), pool("ipv6", "fd09::/64"))

    def policy(self, ipv4: str = "10.9.0.5", ipv6: str = "fd09::5") -> GroupPolicy:
        return GroupPolicy(ipv4_address=IPv4Address(ipv4), ipv6_address=IPv6Address(ipv6))

    def test_they_are_lent_first(self) -> None:
        lease = lend(self.pools, policy=self.policy())
        assert tuple(map(str, lease.addresses)) == ("10.9.0.5", "fd09::5")

    def test_another_is_lent_when_they_are_taken(self) -> None:
        first, second = (lend(self.pools, policy=self.policy()) for _ in range(2))
        assert not set(first.addresses) & set(second.addresses)

    def test_a_session_that_comes_back_keeps_what_it_had(self) -> None:
        wish = lend(self.pools)
        completed(self.pools.release(wish))
        assert lend(self.pools, policy=self.policy(), wish=wish) == wish

    def test_addresses_that_cannot_be_are_told(self) -> None:
        for ipv4 in ("10.8.0.1", "10.9.0.1", "10.9.0.0", "10.9.0.7"):
            with pytest.raises(AddressesExhausted, match=f'policy "default" wants {ipv4}'):
                lend(self.pools, policy=self.policy(ipv4))


class StaticTests(unittest.TestCase):
    def setUp(self) -> None:
        self.own = (ip_address("10.9.0.9"), ip_address("fd09::9"))
        self.allocator = pools(
            pool("a", "10.9.0.0/28"), pool("b", "fd09::/64"), static={"alice": self.own}
        )

    def test_user_gets_its_own_addresses(self) -> None:
        assert lend(self.allocator).addresses == self.own

    def test_nobody_else_gets_them(self) -> None:
        lent = {lent_ipv4(self.allocator, BOB) for _ in range(12)}
        assert "10.9.0.9" not in lent
        with pytest.raises(AddressesExhausted):
            lend(self.allocator, BOB)
        assert lend(self.allocator).addresses == self.own

    def test_nobody_else_gets_them_by_wishing(self) -> None:
        wish = lend(self.allocator)
        completed(self.allocator.release(wish))
        assert not set(lend(self.allocator, BOB, wish=wish).addresses) & set(self.own)

    def test_second_session_is_lent_from_the_pool(self) -> None:
        lend(self.allocator)
        second = lend(self.allocator)
        assert not set(second.addresses) & set(self.own)

    def test_wish_goes_before_the_own_address(self) -> None:
        """The second session must get its addresses back, whichever comes back first."""
        lend(self.allocator)
        second = lend(self.allocator)
        restarted = pools(
            pool("a", "10.9.0.0/28"), pool("b", "fd09::/64"), static={"alice": self.own}
        )
        assert lend(restarted, wish=second) == second

    def test_own_address_is_given_whatever_pools_the_policy_names(self) -> None:
        policy = GroupPolicy(address_pools=("b",))
        assert lend(self.allocator, policy=policy).addresses == self.own


class SettingsTests(unittest.TestCase):
    def refusal(self, *each: PoolSettings, **static: tuple[Address, ...]) -> str:
        with pytest.raises(ValueError) as caught:
            Settings(each, static)
        return str(caught.value)

    def test_no_pool_is_refused(self) -> None:
        assert "at least one pool" in self.refusal()

    def test_same_name_is_refused(self) -> None:
        text = self.refusal(pool("a", "10.1.0.0/24"), pool("a", "10.2.0.0/24"))
        assert 'the name "a"' in text

    def test_overlap_is_refused(self) -> None:
        text = self.refusal(pool("a", "10.0.0.0/8"), pool("b", "10.2.0.0/24"))
        assert 'pool "b" (10.2.0.0/24) overlaps "a"' in text

    def test_all_problems_are_told_at_once(self) -> None:
        text = self.refusal(
            pool("a", "10.1.0.0/24"),
            u=(ip_address("10.2.0.1"),),
            v=(ip_address("10.1.0.1"),),
            w=(ip_address("10.1.0.255"),),
            x=(ip_address("10.1.0.7"),),
            y=(ip_address("10.1.0.7"),),
        )
        assert "10.2.0.1 of u lies in no pool" in text
        assert "10.1.0.1 of v is the gateway's own" in text
        assert "10.1.0.255 of w is the network's own or its broadcast" in text
        assert "10.1.0.7 belongs to x and to y" in text

    def test_address_outside_of_the_network_is_refused(self) -> None:
        for key in ("gateway", "first", "last"):
            for address in ("10.2.0.1", "fd00::1"):
                with pytest.raises(ValueError, match=f"{key} {address} must lie within"):
                    pool("a", "10.1.0.0/24", **{key: ip_address(address)})

    def test_gateway_must_be_a_host(self) -> None:
        for address in ("10.1.0.0", "10.1.0.255"):
            with pytest.raises(ValueError, match="gateway must not be"):
                pool("a", "10.1.0.0/24", gateway=ip_address(address))

    def test_pool_with_nothing_to_lend_is_refused(self) -> None:
        for network, more in (
            ("10.1.0.1/32", {}),
            ("fd00::1/128", {}),
            ("10.1.0.0/30", {"exclude": (ip_network("10.1.0.2"),)}),
            (
                "10.1.0.0/24",
                {"first": IPv4Address("10.1.0.9"), "last": IPv4Address("10.1.0.8")},
            ),
        ):
            with pytest.raises(ValueError, match=r"no address of .* is left"):
                pool("a", network, **more)

    def test_other_version_cannot_be_excluded(self) -> None:
        with pytest.raises(ValueError, match="must hold IPv4"):
            pool("a", "10.1.0.0/24", exclude=(ip_network("fd00::/64"),))

    def test_ipv6_has_no_broadcast_address(self) -> None:
        allocator = pools(pool("a", "fd09::/126"))
        lent = {lend(allocator, Identity(f"u{n}")).ipv6 for n in range(2)}
        assert {each.ip for each in lent if each} == {
            IPv6Address("fd09::2"),
            IPv6Address("fd09::3"),
        }
