"""The sessions of this gateway: granted, found by their token, brought back after a restart."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from anyvpn.errors import AccessDenied, AddressesExhausted
from anyvpn.gateway.client_networks import ClientNetworks
from anyvpn.gateway.session import Session, SessionTunnel, taken_up
from anyvpn.gateway.timers import Timers
from anyvpn.interfaces import IAddressAllocator, ISessionStore
from anyvpn.model.authentication import Identity
from anyvpn.model.credentials import folded_name
from anyvpn.model.events import Event, EventKind
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.session import (
    Connected,
    Dormant,
    Ended,
    EndReason,
    EndRequested,
    Granted,
    SessionEvent,
    SessionRecord,
    TimePassed,
    TunnelLost,
    TunnelOpened,
    next_state,
)
from anyvpn.model.tunnel_settings import Lease

log = Logger()

# Ours
TOKEN_BYTES = 32
LARGEST_SESSION_ID = 2**31 - 1
MOST_GONE = 1000
"""Sessions that have ended, for as long as a store may still speak of them as if they had not."""


class SessionRegistry:
    """Every session by token digest; the store is told of each change."""

    def __init__(
        self,
        timers: Timers,
        *,
        store: ISessionStore,
        addresses: IAddressAllocator,
        networks: ClientNetworks,
        tell: Callable[[Event], None],
        random: Callable[[int], bytes],
        token_time_s: float,
        report_interval_s: int = 0,
    ) -> None:
        self._timers = timers
        self._store = store
        self._addresses = addresses
        self._networks = networks
        self._tell = tell
        self._random = random
        self._token_time_s = token_time_s
        self._report_interval_s = report_interval_s
        self._by_digest: dict[bytes, Session] = {}
        self._identifiers: set[int] = set()
        self._gone: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def all(self) -> tuple[Session, ...]:
        """Every session, in the order of their logins."""
        return tuple(self._by_digest.values())

    async def restore(self) -> int:
        """Take up the sessions of the store; gives how many can be resumed."""
        for record in await self._store.sessions():
            taken = await self._take_up(record)
            if taken is None and record.token_digest not in self._gone:
                log.warn(
                    "Session {session} of {user} cannot be resumed: its addresses are taken",
                    session=record.session_id,
                    user=record.identity.user,
                )
                now_s = self._timers.seconds()
                await self._end_in_store(taken_up(record, now_s), EndReason.ADDRESSES_TAKEN, now_s)
        return len(self._by_digest)

    async def grant(
        self,
        identity: Identity,
        profile: str,
        policy: GroupPolicy,
        peer_address: str,
        user_agent: str = "",
    ) -> tuple[Session, str]:
        """A new session and its token. Raises: AccessDenied: the user has too many."""
        most = policy.max_sessions_per_user
        if most and self._count(folded_name(identity.user)) >= most:
            raise AccessDenied(f"{identity.user} has {most} sessions, which is the limit")
        token = base64.urlsafe_b64encode(self._random(TOKEN_BYTES)).rstrip(b"=").decode("ascii")
        now_s = self._timers.seconds()
        session = Session(
            SessionRecord(
                token_digest=_digest(token),
                session_id=self._new_identifier(),
                identity=identity,
                profile=profile,
                policy=policy,
                granted_at_s=now_s,
                state=Granted(now_s + self._token_time_s),
                peer_address=peer_address,
                user_agent=user_agent,
            )
        )
        self._add(session)  # at once: who logs in meanwhile must count it
        try:
            await self._store.save(session.record)
        except BaseException:  # or nobody is in
            self._drop(session)
            self._in_background(self._store.remove(session.record.token_digest), "removing")
            raise
        return session, token

    async def find(self, token: str) -> Session | None:
        """The session of a token, also one that another gateway granted; None when it is dead."""
        digest = _digest(token)
        session = self._by_digest.get(digest)
        if session is None:
            record = await self._store.find(digest)
            session = self._by_digest.get(digest) if record is None else await self._take_up(record)
        if session is not None and self._timers.seconds() >= session.times_out_at_s():
            self.end(session, EndReason.SESSION_TIMEOUT)
            return None
        return session

    async def lease(self, session: Session, families: frozenset[int]) -> Lease:
        """The session's addresses: the same for its whole life. Raises AddressesExhausted."""
        record = session.record
        if record.lease is None:
            lease = await self._addresses.lease(record.identity, record.policy, families, None)
            if isinstance(session.record.state, Ended) or session.record.lease is not None:
                await self._addresses.release(lease)
                if session.record.lease is None:
                    raise AddressesExhausted("the session ended meanwhile")
            else:
                session.record = replace(session.record, lease=lease)
        assert session.record.lease is not None
        return session.record.lease

    def connected(
        self, session: Session, tunnel: SessionTunnel, peer_address: str, hostname: str
    ) -> None:
        """A CONNECT was answered: the tunnel before it, if any, lets go."""
        before, session.tunnel = session.tunnel, tunnel
        if before is not None:
            before.replaced()
        now_s = self._timers.seconds()
        is_start = not session.record.started_at_s
        session.record = replace(
            session.record,
            peer_address=peer_address,
            hostname=hostname,
            started_at_s=session.record.started_at_s or now_s,
        )
        self._advance(session, TunnelOpened())
        if is_start:
            self._tell_of(EventKind.SESSION_STARTED, session, now_s)

    def tunnel_lost(self, session: Session, tunnel: SessionTunnel) -> None:
        """The tunnel is gone without a goodbye; the session waits for its client."""
        if session.tunnel is tunnel:
            session.tunnel = None
            self._advance(session, TunnelLost())

    def end(self, session: Session, reason: EndReason) -> None:
        """End it for good: the token dies, the addresses are free again."""
        self._advance(session, EndRequested(reason))

    def suspend(self) -> None:
        """The process stops; sessions stay in the store for the next one."""
        for session in self._by_digest.values():
            session.stop_timer()
            if session.tunnel is not None:
                session.tunnel.suspend()
                session.record = replace(session.record, counters=session.counters)
                self._in_background(self._store.save(session.record), "saving")

    def _advance(self, session: Session, event: SessionEvent) -> None:
        before = session.record.state
        now_s = self._timers.seconds()
        state = next_state(before, event, now_s, session.record.policy.disconnected_timeout_s)
        if state is before:
            return
        session.record = replace(session.record, state=state, counters=session.counters)
        session.stop_timer()
        if isinstance(state, Ended):
            self._ended(session, state.reason)
            return
        self._set_timer(session)
        self._in_background(self._store.save(session.record), "saving")

    def _ended(self, session: Session, reason: EndReason) -> None:
        record = session.record
        self._drop(session)
        self._note_gone(session)
        tunnel, session.tunnel = session.tunnel, None
        if tunnel is not None:
            tunnel.disconnect()
        self._in_background(self._store.remove(record.token_digest), "removing")
        if record.lease is not None:
            self._in_background(self._addresses.release(record.lease), "releasing")
        self._networks.release(session)
        self._tell_ended(session, reason, self._timers.seconds())

    def _tell_ended(self, session: Session, reason: EndReason, at_s: float) -> None:
        session.record = replace(session.record, counters=session.counters)
        self._tell_of(EventKind.SESSION_ENDED, session, at_s, reason)

    def _tell_of(
        self, kind: EventKind, session: Session, at_s: float, reason: EndReason | None = None
    ) -> None:
        record = session.record
        self._tell(
            Event(
                kind,
                at_s,
                user=record.identity.user,
                peer=record.peer_address,
                session_id=record.session_id,
                profile=record.profile,
                detail=reason.value if reason is not None else "",
                counters=record.counters,
                session=record,
                reason=reason,
            )
        )

    async def _take_up(self, record: SessionRecord) -> Session | None:
        """A session of the store, which is ours from now on; None: it is over, or not to be had."""
        digest, now_s = record.token_digest, self._timers.seconds()
        if not self._is_known(digest):
            session = taken_up(record, now_s)
            overdue = session.overdue(now_s)
            if overdue is not None:
                await self._end_in_store(session, *overdue)
                return None
            has_addresses = await self._lease_again(session)
            if has_addresses and not self._is_known(digest):
                self._add(session)
            elif has_addresses and record.lease is not None:  # it came and went meanwhile
                await self._addresses.release(record.lease)
        return self._by_digest.get(digest)

    def _is_known(self, digest: bytes) -> bool:
        """Whether it is, or was, one of ours, whatever the store has said of it a moment ago."""
        return digest in self._by_digest or digest in self._gone

    async def _end_in_store(self, session: Session, reason: EndReason, at_s: float) -> None:
        self._note_gone(session)
        await self._store.remove(session.record.token_digest)
        self._tell_ended(session, reason, at_s)

    def _note_gone(self, session: Session) -> None:
        self._gone[session.record.token_digest] = None
        if len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    async def _lease_again(self, session: Session) -> bool:
        wish = session.record.lease
        if wish is None:
            return True
        families = frozenset(address.version for address in wish.addresses)
        record = session.record
        try:
            got = await self._addresses.lease(record.identity, record.policy, families, wish)
        except AddressesExhausted:
            return False
        if got != wish:
            await self._addresses.release(got)
            return False
        return True

    def _add(self, session: Session) -> None:
        self._by_digest[session.record.token_digest] = session
        self._identifiers.add(session.record.session_id)
        self._set_timer(session)

    def _drop(self, session: Session) -> None:
        session.stop_timer()
        self._by_digest.pop(session.record.token_digest, None)
        self._identifiers.discard(session.record.session_id)

    def _set_timer(self, session: Session) -> None:
        match session.record.state:
            case Granted(until_s) | Dormant(until_s):
                until_s = min(until_s, session.times_out_at_s())
                action = partial(self._time_passed, session)
                session.timer = self._timers.call_at(until_s, action)
            case Connected() if self._report_interval_s:
                report_at_s = self._next_report_at_s(session)
                action = partial(self._report, session)
                session.timer = self._timers.call_at(report_at_s, action)

    def _time_passed(self, session: Session) -> None:
        session.timer = None
        if self._timers.seconds() >= session.times_out_at_s():
            self.end(session, EndReason.SESSION_TIMEOUT)
            return
        self._advance(session, TimePassed())

    def _report(self, session: Session) -> None:
        """Tell what a connected session has moved so far, and keep it.

        After a crash no more is lost of it than what came after this.
        """
        self._set_timer(session)
        assert session.tunnel is not None, "it is connected"
        total = session.counters.plus(session.tunnel.counters())
        session.record = replace(session.record, counters=total)
        self._in_background(self._store.save(session.record), "saving")
        self._tell_of(EventKind.SESSION_PROGRESS, session, self._timers.seconds())

    def _next_report_at_s(self, session: Session) -> float:
        """At its own moment of each interval, however often it connects, so never all at once."""
        now_s, interval_s = self._timers.seconds(), self._report_interval_s
        return now_s + interval_s - (int(now_s) - session.identifier) % interval_s

    def _count(self, user: str) -> int:
        return sum(1 for each in self._by_digest.values() if each.user == user)

    def _new_identifier(self) -> int:
        while True:
            identifier = int.from_bytes(self._random(4), "big") & LARGEST_SESSION_ID
            if identifier and identifier not in self._identifiers:
                return identifier

    def _in_background(self, work: Coroutine[Any, Any, None], doing: str) -> None:
        outcome = Deferred.fromCoroutine(work)
        outcome.addErrback(
            lambda failure: log.failure("{doing} a session failed", failure=failure, doing=doing)
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
