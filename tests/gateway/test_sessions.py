"""Sessions from their login to their end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, capturedLogs

from anyvpn.backends.sessions_memory import MemorySessions
from anyvpn.errors import AccessDenied, AddressesExhausted, BackendFailed
from anyvpn.gateway.session import Session
from anyvpn.model.authentication import Identity
from anyvpn.model.events import Counters, EventKind
from anyvpn.model.session import Connected, Dormant, EndReason, Granted, SessionRecord
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.outcomes import completed, error_of
from tests.dtls.joined import counting_random
from tests.gateway.session_case import (
    ALICE,
    BOB,
    BOTH,
    NOW_S,
    PEER,
    POLICY,
    TOKEN_TIME_S,
    FailingSessions,
    NotedTunnel,
    SessionsCase,
    SlowSessions,
    result_of,
)


def failures(logged: Sequence[LogEvent]) -> list[type[BaseException] | None]:
    """Of which kind the failures are that were logged."""
    return [each["log_failure"].type for each in logged if "log_failure" in each]


class GrantTests(SessionsCase):
    def test_the_token_finds_the_session_and_no_other_does(self) -> None:
        session, token = self.grant()
        other, other_token = self.grant(user=BOB)
        self.assertIs(self.find(token), session)
        self.assertIs(self.find(other_token), other)
        for wrong in ("", token[:-1], token + "=", token.swapcase(), "\udcff\u20ac"):
            self.assertIsNone(self.find(wrong))
        self.assertEqual(self.registry.all(), (session, other))

    def test_the_token_is_256_random_bits_and_kept_as_a_digest_only(self) -> None:
        self.random = lambda size: bytes(range(size))
        session, token = self.grant()
        self.assertEqual(token, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
        digest = hashlib.sha256(token.encode()).digest()
        self.assertEqual(session.record.token_digest, digest)
        self.assertNotIn(token, repr(self.saved(session)))

    def test_the_store_knows_it_before_the_client_does(self) -> None:
        session, _ = self.grant()
        record = self.saved(session)
        assert record is not None
        self.assertEqual(record, session.record)
        self.assertEqual((record.identity, record.profile, record.policy), (ALICE, "Staff", POLICY))
        self.assertEqual((record.granted_at_s, record.peer_address), (NOW_S, PEER))
        self.assertEqual(record.state, Granted(NOW_S + TOKEN_TIME_S))

    def test_a_store_that_fails_lets_nobody_in(self) -> None:
        store = self.store = FailingSessions()
        self.open_registry()
        store.is_down = True
        completed(error_of(self.registry.grant(ALICE, "Staff", POLICY, PEER), BackendFailed))
        self.assertEqual(len(self.registry), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_store_that_fails_too_late_keeps_nothing(self) -> None:
        class LateToFail(MemorySessions):
            async def save(self, record: SessionRecord) -> None:
                await super().save(record)
                raise BackendFailed("the answer was lost")

        self.store = LateToFail()
        self.open_registry()
        completed(error_of(self.registry.grant(ALICE, "Staff", POLICY, PEER), BackendFailed))
        self.assertEqual(completed(self.store.sessions()), ())

    def test_an_unused_token_dies_in_time(self) -> None:
        session, token = self.grant()
        self.clock.advance(TOKEN_TIME_S - 1)
        self.assertIs(self.find(token), session)
        self.clock.advance(1)
        self.assert_gone(session, token, EndReason.NEVER_CONNECTED)

    def test_a_user_has_as_many_sessions_as_the_policy_says(self) -> None:
        policy = replace(POLICY, max_sessions_per_user=2)
        first, _ = self.grant(policy)
        self.grant(policy)
        self.grant(policy, BOB)
        work = self.registry.grant(ALICE, "Staff", policy, PEER)
        error = completed(error_of(work, AccessDenied))
        self.assertEqual(str(error), "alice has 2 sessions, which is the limit")
        self.registry.end(first, EndReason.LOGOUT)
        self.grant(policy)

    def test_however_the_name_is_written_it_is_one_user(self) -> None:
        policy = replace(POLICY, max_sessions_per_user=1)
        session, _ = self.grant(policy)
        work = self.registry.grant(Identity("ALICE"), "Staff", policy, PEER)
        completed(error_of(work, AccessDenied))
        self.registry.end(session, EndReason.LOGOUT)
        self.registry.end(session, EndReason.LOGOUT)
        self.grant(policy, Identity("Alice"))
        completed(error_of(self.registry.grant(ALICE, "Staff", policy, PEER), AccessDenied))

    def test_logins_at_the_same_time_count_each_other(self) -> None:
        store = self.store = SlowSessions()
        self.open_registry()
        gate = store.gate = Deferred[None]()
        policy = replace(POLICY, max_sessions_per_user=1)
        first, second = (
            Deferred.fromCoroutine(self.registry.grant(ALICE, "Staff", policy, PEER))
            for _ in range(2)
        )
        gate.callback(None)
        result_of(first)
        with self.assertRaises(AccessDenied):
            result_of(second)

    def test_identifiers_are_positive_31_bit_numbers_without_repetition(self) -> None:
        tokens = counting_random(1)
        numbers = [
            bytes(4),
            b"\xff" * 4,
            b"\x7f" + b"\xff" * 3,
            b"\x80" + bytes(3),
            b"\x80\0\0\x01",
        ]
        self.random = lambda size: numbers.pop(0) if size == 4 else tokens(size)
        self.assertEqual(self.grant()[0].identifier, 2**31 - 1)
        self.assertEqual(self.grant()[0].identifier, 1)

    def test_the_identifier_of_a_session_that_ended_may_come_again(self) -> None:
        tokens = counting_random(1)
        self.random = lambda size: b"\0\0\0\x07" if size == 4 else tokens(size)
        session, _ = self.grant()
        self.registry.end(session, EndReason.LOGOUT)
        self.assertEqual(self.grant()[0].identifier, 7)


class TunnelTests(SessionsCase):
    def test_a_connected_session_has_all_the_time_in_the_world(self) -> None:
        session, token = self.grant()
        tunnel = self.connect(session)
        self.assertEqual(session.record.state, Connected(NOW_S))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1_000_000)
        self.assertIs(self.find(token), session)
        self.assertEqual(tunnel.told, [])

    def test_the_store_learns_of_each_change(self) -> None:
        session, _ = self.grant()
        tunnel = self.connect(session)
        self.assertEqual(self.saved(session), session.record)
        record = session.record
        self.assertEqual((record.hostname, record.lease is not None), ("laptop", True))
        self.registry.tunnel_lost(session, tunnel)
        self.assertEqual(self.saved(session), session.record)
        self.assertEqual(session.record.state, Dormant(NOW_S + 600))

    def test_a_lost_tunnel_leaves_the_session_to_be_resumed_with_its_addresses(self) -> None:
        session, token = self.grant()
        self.registry.tunnel_lost(session, self.connect(session))
        lease = session.record.lease
        self.clock.advance(599)
        self.assertIs(self.find(token), session)
        tunnel = self.connect(session)
        self.assertEqual(session.record.lease, lease)
        self.clock.advance(10_000)
        self.assertEqual(session.record.state, Connected(NOW_S + 599))
        self.assertEqual(tunnel.told, [])
        self.assertEqual(self.ends(), [])

    def test_a_tunnel_that_was_lost_hears_no_more(self) -> None:
        session, _ = self.grant()
        lost = self.connect(session)
        self.registry.tunnel_lost(session, lost)
        self.connect(session)
        self.registry.end(session, EndReason.LOGOUT)
        self.assertEqual(lost.told, [])

    def test_one_that_is_not_resumed_in_time_gives_its_addresses_back(self) -> None:
        session, token = self.grant()
        self.registry.tunnel_lost(session, self.connect(session))
        self.assertEqual(self.lent(), 2)
        self.clock.advance(600)
        self.assert_gone(session, token, EndReason.NOT_RESUMED)

    def test_another_connect_replaces_the_tunnel(self) -> None:
        session, _ = self.grant()
        old = self.connect(session)
        new = NotedTunnel()
        self.registry.connected(session, new, "198.51.100.9", "phone")
        self.assertEqual((old.told, new.told), (["replaced"], []))
        self.assertIs(session.tunnel, new)
        record = self.saved(session)
        assert record is not None
        self.assertEqual((record.peer_address, record.hostname), ("198.51.100.9", "phone"))

    def test_the_end_of_a_replaced_tunnel_is_nothing_to_the_session(self) -> None:
        session, _ = self.grant()
        old = self.connect(session)
        old.when_told = lambda: self.registry.tunnel_lost(session, old)
        new = self.connect(session)
        self.registry.tunnel_lost(session, old)
        self.assertEqual(session.record.state, Connected(NOW_S))
        self.assertIs(session.tunnel, new)

    def test_the_end_of_a_session_is_told_to_tunnel_store_and_log(self) -> None:
        for reason in (EndReason.GOODBYE, EndReason.LOGOUT, EndReason.KICKED, EndReason.IDLE):
            with self.subTest(reason=reason):
                self.events.clear()
                session, token = self.grant()
                tunnel = self.connect(session)
                self.registry.end(session, reason)
                self.registry.end(session, EndReason.KICKED)
                self.registry.tunnel_lost(session, tunnel)
                self.assertEqual(tunnel.told, ["disconnect"])
                self.assert_gone(session, token, reason)
                (event,) = self.of(EventKind.SESSION_ENDED)
                self.assertEqual(
                    (event.user, event.peer, event.profile, event.at_s),
                    ("alice", PEER, "Staff", NOW_S),
                )
                self.assertIs(event.counters, session.counters)
                self.assertIs(event.reason, reason)

    def test_a_store_that_fails_is_logged_and_the_session_goes_on(self) -> None:
        store = self.store = FailingSessions()
        self.open_registry()
        session, token = self.grant()
        store.is_down = True
        with capturedLogs() as logged:
            self.registry.tunnel_lost(session, self.connect(session))
        self.assertEqual(failures(logged), [BackendFailed] * 2)
        self.assertIs(self.find(token), session)
        with capturedLogs() as logged:
            self.registry.end(session, EndReason.LOGOUT)
        self.assertEqual(failures(logged), [BackendFailed])
        self.assertEqual(self.ends(), [(session.identifier, "logged out")])
        self.assertEqual(self.lent(), 0)


class AccountingTests(SessionsCase):
    """A session starts once and ends once, and its counters are those of all its tunnels."""

    def test_it_starts_with_its_first_tunnel_alone(self) -> None:
        session, _ = self.grant()
        self.assertEqual(self.events, [])
        self.registry.tunnel_lost(session, self.connect(session))
        self.connect(session)
        self.restart()
        again = self.find_one()
        self.connect(again)
        (event,) = self.of(EventKind.SESSION_STARTED)
        assert event.session is not None and event.session.lease is not None
        self.assertEqual(event.session.started_at_s, NOW_S)
        self.assertEqual(again.record.accounting_id, event.session.accounting_id)

    def find_one(self) -> Session:
        (session,) = self.registry.all()
        return session

    def test_counters_outlive_a_restart(self) -> None:
        session, _ = self.grant()
        tunnel = self.connect(session)
        tunnel.when_told = lambda: self.move(session, 100)
        self.restart()
        again = self.find_one()
        self.move(again, 20)
        self.connect(again)
        self.registry.end(again, EndReason.LOGOUT)
        (event,) = self.of(EventKind.SESSION_ENDED)
        assert event.counters is not None
        self.assertEqual(event.counters.received_bytes, 120)

    def move(self, session: Session, amount: int) -> None:
        session.counters = session.counters.plus(Counters(received_bytes=amount))

    def test_what_ended_while_nobody_ran_is_told_once_with_its_time(self) -> None:
        lost, _ = self.grant()
        self.registry.tunnel_lost(lost, self.connect(lost))
        timed, _ = self.grant(replace(POLICY, session_timeout_s=500.0))
        self.connect(timed)
        unused, _ = self.grant()
        self.registry.suspend()
        self.clock.advance(5000)
        for _ in range(2):
            self.open_registry()
            completed(self.registry.restore())
        told = self.of(EventKind.SESSION_ENDED)
        ends = {each.session_id: (each.reason, each.at_s) for each in told}
        self.assertEqual(
            ends,
            {
                lost.identifier: (EndReason.NOT_RESUMED, NOW_S + 600),
                timed.identifier: (EndReason.SESSION_TIMEOUT, NOW_S + 500),
                unused.identifier: (EndReason.NEVER_CONNECTED, NOW_S + TOKEN_TIME_S),
            },
        )
        self.assertEqual(len(told), 3)

    def test_addresses_that_others_have_end_it(self) -> None:
        session, _ = self.grant()
        self.connect(session)
        self.registry.suspend()
        lease = Lease(IPv4Interface("10.8.0.2/24"), None)
        completed(self.store.save(replace(session.record, lease=lease)))
        self.open_registry()
        completed(self.registry.restore())
        (event,) = self.of(EventKind.SESSION_ENDED)
        self.assertIs(event.reason, EndReason.ADDRESSES_TAKEN)


class LeaseTests(SessionsCase):
    def test_a_session_has_one_lease_for_life(self) -> None:
        session, _ = self.grant()
        lease = completed(self.registry.lease(session, BOTH))
        self.assertEqual(len(lease.addresses), 2)
        self.assertEqual(completed(self.registry.lease(session, frozenset({4}))), lease)
        self.assertEqual(self.lent(), 2)

    def test_no_address_is_an_error_and_the_session_may_try_again(self) -> None:
        self.open_registry("10.9.0.0/30")
        (first, _), (second, _) = self.grant(), self.grant(user=BOB)
        completed(self.registry.lease(first, frozenset({4})))
        completed(error_of(self.registry.lease(second, frozenset({4})), AddressesExhausted))
        self.registry.end(first, EndReason.LOGOUT)
        completed(self.registry.lease(second, frozenset({4})))

    def test_addresses_that_come_after_the_end_go_back(self) -> None:
        gate = self.addresses.gate = Deferred[None]()
        session, token = self.grant()
        leasing = Deferred.fromCoroutine(self.registry.lease(session, BOTH))
        self.registry.end(session, EndReason.LOGOUT)
        gate.callback(None)
        with self.assertRaises(AddressesExhausted):
            result_of(leasing)
        self.assert_gone(session, token, EndReason.LOGOUT)

    def test_two_connects_at_the_same_time_share_one_lease(self) -> None:
        gate = self.addresses.gate = Deferred[None]()
        session, _ = self.grant()
        first, second = (
            Deferred.fromCoroutine(self.registry.lease(session, BOTH)) for _ in range(2)
        )
        gate.callback(None)
        self.assertEqual(result_of(first), result_of(second))
        self.assertEqual(self.lent(), 2)


class SessionTimeoutTests(SessionsCase):
    policy = replace(POLICY, session_timeout_s=1000.0)

    def test_it_is_counted_from_the_login(self) -> None:
        session, _ = self.grant(self.policy)
        self.assertEqual(session.times_out_at_s(), NOW_S + 1000)
        self.clock.advance(200)
        self.connect(session)
        self.assertEqual(session.times_out_at_s(), NOW_S + 1000)

    def test_without_a_limit_it_never_comes(self) -> None:
        session, _ = self.grant()
        self.assertEqual(session.times_out_at_s(), float("inf"))

    def test_a_dormant_session_ends_by_it(self) -> None:
        session, token = self.grant(self.policy)
        tunnel = self.connect(session)
        self.clock.advance(900)
        self.registry.tunnel_lost(session, tunnel)
        self.clock.advance(99)
        self.assertIs(self.find(token), session)
        self.clock.advance(1)
        self.assert_gone(session, token, EndReason.SESSION_TIMEOUT)

    def test_an_unused_token_dies_by_it(self) -> None:
        session, token = self.grant(replace(POLICY, session_timeout_s=100.0))
        self.clock.advance(100)
        self.assert_gone(session, token, EndReason.SESSION_TIMEOUT)

    def test_a_connected_session_is_not_found_any_more(self) -> None:
        session, token = self.grant(self.policy)
        tunnel = self.connect(session)
        self.clock.advance(1000)
        self.assertIsNone(self.find(token))
        self.assertEqual(tunnel.told, ["disconnect"])
        self.assert_gone(session, token, EndReason.SESSION_TIMEOUT)


class ReportTests(SessionsCase):
    """Connected sessions report their traffic, each at a moment of its own."""

    report_interval_s = 60

    def reports(self) -> list[tuple[float, int]]:
        """When which session reported, by the number of seconds since the test began."""
        told = self.of(EventKind.SESSION_PROGRESS)
        return [(each.at_s - NOW_S, each.session_id) for each in told]

    def test_a_report_has_the_open_tunnel_in_it_and_counts_it_once(self) -> None:
        session, _ = self.grant()
        tunnel = self.connect(session)
        session.counters = Counters(received_bytes=100)
        tunnel.moved = Counters(received_bytes=7)
        self.clock.advance(60)
        (report,) = self.of(EventKind.SESSION_PROGRESS)
        assert report.counters is not None
        self.assertEqual(report.counters.received_bytes, 107)
        saved = self.saved(session)
        assert saved is not None
        self.assertEqual(saved.counters.received_bytes, 107)
        session.counters = Counters(received_bytes=107)
        self.registry.end(session, EndReason.LOGOUT)
        (end,) = self.of(EventKind.SESSION_ENDED)
        assert end.counters is not None
        self.assertEqual(end.counters.received_bytes, 107)

    def test_sessions_that_begin_together_report_one_after_the_other(self) -> None:
        sessions = [self.grant()[0] for _ in range(3)]
        for session in sessions:
            self.connect(session)
        self.clock.pump([1.0] * 120)
        first = {session: at_s for at_s, session in self.reports()[:3]}
        self.assertEqual(set(first), {each.identifier for each in sessions})
        self.assertEqual(len(set(first.values())), 3)
        again = [(at_s + 60, session) for session, at_s in first.items()]
        self.assertEqual(self.reports()[3:], again)

    def test_to_connect_again_and_again_puts_no_report_off(self) -> None:
        session, _ = self.grant()
        for _ in range(12):
            self.connect(session)
            self.clock.pump([1.0] * 20)
        self.assertEqual(len(self.reports()), 4)

    def test_who_is_not_connected_has_nothing_to_report(self) -> None:
        session, _ = self.grant()
        self.registry.tunnel_lost(session, self.connect(session))
        self.grant()
        self.clock.advance(120)
        self.assertEqual(self.reports(), [])
