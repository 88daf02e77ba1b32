"""When a channel is probed, kept alive and given up (protocol reference, section 13).

              silent for dpd_s               silent for 3 × dpd_s (clients: 2)
alive ───────────────────────▶ probing ───────────────────────────▶ dead
  ▲                               │
  └────── anything received ──────┘
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# Ours
DEAD_AFTER_DPD_INTERVALS = 3.0  # protocol reference, section 13.2: the gateway's rule
CLIENT_DEAD_AFTER_DPD_INTERVALS = 2.0  # the client's
PROBE_AGAIN_AFTER_DPD_INTERVALS = 0.5  # as clients repeat theirs


class LivenessAction(Enum):
    """What a look at a channel asks for."""

    NOTHING = "nothing"
    PROBE = "probe"
    KEEP_ALIVE = "keep alive"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class LivenessLimits:
    """Seconds; 0 switches that part off. `keepalive_s` is for the side that keeps NATs open."""

    dpd_s: float = 0.0
    keepalive_s: float = 0.0
    dead_after_intervals: float = DEAD_AFTER_DPD_INTERVALS


@dataclass(frozen=True, slots=True)
class ChannelActivity:
    """When a channel last received, last sent, and was last probed (0: never).

    `round_trip_s` is how long the answer to the last probe that was answered took (0: none was).
    """

    received_at_s: float
    sent_at_s: float
    probed_at_s: float = 0.0
    round_trip_s: float = 0.0


def look_at_channel(
    limits: LivenessLimits, activity: ChannelActivity, now_s: float
) -> tuple[LivenessAction, float]:
    """The action due at `now_s`, and the moment of the next look (infinity when all is off)."""
    silent_s = now_s - activity.received_at_s
    next_look_s = float("inf")
    if limits.dpd_s > 0:
        dead_at_s = activity.received_at_s + limits.dead_after_intervals * limits.dpd_s
        if now_s >= dead_at_s:
            return LivenessAction.GIVE_UP, now_s
        probe_at_s = activity.received_at_s + limits.dpd_s
        if activity.probed_at_s > activity.received_at_s:
            again_s = activity.probed_at_s + PROBE_AGAIN_AFTER_DPD_INTERVALS * limits.dpd_s
            probe_at_s = max(probe_at_s, again_s)
        if silent_s >= limits.dpd_s and now_s >= probe_at_s:
            again_s = now_s + PROBE_AGAIN_AFTER_DPD_INTERVALS * limits.dpd_s
            return LivenessAction.PROBE, min(again_s, dead_at_s)
        next_look_s = min(probe_at_s, dead_at_s)
    if limits.keepalive_s > 0:
        keepalive_at_s = activity.sent_at_s + limits.keepalive_s
        if now_s >= keepalive_at_s:
            return LivenessAction.KEEP_ALIVE, min(next_look_s, now_s + limits.keepalive_s)
        next_look_s = min(next_look_s, keepalive_at_s)
    return LivenessAction.NOTHING, next_look_s
