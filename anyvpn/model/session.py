"""A session's life: what authentication grants, outliving connections and processes.

             CONNECT                     channel lost
Granted ────────────────▶ Connected ───────────────────▶ Dormant
   │  ▲                       ▲ │                          │  │
   │  └── (never back)        └─┼────────── CONNECT ───────┘  │
   │ token not used in time     │ goodbye, kick, time-out      │ not back in time
   ▼                            ▼                              ▼
 Ended ◀──────────────────────Ended◀────────────────────────Ended
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from anyvpn.model.authentication import Identity
from anyvpn.model.events import Counters
from anyvpn.model.group_policy import GroupPolicy
from anyvpn.model.tunnel_settings import Lease


class EndReason(Enum):
    """Why a session ended; the value is the text that operators search for."""

    GOODBYE = "the client said goodbye"
    LOGOUT = "logged out"
    KICKED = "disconnected by the operator"
    IDLE = "idle time-out"
    SESSION_TIMEOUT = "session time-out"
    NOT_RESUMED = "not resumed in time"
    NEVER_CONNECTED = "the token was not used in time"
    GATEWAY_STOPPED = "the gateway stops"
    ADDRESSES_TAKEN = "its addresses were lent to others"


@dataclass(frozen=True, slots=True)
class Granted:
    """Logged in, not yet connected; the token dies at `until_s`."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Connected:
    """A tunnel is in motion since `since_s`."""

    since_s: float


@dataclass(frozen=True, slots=True)
class Dormant:
    """The channel is lost; addresses and token are kept until `until_s`."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing is left: the next CONNECT gets 401."""

    reason: EndReason


SessionState = Granted | Connected | Dormant | Ended


@dataclass(frozen=True, slots=True)
class TunnelOpened:
    """A CONNECT with the session's token was answered."""


@dataclass(frozen=True, slots=True)
class TunnelLost:
    """The tunnel's CSTP channel is gone without a goodbye."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A moment for time limits to be looked at."""


@dataclass(frozen=True, slots=True)
class EndRequested:
    """Client, operator or time limit ends the session."""

    reason: EndReason


SessionEvent = TunnelOpened | TunnelLost | TimePassed | EndRequested


def next_state(
    state: SessionState, event: SessionEvent, now_s: float, disconnected_timeout_s: float
) -> SessionState:
    """The table of the drawing above; `now_s` and the stored moments are of one clock."""
    match state, event:
        case Ended(), _:
            return state
        case _, EndRequested(reason):
            return Ended(reason)
        case _, TunnelOpened():
            return Connected(now_s)
        case Connected(), TunnelLost():
            return Dormant(now_s + disconnected_timeout_s)
        case Granted(until_s), TimePassed() if now_s >= until_s:
            return Ended(EndReason.NEVER_CONNECTED)
        case Dormant(until_s), TimePassed() if now_s >= until_s:
            return Ended(EndReason.NOT_RESUMED)
        case _:
            return state


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What a session store keeps: everything but the token, of which it knows a digest.

    `token_digest` is SHA-256 of the token's text; moments are Unix seconds. `started_at_s` is when
    its first tunnel opened, 0 before; `counters` are of all its tunnels that have closed, and of
    the open one at the last report. A store may hand a record to another process, which must be
    able to go on with it.
    """

    token_digest: bytes = field(repr=False)
    session_id: int
    identity: Identity
    profile: str
    policy: GroupPolicy
    granted_at_s: float
    state: SessionState
    lease: Lease | None = None
    peer_address: str = ""
    hostname: str = ""
    user_agent: str = ""
    started_at_s: float = 0.0
    counters: Counters = field(default_factory=Counters)

    @property
    def accounting_id(self) -> str:
        """What names this session to accounting, over restarts and in all gateways."""
        return self.token_digest[:8].hex()
