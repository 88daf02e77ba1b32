"""A channel that falls silent is probed, and given up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.model.liveness import (
    ChannelActivity,
    LivenessAction,
    LivenessLimits,
    look_at_channel,
)

NEVER_S = float("inf")


def walk(limits: LivenessLimits, until_s: float) -> list[tuple[float, LivenessAction]]:
    """What is done to a channel that received and sent at 0 for the last time, and when."""
    done = []
    activity = ChannelActivity(0.0, 0.0)
    now_s = 0.0
    while now_s <= until_s:
        action, next_s = look_at_channel(limits, activity, now_s)
        if action is not LivenessAction.NOTHING:
            done.append((now_s, action))
        if action is LivenessAction.GIVE_UP:
            break
        if action is LivenessAction.PROBE:
            activity = ChannelActivity(0.0, now_s, now_s)
        elif action is LivenessAction.KEEP_ALIVE:
            activity = ChannelActivity(0.0, now_s, activity.probed_at_s)
        assert next_s > now_s
        now_s = next_s
    return done


class LookAtChannelTests:
    def test_silent_channel_is_probed_again_and_again_and_given_up(self) -> None:
        assert walk(LivenessLimits(dpd_s=10.0), 60.0) == [
            (10.0, LivenessAction.PROBE),
            (15.0, LivenessAction.PROBE),
            (20.0, LivenessAction.PROBE),
            (25.0, LivenessAction.PROBE),
            (30.0, LivenessAction.GIVE_UP),
        ]

    def test_anything_received_ends_the_doubt(self) -> None:
        answered = ChannelActivity(received_at_s=12.0, sent_at_s=10.0, probed_at_s=10.0)
        action, next_s = look_at_channel(LivenessLimits(dpd_s=10.0), answered, 12.0)
        assert (action, next_s) == (LivenessAction.NOTHING, 22.0)

    def test_probe_of_old_does_not_put_off_a_new_one(self) -> None:
        activity = ChannelActivity(received_at_s=12.0, sent_at_s=10.0, probed_at_s=10.0)
        action, _ = look_at_channel(LivenessLimits(dpd_s=10.0), activity, 22.0)
        assert action is LivenessAction.PROBE

    def test_quiet_sender_keeps_alive(self) -> None:
        assert walk(LivenessLimits(keepalive_s=20.0), 45.0) == [
            (20.0, LivenessAction.KEEP_ALIVE),
            (40.0, LivenessAction.KEEP_ALIVE),
        ]

    def test_nothing_is_done_when_all_is_off(self) -> None:
        found = look_at_channel(LivenessLimits(), ChannelActivity(0.0, 0.0), 1e9)
        assert found == (LivenessAction.NOTHING, NEVER_S)

    def test_late_look_gives_up_at_once(self) -> None:
        action, _ = look_at_channel(LivenessLimits(dpd_s=10.0), ChannelActivity(0.0, 0.0), 1e6)
        assert action is LivenessAction.GIVE_UP

    @settings(max_examples=100)
    @given(
        st.floats(0.5, 100),
        st.floats(0, 100),
        st.floats(0, 400),
        st.floats(0, 400),
        st.floats(0, 9),
    )
    def test_next_look_is_never_in_the_past(
        self, dpd_s: float, keepalive_s: float, received_s: float, sent_s: float, probed_s: float
    ) -> None:
        limits = LivenessLimits(dpd_s, keepalive_s)
        _, next_s = look_at_channel(limits, ChannelActivity(received_s, sent_s, probed_s), 400.0)
        assert next_s >= 400.0
