"""The life of a session, transition by transition."""

from __future__ import annotations

import pytest

from anyvpn.model.session import (
    Connected,
    Dormant,
    Ended,
    EndReason,
    EndRequested,
    Granted,
    SessionEvent,
    SessionState,
    TimePassed,
    TunnelLost,
    TunnelOpened,
    next_state,
)

NOW_S = 1000.0
KEPT_S = 60.0
GRANTED = Granted(1300.0)
CONNECTED = Connected(900.0)
DORMANT = Dormant(1060.0)
ENDED = Ended(EndReason.GOODBYE)
KICK = EndRequested(EndReason.KICKED)

TRANSITIONS: tuple[tuple[SessionState, SessionEvent, SessionState], ...] = (
    (GRANTED, TunnelOpened(), Connected(NOW_S)),
    (GRANTED, TunnelLost(), GRANTED),
    (GRANTED, TimePassed(), GRANTED),
    (Granted(NOW_S), TimePassed(), Ended(EndReason.NEVER_CONNECTED)),
    (GRANTED, KICK, Ended(EndReason.KICKED)),
    (CONNECTED, TunnelOpened(), Connected(NOW_S)),
    (CONNECTED, TunnelLost(), Dormant(NOW_S + KEPT_S)),
    (CONNECTED, TimePassed(), CONNECTED),
    (CONNECTED, KICK, Ended(EndReason.KICKED)),
    (DORMANT, TunnelOpened(), Connected(NOW_S)),
    (DORMANT, TunnelLost(), DORMANT),
    (DORMANT, TimePassed(), DORMANT),
    (Dormant(NOW_S), TimePassed(), Ended(EndReason.NOT_RESUMED)),
    (DORMANT, KICK, Ended(EndReason.KICKED)),
    (ENDED, TunnelOpened(), ENDED),
    (ENDED, TunnelLost(), ENDED),
    (ENDED, TimePassed(), ENDED),
    (ENDED, KICK, ENDED),
)


class NextStateTests:
    @pytest.mark.parametrize(("state", "event", "expected"), TRANSITIONS)
    def test_transition_is_as_drawn(
        self, state: SessionState, event: SessionEvent, expected: SessionState
    ) -> None:
        assert next_state(state, event, NOW_S, KEPT_S) == expected

    def test_session_that_is_not_kept_ends_at_the_next_look(self) -> None:
        lost = next_state(CONNECTED, TunnelLost(), NOW_S, 0.0)
        assert next_state(lost, TimePassed(), NOW_S, 0.0) == Ended(EndReason.NOT_RESUMED)
