"""One session in this process, with what it has here beside its record."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Protocol

from anyvpn.gateway.timers import Timer
from anyvpn.model.channels import ChannelName
from anyvpn.model.credentials import folded_name
from anyvpn.model.events import Counters
from anyvpn.model.session import (
    Connected,
    Dormant,
    Ended,
    EndReason,
    Granted,
    SessionRecord,
    TimePassed,
    next_state,
)

_tunnel_ids = itertools.count(1)


class SessionTunnel(Protocol):
    """What a session must know of its tunnel."""

    def counters(self) -> Counters:
        """What it has moved so far."""

    def data_channel(self) -> tuple[ChannelName, str]:
        """The channel that data takes, and its cipher suite."""

    def replaced(self) -> None:
        """Another CONNECT has taken the session over: say goodbye and let go."""

    def disconnect(self) -> None:
        """The session ends: tell the client and let go."""

    def suspend(self) -> None:
        """The gateway stops, the session does not: let go, so that the client comes back."""


class Session:
    """One session in this process: its record, its tunnel when there is one, its time limit."""

    __slots__ = ("counters", "idle_s", "record", "timer", "tunnel", "tunnel_id", "user")

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self.user = folded_name(record.identity.user)
        """The user's name as it is compared."""
        self.tunnel_id = next(_tunnel_ids)
        """The packet engine's number, of this process alone: others may grant the same one."""
        self.tunnel: SessionTunnel | None = None
        self.timer: Timer | None = None
        self.counters = record.counters
        """What the tunnels that have closed have moved."""
        self.idle_s = 0.0
        """For how long no data had come or gone when the last tunnel was closed."""

    @property
    def identifier(self) -> int:
        """The decimal number that clients and operators see."""
        return self.record.session_id

    def stop_timer(self) -> None:
        """Nothing more happens to it by time alone."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    def times_out_at_s(self) -> float:
        """When the longest allowed session is over; infinity without such a limit."""
        limit_s = self.record.policy.session_timeout_s
        return self.record.granted_at_s + limit_s if limit_s else float("inf")

    def overdue(self, now_s: float) -> tuple[EndReason, float] | None:
        """Which of its time limits has passed while nobody looked, and when; None: it goes on."""
        state = self.record.state
        times_out_at_s = self.times_out_at_s()
        until_s = state.until_s if isinstance(state, Granted | Dormant) else float("inf")
        if now_s >= times_out_at_s and times_out_at_s <= until_s:
            return EndReason.SESSION_TIMEOUT, times_out_at_s
        after = next_state(state, TimePassed(), now_s, 0.0)
        return (after.reason, until_s) if isinstance(after, Ended) else None


def taken_up(record: SessionRecord, now_s: float) -> Session:
    """A session as this process finds it in the store: nobody is connected to it here."""
    if isinstance(record.state, Connected):
        dormant = Dormant(now_s + record.policy.disconnected_timeout_s)
        return Session(replace(record, state=dormant))
    return Session(record)
