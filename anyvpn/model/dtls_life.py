"""When a client tries for its DTLS channel, and when it makes do without.

                     complete
Handshaking ─────────────────────────▶ Up
   │  ▲  ▲                              │
   │  │  └──────────── lost ────────────┘
   │  │ time for a quiet try
   ▼  │ (without hope until it succeeds)
GivenUp ◀── the last of five tries unanswered, or a channel lost as soon as it was up

A handshake repeats its hello after 1, 2, 4 and 8 s and gives up 16 s later (protocol reference,
section 13.5). While there is hope the adapter has the DTLS channel's MTU, without it the one of
CSTP.
"""

from __future__ import annotations

from dataclasses import dataclass

# Ours: what openconnect waits
RETRY_AFTER_S = 60.0
SHORTEST_LIFE_S = 5.0
"""A gateway that closes each channel at once is not to keep us busy."""


@dataclass(frozen=True, slots=True)
class Handshaking:
    """Hellos go out; a quiet handshake is one of those that nobody counts on."""

    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Up:
    """Data goes over DTLS since `since_s`."""

    since_s: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Data goes over CSTP; the next quiet try comes at `retry_at_s`."""

    retry_at_s: float


DTLSState = Handshaking | Up | GivenUp


@dataclass(frozen=True, slots=True)
class Completed:
    """The handshake is complete."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handshake came to nothing."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The channel that was up is not any more."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A moment for a try to be due."""


DTLSEvent = Completed | Failed | Lost | TimePassed


def next_state(state: DTLSState, event: DTLSEvent, now_s: float) -> DTLSState:
    """The table of the drawing above."""
    match state, event:
        case Handshaking(), Completed():
            return Up(now_s)
        case Handshaking(), Failed():
            return GivenUp(now_s + RETRY_AFTER_S)
        case Up(since_s), Lost() if now_s - since_s < SHORTEST_LIFE_S:
            return GivenUp(now_s + RETRY_AFTER_S)
        case Up(), Lost():
            return Handshaking()
        case GivenUp(retry_at_s), TimePassed() if now_s >= retry_at_s:
            return Handshaking(quiet=True)
        case _:
            return state


def is_hopeful(state: DTLSState) -> bool:
    """Whether the adapter has the DTLS channel's MTU."""
    return isinstance(state, Up) or state == Handshaking(quiet=False)
