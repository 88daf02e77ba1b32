"""A session registry under a clock, over stores and pools that may be slow or down."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import TypeVar
from unittest import TestCase

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from anyvpn.backends.addresses_pool import AddressPools, PoolSettings
from anyvpn.backends.addresses_pool import Settings as PoolsSettings
from anyvpn.backends.sessions_memory import MemorySessions
from anyvpn.errors import BackendFailed
from anyvpn.gateway.client_networks import ClientNetworks
from anyvpn.gateway.session import Session
from anyvpn.gateway.sessions import SessionRegistry
from anyvpn.gateway.timers import Timers
from anyvpn.model.authentication import Identity
from anyvpn.model.events import Counters, Event, EventKind
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.session import Ended, EndReason, SessionRecord
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.memory_tun import MemoryTun
from anyvpn.testing.outcomes import completed
from tests.dtls.joined import counting_random

NOW_S = 1_700_000_000.0
TOKEN_TIME_S = 300.0
ALICE, BOB = Identity("alice"), Identity("bob")
POLICY = GroupPolicy("office", disconnected_timeout_s=600.0)
PEER = "192.0.2.1"
BOTH = frozenset({4, 6})


Result = TypeVar("Result")


def result_of(started: Deferred[Result]) -> Result:
    """What a Deferred has come to, which must be there by now. Raises what it failed with."""
    results: list[Result | Failure] = []
    started.addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def passage(gate: Deferred[None] | None) -> Deferred[None]:
    """What waits until the gate opens; without one, nothing."""
    if gate is None:
        return succeed(None)
    passed: Deferred[None] = Deferred()
    gate.addCallback(passed.callback)
    return passed


class NotedTunnel:
    """A tunnel that notes what its session tells it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.moved = Counters()
        self.when_told: Callable[[], None] = lambda: None

    def counters(self) -> Counters:
        return self.moved

    def replaced(self) -> None:
        self.told.append("replaced")
        self.when_told()

    def disconnect(self) -> None:
        self.told.append("disconnect")
        self.when_told()

    def suspend(self) -> None:
        self.told.append("suspend")
        self.when_told()


class FailingSessions(MemorySessions):
    """A store that fails as long as `is_down`."""

    is_down = False

    async def save(self, record: SessionRecord) -> None:
        if self.is_down:
            raise BackendFailed("the disk is full")
        await super().save(record)

    async def find(self, token_digest: bytes) -> SessionRecord | None:
        if self.is_down:
            raise BackendFailed("the disk is gone")
        return await super().find(token_digest)

    async def remove(self, token_digest: bytes) -> None:
        if self.is_down:
            raise BackendFailed("the disk is full")
        await super().remove(token_digest)


class SlowSessions(MemorySessions):
    """A store whose answers wait, once there is a `gate`, until it opens."""

    gate: Deferred[None] | None = None

    async def save(self, record: SessionRecord) -> None:
        await passage(self.gate)
        await super().save(record)

    async def find(self, token_digest: bytes) -> SessionRecord | None:
        await passage(self.gate)
        return await super().find(token_digest)

    async def sessions(self) -> tuple[SessionRecord, ...]:
        await passage(self.gate)
        return await super().sessions()


class SlowPools(AddressPools):
    """Addresses of this network and of an IPv6 one; with a `gate` they wait until it opens."""

    gate: Deferred[None] | None = None

    def __init__(self, network: str) -> None:
        ipv4 = PoolSettings("v4", ip_network(network))
        ipv6 = PoolSettings("v6", ip_network("fd09::/64"))
        super().__init__(PoolsSettings((ipv4, ipv6)))

    async def lease(
        self, identity: Identity, policy: GroupPolicy, families: frozenset[int], wish: Lease | None
    ) -> Lease:
        await passage(self.gate)
        return await super().lease(identity, policy, families, wish)


class SessionsCase(TestCase):
    report_interval_s = 0

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_S)
        self.store: MemorySessions = MemorySessions()
        self.events: list[Event] = []
        self.random = counting_random(1)
        self.open_registry()

    def open_registry(self, network: str = "10.9.0.0/29") -> None:
        """A process begins: nothing but the store is what it was."""
        self.addresses = SlowPools(network)
        self.registry = SessionRegistry(
            Timers(self.clock),
            store=self.store,
            addresses=self.addresses,
            networks=ClientNetworks(MemoryTun(), self.addresses),
            tell=self.events.append,
            random=lambda size: self.random(size),
            token_time_s=TOKEN_TIME_S,
            report_interval_s=self.report_interval_s,
        )

    def restart(self) -> int:
        """The process stops and another begins; gives the number of sessions to resume."""
        self.registry.suspend()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.open_registry()
        return completed(self.registry.restore())

    def grant(self, policy: GroupPolicy = POLICY, user: Identity = ALICE) -> tuple[Session, str]:
        return completed(self.registry.grant(user, "Staff", policy, PEER))

    def connect(self, session: Session) -> NotedTunnel:
        completed(self.registry.lease(session, BOTH))
        tunnel = NotedTunnel()
        self.registry.connected(session, tunnel, PEER, "laptop")
        return tunnel

    def find(self, token: str) -> Session | None:
        return completed(self.registry.find(token))

    def saved(self, session: Session) -> SessionRecord | None:
        return completed(self.store.find(session.record.token_digest))

    def ends(self) -> list[tuple[int, str]]:
        """Which sessions ended, and why, according to the log."""
        kinds = {EventKind.SESSION_STARTED, EventKind.SESSION_ENDED}
        self.assertEqual({each.kind for each in self.events} - kinds, set())
        return [(each.session_id, each.detail) for each in self.of(EventKind.SESSION_ENDED)]

    def of(self, kind: EventKind) -> list[Event]:
        """The events of this kind."""
        return [each for each in self.events if each.kind is kind]

    def lent(self) -> int:
        """How many addresses are lent."""
        return sum(len(pool.lent) for pool in self.addresses._pools.values())

    def assert_gone(self, session: Session, token: str, reason: EndReason) -> None:
        self.assertEqual(session.record.state, Ended(reason))
        self.assertIsNone(self.find(token))
        self.assertIsNone(self.saved(session))
        self.assertEqual(self.ends(), [(session.identifier, reason.value)])
        self.assertEqual(self.lent(), 0)
        self.assertEqual(len(self.registry), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
