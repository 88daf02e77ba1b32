"""What becomes of a DTLS channel's handshake when the channel closes, moves or goes."""

from __future__ import annotations

import pytest

from anyvpn.dtls.records import ALERT, RecordSealer
from tests.dtls.joined import KINDS
from tests.gateway.datagram_scene import (
    ANYWHERE,
    CLOSE_NOTIFY,
    ELSEWHERE,
    HERE,
    IDENTIFIER,
    OTHER_IDENTIFIER,
    Scene,
)

kinds = pytest.mark.parametrize("kind", KINDS)


class ClosingTests:
    @kinds
    def test_the_peers_alert_closes_the_channel_once(self, kind: str) -> None:
        scene = Scene()
        owner, client = scene.tunnel(kind)
        client.close()
        client.close()
        assert len(owner.closed) == 1
        assert owner.failed == []
        assert owner.live_handshakes() == []
        assert scene.is_idle()

    def test_a_forged_alert_does_not(self) -> None:
        scene = Scene()
        owner, client = scene.tunnel()
        assert client.handshake.keys is not None
        alert = bytearray(RecordSealer(client.handshake.keys).seal(CLOSE_NOTIFY, ALERT))
        alert[-1] ^= 1
        scene.give(HERE, bytes(alert))
        assert owner.closed == []

    def test_a_client_that_closed_may_come_back_at_once(self) -> None:
        scene = Scene()
        owner = scene.owner()
        client = scene.client(owner)
        client.shake_hands()
        client.close()
        scene.client(owner).shake_hands()
        assert len(owner.established) == 2


class MovedPeerTests:
    def test_repeats_and_alerts_are_expected_from_the_new_address(self) -> None:
        scene = Scene()
        owner, client = scene.tunnel()
        scene.door.peer_moved(IDENTIFIER, ELSEWHERE)
        assert client.repeat() == []
        client.path = ELSEWHERE
        assert len(client.repeat()) == 1
        client.close()
        assert len(owner.closed) == 1
        assert scene.is_idle()

    def test_a_move_without_a_channel_is_nothing(self) -> None:
        scene = Scene()
        owner = scene.owner()
        client = scene.client(owner)
        scene.door.peer_moved(OTHER_IDENTIFIER, ELSEWHERE)
        finish = client.last_flight()
        scene.door.peer_moved(IDENTIFIER, ELSEWHERE)
        scene.give(HERE, *finish)
        assert [each.path for each in owner.established] == [HERE]
        scene.door.forget(IDENTIFIER)
        assert scene.is_idle()

    def test_two_tunnels_of_one_address_do_not_mix(self) -> None:
        scene = Scene()
        first, client = scene.tunnel()
        second = scene.owner(identifier=OTHER_IDENTIFIER)
        other_client = scene.client(second)
        other_client.shake_hands()
        assert (len(first.established), len(second.established)) == (1, 1)
        other_client.close()
        assert (first.closed, len(second.closed)) == ([], 1)
        assert len(client.repeat()) == 1


class ForgettingTests:
    @kinds
    def test_nothing_is_left_of_a_tunnel_that_is_gone(self, kind: str) -> None:
        scene = Scene()
        owner, client = scene.tunnel(kind)
        new = scene.client(owner, ELSEWHERE)
        finish = new.last_flight()
        scene.door.forget(IDENTIFIER)
        scene.door.forget(IDENTIFIER)
        assert scene.is_idle()
        assert owner.live_handshakes() == []
        assert scene.give(ELSEWHERE, *finish) == []
        assert client.repeat() == []
        client.close()
        assert scene.give(HERE, scene.client(owner).hello()) == []
        assert (len(owner.established), owner.closed, owner.failed) == (1, [], [])

    def test_stopping_forgets_all_tunnels(self) -> None:
        scene = Scene()
        scene.tunnel()
        other = scene.owner("gcm", OTHER_IDENTIFIER)
        scene.give(ELSEWHERE, scene.client(other).hello())
        scene.door.stop()
        assert scene.is_idle()
        assert scene.give(ANYWHERE, scene.client(other).hello()) == []

    def test_an_identifier_that_is_expected_again_begins_anew(self) -> None:
        scene = Scene()
        before = scene.owner()
        scene.give(HERE, scene.client(before).hello())
        after = scene.owner()
        assert scene.is_idle()
        scene.client(after).shake_hands()
        assert (before.established, len(after.established)) == ([], 1)

    @pytest.mark.parametrize("ending", ["established", "closed", "failed", "hung"])
    def test_the_tunnel_may_go_at_any_word(self, ending: str) -> None:
        scene = Scene()
        owner = scene.owner("gcm")
        client = scene.client(owner)
        finish = client.last_flight()
        told: list[None] = []

        def let_go() -> None:
            told.append(None)
            scene.door.forget(IDENTIFIER)

        if ending == "closed":
            scene.give(HERE, *finish)
        owner.when_told = let_go
        match ending:
            case "established":
                scene.give(HERE, *finish)
            case "closed":
                client.close()
            case "failed":
                key_exchange = b"\x10" + bytes(3) + b"\x00\x01" + bytes(6)
                scene.give(HERE, b"\x16\xfe\xfd" + bytes(7) + b"\x09\x00\x0c" + key_exchange)
            case "hung":
                for _ in range(100):
                    scene.clock.advance(1)
        assert len(told) == 1
        assert scene.is_idle()
        assert owner.live_handshakes() == []
