"""Which datagrams begin a handshake, and how handshakes come to their end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anyvpn.dtls.psk import ClientPSK
from anyvpn.dtls.records import RecordOpener
from anyvpn.dtls.resumption import ClientResumption
from anyvpn.gateway.datagram_door import BETWEEN_HANDSHAKES_S
from anyvpn.model.channels import PeerPath
from tests.dtls.joined import KINDS
from tests.gateway.datagram_scene import (
    ANYWHERE,
    ELSEWHERE,
    HERE,
    IDENTIFIER,
    Owner,
    Scene,
    application_record,
    fragments,
)

kinds = pytest.mark.parametrize("kind", KINDS)


class HandshakeTests:
    @kinds
    def test_a_hello_of_a_live_tunnel_ends_in_keys_that_both_sides_share(self, kind: str) -> None:
        scene = Scene()
        owner = scene.owner(kind)
        client = scene.client(owner)
        client.shake_hands()
        (established,) = owner.established
        keys = client.handshake.keys
        assert keys is not None
        assert established.suite == client.handshake.suite
        assert established.path == HERE
        for ours, theirs in ((keys, established.keys), (established.keys, keys)):
            assert RecordOpener(theirs).open(application_record(ours, b"data")) == b"data"
        assert (owner.closed, owner.failed) == ([], [])
        assert scene.clock.getDelayedCalls() == []

    @kinds
    @pytest.mark.parametrize("lost", range(6))
    def test_any_datagram_may_be_lost(self, kind: str, lost: int) -> None:
        scene = Scene()
        owner = scene.owner(kind)
        client = scene.client(owner)
        number = 0
        to_door, to_client = [client.hello()], list[bytes]()
        for _ in range(100):
            while to_door or to_client:
                is_lost, number = number == lost, number + 1
                if to_door:
                    datagram = to_door.pop(0)
                    to_client += [] if is_lost else scene.give(HERE, datagram)
                else:
                    datagram = to_client.pop(0)
                    to_door += [] if is_lost else client.answers([datagram])
            scene.clock.advance(0.1)
            now_s = scene.clock.seconds()
            to_client += [each for _, each in scene.take_sent()]
            timeout_s = client.handshake.next_timeout_s()
            if timeout_s is not None and now_s >= timeout_s:
                to_door += client.handshake.handle_timeout(now_s)
        assert client.handshake.keys is not None
        (established,) = owner.established
        record = application_record(established.keys, b"data")
        assert RecordOpener(client.handshake.keys).open(record) == b"data"
        assert owner.begun == 1
        assert scene.clock.getDelayedCalls() == []

    @kinds
    def test_an_unanswered_flight_is_repeated_to_where_the_hello_came_from(self, kind: str) -> None:
        scene = Scene()
        client = scene.client(scene.owner(kind), ELSEWHERE)
        flight = scene.give(ELSEWHERE, client.hello())
        scene.clock.advance(0.41)
        repeated = scene.take_sent()
        assert [path for path, _ in repeated] == [ELSEWHERE] * len(flight)
        assert len(scene.clock.getDelayedCalls()) == 1

    @kinds
    def test_one_that_hangs_is_dropped_by_its_time_limit(self, kind: str) -> None:
        scene = Scene()
        owner = scene.owner(kind)
        scene.give(HERE, scene.client(owner).hello())
        for _ in range(100):
            scene.clock.advance(1)
        assert len(owner.failed) == 1
        assert (owner.established, owner.closed) == ([], [])
        assert owner.live_handshakes() == []
        assert scene.is_idle()

    def test_the_fragments_of_a_hello_come_together(self) -> None:
        scene = Scene()
        owner = scene.owner()
        client = scene.client(owner)
        flight = scene.give(HERE, *fragments(client.hello(), 70))
        while flight:
            flight = scene.give(HERE, *client.answers(flight))
        assert len(owner.established) == 1
        assert owner.begun == 1

    @kinds
    def test_records_that_overtook_the_last_flight_are_handed_over_once(self, kind: str) -> None:
        scene = Scene()
        owner = scene.owner(kind)
        client = scene.client(owner)
        finish = client.last_flight()
        assert isinstance(client.handshake, ClientPSK | ClientResumption)
        keys = client.handshake._protected_keys
        assert keys is not None
        early = application_record(replace(keys, write_sequence=1 << 16), b"early")
        late = application_record(replace(keys, write_sequence=1 << 17), b"late")
        (handshake,) = owner.live_handshakes()
        scene.give(HERE, early, *finish)
        assert handshake.early_records == []
        scene.give(HERE, late)
        assert handshake.early_records == []
        (established,) = owner.established
        assert established.early_records == (early,)

    def test_one_that_cannot_go_on_is_gone_and_makes_room_at_once(self) -> None:
        scene = Scene()
        owner = scene.owner("gcm")
        stranger = Owner("gcm-128", IDENTIFIER, scene.random)
        assert scene.give(HERE, scene.client(stranger).hello()) == []
        assert len(owner.failed) == 1
        assert owner.live_handshakes() == []
        assert scene.is_idle()
        scene.client(owner).shake_hands()
        assert len(owner.established) == 1


class RepeatedHelloTests:
    @kinds
    def test_the_same_hello_again_gets_the_same_answer(self, kind: str) -> None:
        scene = Scene()
        owner = scene.owner(kind)
        hello = scene.client(owner).hello()
        first, again = scene.give(HERE, hello), scene.give(HERE, hello)
        assert owner.begun == 1
        assert [len(each) for each in again] == [len(each) for each in first]
        # the same ServerHello, under the next sequence number
        assert again[0][13:60] == first[0][13:60]
        assert again[0][:11] != first[0][:11]

    def test_from_another_address_it_gets_no_answer(self) -> None:
        scene = Scene()
        owner = scene.owner()
        hello = scene.client(owner).hello()
        scene.give(HERE, hello)
        scene.clock.advance(BETWEEN_HANDSHAKES_S)
        scene.take_sent()
        assert scene.give(ELSEWHERE, hello) == []
        assert owner.begun == 1

    def test_after_the_handshake_it_changes_nothing(self) -> None:
        scene = Scene()
        owner = scene.owner()
        client = scene.client(owner)
        hello = client.hello()
        flight = scene.give(HERE, hello)
        while flight:
            flight = scene.give(HERE, *client.answers(flight))
        scene.clock.advance(BETWEEN_HANDSHAKES_S)
        scene.give(HERE, hello)
        assert owner.begun == len(owner.established) == 1
        assert len(client.repeat()) == 1

    def test_the_last_flight_again_is_answered_as_long_as_the_channel_lives(self) -> None:
        scene = Scene()
        owner, client = scene.tunnel("psk")
        scene.clock.advance(1000)
        assert len(client.repeat()) == 1
        assert len(owner.established) == 1
        assert scene.clock.getDelayedCalls() == []


class SecondHandshakeTests:
    @kinds
    def test_the_old_channel_stays_until_the_new_one_is_complete(self, kind: str) -> None:
        scene = Scene()
        owner, old = scene.tunnel(kind)
        new = scene.client(owner, ELSEWHERE)
        finish = new.last_flight()
        assert len(owner.established) == 1
        assert len(owner.live_handshakes()) == 2
        if kind == "psk":  # in a resumption the last word is the client's
            assert len(old.repeat()) == 1
        scene.give(ELSEWHERE, *finish)
        assert [each.path for each in owner.established] == [HERE, ELSEWHERE]
        assert owner.established[1].keys != owner.established[0].keys
        assert (owner.closed, owner.failed) == ([], [])

    @kinds
    def test_the_old_one_is_dead_afterwards(self, kind: str) -> None:
        scene = Scene()
        owner, old = scene.tunnel(kind)
        new = scene.client(owner, ELSEWHERE)
        new.shake_hands()
        old.close()
        assert old.repeat() == []
        assert owner.closed == []
        assert len(owner.live_handshakes()) == 1
        new.close()
        assert len(owner.closed) == 1

    def test_it_may_come_from_the_same_address(self) -> None:
        scene = Scene()
        owner, _ = scene.tunnel()
        new = scene.client(owner)
        new.shake_hands()
        assert len(owner.established) == 2
        assert new.handshake.keys is not None
        assert len(owner.live_handshakes()) == 1
        assert len(new.repeat()) == 1

    def test_it_must_wait_for_its_turn(self) -> None:
        scene = Scene()
        owner = scene.owner()
        scene.client(owner).shake_hands()
        scene.clock.advance(BETWEEN_HANDSHAKES_S - 0.01)
        hello = scene.client(owner, ELSEWHERE).hello()
        assert scene.give(ELSEWHERE, hello) == []
        assert owner.begun == 1
        scene.clock.advance(0.01)
        assert scene.give(ELSEWHERE, hello) != []

    def test_a_newer_hello_takes_the_place_of_one_that_leads_nowhere(self) -> None:
        scene = Scene()
        owner, _ = scene.tunnel()
        slow = scene.client(owner, ELSEWHERE)
        finish = slow.last_flight()
        scene.clock.advance(BETWEEN_HANDSHAKES_S)
        scene.take_sent()
        newer = scene.client(owner, ANYWHERE)
        newer_finish = newer.last_flight()
        assert len(scene.clock.getDelayedCalls()) == 1
        assert scene.give(ELSEWHERE, *finish) == []
        scene.give(ANYWHERE, *newer_finish)
        assert [each.path for each in owner.established] == [HERE, ANYWHERE]

    def test_there_are_never_more_than_two(self) -> None:
        scene = Scene()
        owner, _ = scene.tunnel()
        for number in range(20):
            path = PeerPath(0, ("203.0.113.5", 40_000 + number))
            scene.give(path, scene.client(owner, path).hello())
            assert len(owner.live_handshakes()) <= 2
            assert len(scene.clock.getDelayedCalls()) == 1
            scene.clock.advance(BETWEEN_HANDSHAKES_S)
            scene.take_sent()
        assert owner.begun == 21
        assert len(scene.door._by_path) == 2
