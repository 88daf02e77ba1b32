"""Tests of anyvpn.model.dtls_life."""

from __future__ import annotations

import pytest

from anyvpn.model.dtls_life import (
    RETRY_AFTER_S,
    SHORTEST_LIFE_S,
    Completed,
    DTLSEvent,
    DTLSState,
    Failed,
    GivenUp,
    Handshaking,
    Lost,
    TimePassed,
    Up,
    is_hopeful,
    next_state,
)

NOW_S = 100.0
AGAIN = GivenUp(NOW_S + RETRY_AFTER_S)


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        (Handshaking(), Completed(), Up(NOW_S)),
        (Handshaking(), Failed(), AGAIN),
        (Handshaking(quiet=True), Failed(), AGAIN),
        (Handshaking(quiet=True), Completed(), Up(NOW_S)),
        (Up(NOW_S - SHORTEST_LIFE_S), Lost(), Handshaking()),
        (Up(NOW_S - SHORTEST_LIFE_S + 1), Lost(), AGAIN),
        (GivenUp(NOW_S), TimePassed(), Handshaking(quiet=True)),
        (GivenUp(NOW_S + 1), TimePassed(), GivenUp(NOW_S + 1)),
        (Up(1.0), Failed(), Up(1.0)),
        (Handshaking(), Lost(), Handshaking()),
    ],
)
def test_the_table(state: DTLSState, event: DTLSEvent, expected: DTLSState) -> None:
    assert next_state(state, event, NOW_S) == expected


def test_a_quiet_try_is_without_hope_until_it_succeeds() -> None:
    assert is_hopeful(Handshaking())
    assert is_hopeful(Up(0))
    assert not is_hopeful(Handshaking(quiet=True))
    assert not is_hopeful(GivenUp(0))
