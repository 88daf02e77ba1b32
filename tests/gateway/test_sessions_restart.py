"""Sessions that this process did not begin: after a restart, or from another gateway."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from anyvpn.backends.sessions_memory import MemorySessions
from anyvpn.errors import BackendFailed
from anyvpn.gateway.session import Session
from anyvpn.model.authentication import Identity
from anyvpn.model.session import Dormant, Ended, EndReason, Granted, SessionRecord
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.outcomes import completed, error_of
from tests.dtls.joined import counting_random
from tests.gateway.session_case import (
    ALICE,
    BOB,
    BOTH,
    NOW_S,
    POLICY,
    FailingSessions,
    SessionsCase,
    SlowSessions,
    passage,
    result_of,
)


class RestartTests(SessionsCase):
    def test_stopping_lets_tunnels_go_and_keeps_sessions(self) -> None:
        (first, _), (second, _) = self.grant(), self.grant(user=BOB)
        tunnel = self.connect(first)
        self.registry.suspend()
        self.assertEqual(tunnel.told, ["suspend"])
        self.assertEqual(self.ends(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(
            [self.saved(each) for each in (first, second)], [first.record, second.record]
        )

    def test_the_client_comes_back_to_the_same_session_and_addresses(self) -> None:
        session, token = self.grant()
        self.connect(session)
        self.clock.advance(50)
        self.assertEqual(self.restart(), 1)
        again = self.find(token)
        assert again is not None
        self.assertIsNot(again, session)
        self.assertEqual(again.record, replace(session.record, state=Dormant(NOW_S + 50 + 600)))
        self.connect(again)
        self.assertEqual(again.record.lease, session.record.lease)
        self.assertEqual(self.lent(), 2)

    def test_its_addresses_are_lent_to_nobody_else(self) -> None:
        self.random = counting_random(1)
        session, _ = self.grant()
        self.connect(session)
        self.restart()
        others = [self.grant(user=Identity(f"user {number}"))[0] for number in range(4)]
        leases = [completed(self.registry.lease(each, frozenset({4}))) for each in others]
        self.assertNotIn(session.record.lease, leases)
        self.assertEqual(len({each.ipv4 for each in leases}), 4)

    def test_who_does_not_come_back_in_time_is_forgotten(self) -> None:
        session, token = self.grant()
        self.connect(session)
        self.restart()
        self.clock.advance(600)
        self.assertIsNone(self.find(token))
        self.assertIsNone(self.saved(session))
        self.assertEqual(self.ends(), [(session.identifier, EndReason.NOT_RESUMED.value)])
        self.assertEqual(self.lent(), 0)

    def test_what_ran_out_meanwhile_is_not_taken_up(self) -> None:
        unused, _ = self.grant()
        dormant, _ = self.grant()
        self.registry.tunnel_lost(dormant, self.connect(dormant))
        long, _ = self.grant(replace(POLICY, session_timeout_s=500.0))
        self.connect(long)
        alive, token = self.grant()
        self.connect(alive)
        self.registry.suspend()
        self.clock.advance(600)
        self.open_registry()
        self.assertEqual(completed(self.registry.restore()), 1)
        self.assertIsNotNone(self.find(token))
        self.assertEqual([self.saved(each) for each in (unused, dormant, long)], [None] * 3)
        self.assertEqual(self.lent(), 2)

    def test_one_whose_addresses_are_not_to_be_had_is_dropped(self) -> None:
        session, token = self.grant()
        self.connect(session)
        self.registry.suspend()
        record = session.record
        completed(self.store.save(replace(record, lease=Lease(IPv4Interface("10.8.0.2/24"), None))))
        self.open_registry()
        with capturedLogs() as logged:
            self.assertEqual(completed(self.registry.restore()), 0)
        text = f"Session {session.identifier} of alice cannot be resumed: its addresses are taken"
        self.assertIn(text, [formatEvent(each) for each in logged])
        self.assertIsNone(self.saved(session))
        self.assertIsNone(self.find(token))
        self.assertEqual(self.lent(), 0)

    def test_identifiers_of_resumed_sessions_are_not_given_again(self) -> None:
        tokens = counting_random(1)
        numbers = [b"\0\0\0\x05", b"\0\0\0\x05", b"\0\0\0\x06"]
        self.random = lambda size: numbers.pop(0) if size == 4 else tokens(size)
        self.grant()
        self.restart()
        self.assertEqual(self.grant(user=BOB)[0].identifier, 6)


class ForeignSessionTests(SessionsCase):
    """Sessions that are in the store, but were not granted here."""

    def setUp(self) -> None:
        super().setUp()
        session, self.token = self.grant()
        self.connect(session)
        self.record = session.record
        self.registry.suspend()
        self.open_registry()

    def test_one_is_found_by_its_token_and_keeps_its_addresses(self) -> None:
        session = self.find(self.token)
        assert session is not None
        self.assertEqual(session.record.identity, ALICE)
        self.assertEqual(completed(self.registry.lease(session, BOTH)), self.record.lease)
        self.assertIs(self.find(self.token), session)
        self.assertEqual(self.lent(), 2)

    def test_one_that_is_only_looked_at_does_not_stay_for_ever(self) -> None:
        session = self.find(self.token)
        assert session is not None
        self.clock.advance(600)
        self.assert_gone(session, self.token, EndReason.NOT_RESUMED)

    def test_one_that_ran_out_is_not_found(self) -> None:
        for state in (Granted(NOW_S - 1), Dormant(NOW_S - 1), Ended(EndReason.LOGOUT)):
            with self.subTest(state=state):
                completed(self.store.save(replace(self.record, state=state)))
                self.assertIsNone(self.find(self.token))
                self.assertEqual(completed(self.store.sessions()), ())
                self.open_registry()
        policy = replace(POLICY, session_timeout_s=100.0)
        late = replace(self.record, policy=policy, granted_at_s=NOW_S - 100)
        completed(self.store.save(late))
        self.assertIsNone(self.find(self.token))
        self.assertEqual(self.lent(), 0)
        self.assertEqual(len(self.registry), 0)

    def test_one_whose_addresses_are_taken_is_not_found(self) -> None:
        completed(self.addresses.lease(ALICE, POLICY, BOTH, self.record.lease))
        self.assertIsNone(self.find(self.token))
        self.assertEqual(self.lent(), 2)

    def test_a_store_that_fails_is_no_wrong_token(self) -> None:
        self.store = store = FailingSessions()
        self.open_registry()
        store.is_down = True
        completed(error_of(self.registry.find(self.token), BackendFailed))


class SlowBackendTests(SessionsCase):
    """Clients that come while store or pools are still at work for the same session."""

    def setUp(self) -> None:
        super().setUp()
        self.slow = self.store = SlowSessions()
        self.open_registry()
        session, self.token = self.grant()
        self.connect(session)
        self.registry.suspend()
        self.open_registry()

    def slow_down(self, backend: str) -> Deferred[None]:
        """Let store or pools wait for what this gives."""
        gate = Deferred[None]()
        if backend == "store":
            self.slow.gate = gate
        else:
            self.addresses.gate = gate
        return gate

    def assert_only(self, session: Session | None) -> None:
        assert session is not None
        self.assertEqual(self.registry.all(), (session,))
        self.assertEqual(self.lent(), 2)
        self.assertIsNotNone(self.saved(session))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_two_connects_at_the_same_time_find_one_session(self) -> None:
        for backend in ("store", "pools"):
            with self.subTest(backend=backend):
                self.setUp()
                gate = self.slow_down(backend)
                first, second = (
                    Deferred.fromCoroutine(self.registry.find(self.token)) for _ in range(2)
                )
                gate.callback(None)
                found = result_of(first)
                self.assertIs(result_of(second), found)
                self.assert_only(found)

    def test_a_client_may_be_faster_than_the_restart(self) -> None:
        for backend in ("store", "pools"):
            with self.subTest(backend=backend):
                self.setUp()
                gate = self.slow_down(backend)
                finding = Deferred.fromCoroutine(self.registry.find(self.token))
                restoring = Deferred.fromCoroutine(self.registry.restore())
                gate.callback(None)
                self.assertEqual(result_of(restoring), 1)
                self.assert_only(result_of(finding))

    def test_or_slower(self) -> None:
        for backend in ("store", "pools"):
            with self.subTest(backend=backend):
                self.setUp()
                gate = self.slow_down(backend)
                restoring = Deferred.fromCoroutine(self.registry.restore())
                finding = Deferred.fromCoroutine(self.registry.find(self.token))
                gate.callback(None)
                self.assertEqual(result_of(restoring), 1)
                self.assert_only(result_of(finding))


class LateSessions(SlowSessions):
    """What it answers has been so when it was asked."""

    async def find(self, token_digest: bytes) -> SessionRecord | None:
        found = await MemorySessions.find(self, token_digest)
        await passage(self.gate)
        return found

    async def sessions(self) -> tuple[SessionRecord, ...]:
        found = await MemorySessions.sessions(self)
        await passage(self.gate)
        return found


class OneEndTests(SessionsCase):
    """However many look at a session at the same time, it ends once."""

    def setUp(self) -> None:
        super().setUp()
        self.late = self.store = LateSessions()
        self.open_registry()
        session, self.token = self.grant()
        self.registry.tunnel_lost(session, self.connect(session))
        self.registry.suspend()
        self.open_registry()
        self.late.gate = Deferred()

    def start(self, *works: Coroutine[Any, Any, Any]) -> list[Deferred[Any]]:
        return [Deferred.fromCoroutine(each) for each in works]

    def test_one_that_ran_out(self) -> None:
        self.clock.advance(POLICY.disconnected_timeout_s + 1)
        started = self.start(
            self.registry.find(self.token),
            self.registry.find(self.token),
            self.registry.restore(),
        )
        assert self.late.gate is not None
        self.late.gate.callback(None)
        self.assertEqual(list(map(result_of, started)), [None, None, 0])
        self.assertEqual(len(self.ends()), 1)

    def test_one_that_its_client_ends(self) -> None:
        first, *others = self.start(
            self.registry.find(self.token),
            self.registry.find(self.token),
            self.registry.restore(),
        )
        first.addCallback(lambda found: self.registry.end(found, EndReason.LOGOUT))
        assert self.late.gate is not None
        self.late.gate.callback(None)
        self.assertEqual(list(map(result_of, others)), [None, 0])
        self.assertEqual(len(self.ends()), 1)
        self.assertEqual(self.registry.all(), ())
