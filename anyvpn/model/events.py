"""What happens in a gateway, as values for listeners: accounting, audit, metrics, the log."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvpn.model.session import EndReason, SessionRecord


class EventKind(Enum):
    """The value is the stable name that operators and programs search for."""

    GATEWAY_STARTED = "gateway_started"
    GATEWAY_STOPPED = "gateway_stopped"
    TLS_FAILED = "tls_failed"
    REQUEST_REFUSED = "request_refused"
    LOGIN_STARTED = "login_started"
    LOGIN_FAILED = "login_failed"
    LOGIN_SUCCEEDED = "login_succeeded"
    PROFILE_SENT = "profile_sent"
    TUNNEL_REFUSED = "tunnel_refused"
    TUNNEL_OPENED = "tunnel_opened"
    TUNNEL_RESUMED = "tunnel_resumed"
    TUNNEL_CLOSED = "tunnel_closed"
    DTLS_UP = "dtls_up"
    DTLS_DOWN = "dtls_down"
    PEER_MOVED = "peer_moved"
    SESSION_STARTED = "session_started"
    SESSION_PROGRESS = "session_progress"
    SESSION_ENDED = "session_ended"


@dataclass(frozen=True, slots=True)
class Counters:
    """What a tunnel has moved; "received" is from the client. Drops are packets, by reason.

    `data_at_s` is the moment of the last data packet in either direction, on the reactor's clock.
    """

    received_packets: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    sent_bytes: int = 0
    dropped_spoofed: int = 0
    dropped_malformed: int = 0
    dropped_queue_full: int = 0
    dropped_unroutable: int = 0
    dropped_filtered: int = 0
    data_at_s: float = 0.0

    def plus(self, other: Counters) -> Counters:
        """What two tunnels of a session have moved together."""
        sums = {
            each.name: getattr(self, each.name) + getattr(other, each.name)
            for each in fields(self)
            if each.name != "data_at_s"
        }
        return Counters(**sums, data_at_s=max(self.data_at_s, other.data_at_s))


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """What a packet engine is and has counted beside its tunnels.

    `unroutable_packets` came from the device for nobody; `dropped_events` is what it had no room
    to tell the control plane; `threads` are those of its own.
    """

    unroutable_packets: int
    dropped_events: int
    threads: int


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, at `at_s` (Unix seconds), to whom.

    Sessions start once, when their first tunnel opens, report their progress, and end once: these
    three bring the `session`, and as `counters` what all of its tunnels have moved so far. One
    that has never had a tunnel ends without having started.
    """

    kind: EventKind
    at_s: float
    user: str = ""
    peer: str = ""
    session_id: int = 0
    profile: str = ""
    detail: str = ""
    counters: Counters | None = None
    session: SessionRecord | None = field(default=None, repr=False)
    reason: EndReason | None = None
