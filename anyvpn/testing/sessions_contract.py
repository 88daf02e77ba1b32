"""What every session store must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from types import MappingProxyType

from twisted.internet.defer import Deferred, DeferredList
from zope.interface.verify import verifyObject

from anyvpn.errors import BackendFailed
from anyvpn.interfaces import ISessionStore
from anyvpn.model.authentication import Identity
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.packet_filter import TCP, Direction, FilterRule
from anyvpn.model.session import (
    Connected,
    Dormant,
    Ended,
    EndReason,
    Granted,
    SessionRecord,
    SessionState,
)
from anyvpn.model.tunnel_settings import Lease

STATES: tuple[SessionState, ...] = (
    Granted(1_700_000_300.25),
    Connected(1_700_000_001.5),
    Dormant(1_700_001_800.0),
    *map(Ended, EndReason),
)
PLAIN = SessionRecord(
    token_digest=b"\x01" * 32,
    session_id=1,
    identity=Identity("alice"),
    profile="staff",
    policy=GroupPolicy(),
    granted_at_s=1_700_000_000.0,
    state=STATES[0],
)
FULL = SessionRecord(
    token_digest=bytes(range(224, 256)),
    session_id=2**31 - 1,
    identity=Identity(
        "bob\0'\udcff\n\u00e9",
        frozenset(("staff", "admins")),
        MappingProxyType({"mail": ("bob@example.com", "b@example.com"), "none": ()}),
    ),
    profile="engineering",
    policy=GroupPolicy(
        name="full",
        address_pools=("ipv4", "ipv6"),
        dns=(IPv4Address("10.0.0.53"), IPv6Address("fd00::53")),
        nbns=(IPv4Address("10.0.0.54"),),
        split_dns=("corp.example",),
        split_include=(IPv4Network("10.20.0.0/16"), IPv6Network("fd00:20::/48")),
        split_exclude=(IPv6Network("::/0"),),
        banner="two\nlines",
        dtls=False,
        rekey_s=0.5,
        proxy=MappingProxyType({"MSIE-Proxy-Server": "proxy.example:3128"}),
        dynamic_split_include=("example.org",),
        filters=(
            FilterRule(True, Direction.BOTH, TCP, IPv4Network("10.0.0.0/8"), ((1, 2), (443, 443))),
            FilterRule(False, client_network=IPv6Network("fd00::/64")),
        ),
    ),
    granted_at_s=1_700_000_000.123456,
    state=STATES[2],
    lease=Lease(IPv4Interface("10.1.2.3/24"), IPv6Interface("fd00::3/128")),
    peer_address="2001:db8::7",
    hostname="laptop",
)


class SessionsContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`, and say how to make yours.

    Every store that a test opens is closed by the test.
    """

    def make_sessions(self) -> ISessionStore:
        """An empty store of its own."""
        raise NotImplementedError

    async def test_interface_is_provided(self) -> None:
        store = self.make_sessions()
        verifyObject(ISessionStore, store)
        await store.close()

    async def test_what_was_saved_is_found(self) -> None:
        store = self.make_sessions()
        for record in (PLAIN, FULL):
            await store.save(record)
            found = await store.find(record.token_digest)
            assert found == record, found
            assert found.identity.attributes == record.identity.attributes, found
            assert found.policy.proxy == record.policy.proxy, found
        await store.close()

    async def test_every_state_comes_back(self) -> None:
        store = self.make_sessions()
        for state in STATES:
            await store.save(replace(PLAIN, state=state))
            found = await store.find(PLAIN.token_digest)
            assert found is not None
            assert found.state == state, found
            assert type(found.state) is type(state), found
        await store.close()

    async def test_one_family_leases_come_back(self) -> None:
        store = self.make_sessions()
        for lease in (
            None,
            Lease(ipv4=IPv4Interface("10.1.2.3/8")),
            Lease(ipv6=IPv6Interface("fd00::3/64")),
        ):
            await store.save(replace(PLAIN, lease=lease))
            found = await store.find(PLAIN.token_digest)
            assert found is not None
            assert found.lease == lease, found
        await store.close()

    async def test_saving_again_replaces(self) -> None:
        store = self.make_sessions()
        await store.save(PLAIN)
        await store.save(replace(PLAIN, hostname="laptop"))
        assert await store.sessions() == (replace(PLAIN, hostname="laptop"),)
        await store.close()

    async def test_unknown_digest_finds_nothing(self) -> None:
        store = self.make_sessions()
        await store.save(PLAIN)
        for digest in (b"", b"\0" * 32, PLAIN.token_digest[:-1], PLAIN.token_digest + b"\1"):
            assert await store.find(digest) is None
        await store.close()

    async def test_removed_is_gone_and_the_others_stay(self) -> None:
        store = self.make_sessions()
        await store.save(PLAIN)
        await store.save(FULL)
        await store.remove(PLAIN.token_digest)
        await store.remove(PLAIN.token_digest)
        assert await store.find(PLAIN.token_digest) is None
        assert await store.sessions() == (FULL,)
        await store.close()

    async def test_all_sessions_are_given(self) -> None:
        store = self.make_sessions()
        assert await store.sessions() == ()
        records = [replace(PLAIN, token_digest=bytes([n]) * 32, session_id=n) for n in range(20)]
        for record in records:
            await store.save(record)
        assert set(await store.sessions()) == set(records)
        await store.close()

    async def test_order_of_requests_is_kept(self) -> None:
        """The gateway does not wait for one save before the next."""
        store = self.make_sessions()
        requests = []
        for number in range(50):
            requests.append(store.save(replace(PLAIN, hostname=str(number))))
            if number % 7 == 3:
                requests.append(store.remove(PLAIN.token_digest))
        await DeferredList([Deferred.fromCoroutine(each) for each in requests])
        found = await store.find(PLAIN.token_digest)
        assert found is not None
        assert found.hostname == "49", found
        await store.close()

    async def test_closing_twice_does_no_harm(self) -> None:
        store = self.make_sessions()
        await store.save(PLAIN)
        await store.close()
        await store.close()


class PersistentSessionsContract(SessionsContract):
    """A store that outlives its process does this as well."""

    def reopen(self) -> ISessionStore:
        """A store over what the last one of `make_sessions` has kept."""
        raise NotImplementedError

    async def test_sessions_outlive_the_store(self) -> None:
        store = self.make_sessions()
        await store.save(FULL)
        await store.save(PLAIN)
        await store.close()
        again = self.reopen()
        assert set(await again.sessions()) == {PLAIN, FULL}
        assert await again.find(FULL.token_digest) == FULL
        await again.close()

    async def test_closing_waits_for_what_was_asked_before(self) -> None:
        store = self.make_sessions()
        saved = Deferred.fromCoroutine(store.save(PLAIN))
        await store.close()
        await saved
        again = self.reopen()
        assert await again.sessions() == (PLAIN,)
        await again.close()

    async def test_closed_store_says_so(self) -> None:
        store = self.make_sessions()
        await store.close()
        try:
            await store.save(PLAIN)
        except BackendFailed:
            return
        raise AssertionError("a closed store took a session")
