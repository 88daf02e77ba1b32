"""Hellos at a rate, impostors and noise: what costs nothing and disturbs nobody."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.dtls.hello_cookies import HelloCookies
from anyvpn.dtls.records import ALERT, RecordSealer
from anyvpn.gateway.admission import Admission
from anyvpn.gateway.datagram_door import HELLO_TIME_S
from anyvpn.gateway.settings import Limits
from anyvpn.model.channels import PeerPath
from tests.dtls.joined import KINDS
from tests.gateway.datagram_scene import (
    ANYWHERE,
    CLOSE_NOTIFY,
    ELSEWHERE,
    HERE,
    IDENTIFIER,
    OTHER_IDENTIFIER,
    Client,
    Owner,
    Scene,
    application_record,
    fragments,
    impostors_flight,
)

kinds = pytest.mark.parametrize("kind", KINDS)


paths = st.sampled_from([HERE, ELSEWHERE, ANYWHERE])


def still_works(owner: Owner, client: Client) -> bool:
    """Whether the established channel was told nothing, and its handshake can still be closed."""
    if len(owner.established) != 1 or owner.closed:
        return False
    client.close()
    return len(owner.closed) == 1


class HelloLimitTests:
    def test_the_host_is_asked_about_and_only_for_handshakes_that_would_begin(self) -> None:
        asked: list[str] = []

        def hello_allowed(host: str) -> bool:
            asked.append(host)
            return len(asked) > 1

        scene = Scene(hello_allowed)
        owner = scene.owner()
        hello = scene.client(owner).hello()
        scene.give(HERE, hello.replace(IDENTIFIER, OTHER_IDENTIFIER), b"no hello")
        assert asked == []
        assert scene.give(HERE, hello) == []
        assert (asked, owner.begun) == (["192.0.2.1"], 0)
        assert scene.is_idle()
        assert scene.give(HERE, hello) != []
        scene.give(HERE, hello)
        assert len(asked) == 2

    def test_a_host_begins_a_bounded_number_in_a_second(self) -> None:
        scene = Scene(lambda host: admission.hello_allowed(host))
        admission = Admission(Limits(hellos_per_address_per_s=20.0), scene.clock.seconds)
        owners = [scene.owner("gcm", number.to_bytes(32, "big")) for number in range(50)]
        for number, owner in enumerate(owners):
            path = PeerPath(0, ("203.0.113.5", 40_000 + number))
            scene.give(path, scene.client(owner).hello())
        assert sum(owner.begun for owner in owners) == 20
        assert scene.give(HERE, scene.client(owners[-1]).hello()) != []


class ForeignHelloTests:
    """Somebody overheard the identifier, and sends hellos from elsewhere."""

    def test_it_does_not_keep_the_client_waiting(self) -> None:
        scene = Scene()
        owner = scene.owner(host=HERE.host)
        assert scene.give(ELSEWHERE, scene.client(owner, ELSEWHERE).hello()) != []
        scene.client(owner).shake_hands()
        assert [each.path for each in owner.established] == [HERE]
        assert len(owner.live_handshakes()) == 1

    def test_it_waits_for_its_own_turn(self) -> None:
        scene = Scene()
        owner = scene.owner(host=HERE.host)
        finish = scene.client(owner).last_flight()
        for path in (ELSEWHERE, ANYWHERE):
            assert scene.give(path, scene.client(owner, path).hello()) == []
        scene.give(HERE, *finish)
        assert len(owner.established) == 1

    def test_strangers_keep_each_other_waiting(self) -> None:
        scene = Scene()
        owner = scene.owner(host=HERE.host)
        assert scene.give(ELSEWHERE, scene.client(owner, ELSEWHERE).hello()) != []
        assert scene.give(ANYWHERE, scene.client(owner, ANYWHERE).hello()) == []


class CookieTests:
    """Where the operator wants clients to show that they receive what is sent to them."""

    @kinds
    def test_a_client_that_brings_its_cookie_comes_in(self, kind: str) -> None:
        scene = Scene(cookies=HelloCookies(b"secret"))
        owner = scene.owner(kind)
        scene.client(owner).shake_hands()
        assert len(owner.established) == 1

    def test_nothing_is_kept_before_that(self) -> None:
        scene = Scene(cookies=HelloCookies(b"secret"))
        owner = scene.owner()
        (challenge,) = scene.give(HERE, scene.client(owner).hello())
        assert challenge[13] == 3  # HelloVerifyRequest
        assert owner.begun == 0
        assert scene.is_idle()

    def test_a_cookie_is_of_use_at_its_address_only(self) -> None:
        scene = Scene(cookies=HelloCookies(b"secret"))
        owner = scene.owner()
        client = scene.client(owner)
        (hello,) = client.answers(scene.give(HERE, client.hello()))
        neighbour = PeerPath(HERE.socket_index, (HERE.host, 50_009), HERE.local_address)
        for path in (ELSEWHERE, neighbour):
            (answer,) = scene.give(path, hello)
            assert answer[13] == 3
        assert owner.begun == 0
        scene.give(HERE, hello)
        assert owner.begun == 1

    def test_challenges_count_as_hellos(self) -> None:
        scene = Scene(lambda host: False, HelloCookies(b"secret"))
        owner = scene.owner()
        assert scene.give(HERE, scene.client(owner).hello()) == []

    def test_half_a_hello_gets_no_answer(self) -> None:
        scene = Scene(cookies=HelloCookies(b"secret"))
        owner = scene.owner()
        assert scene.give(HERE, *fragments(scene.client(owner).hello(), 70)) == []
        assert owner.begun == 0


class ImpostorTests:
    @kinds
    @pytest.mark.parametrize("path", [HERE, ELSEWHERE])
    def test_one_without_the_secret_leaves_the_established_one_alone(
        self, kind: str, path: PeerPath
    ) -> None:
        scene = Scene()
        owner, client = scene.tunnel(kind)
        scene.give(path, *impostors_flight(scene, owner, path))
        for _ in range(100):
            scene.clock.advance(1)
        scene.take_sent()
        assert len(owner.failed) == 1
        assert (len(owner.established), owner.closed) == (1, [])
        assert len(owner.live_handshakes()) == 1
        assert scene.clock.getDelayedCalls() == []
        client.close()
        assert len(owner.closed) == 1

    def test_alerts_in_the_clear_close_nothing(self) -> None:
        scene = Scene()
        owner, client = scene.tunnel("gcm")
        in_the_clear = b"\x15\xfe\xfd" + bytes(7) + b"\x09\x00\x02"
        for alert in (CLOSE_NOTIFY, b"\x02\x28"):
            assert scene.give(HERE, in_the_clear + alert) == []
        assert owner.closed == []
        client.close()
        assert len(owner.closed) == 1


class HostileDatagramTests:
    def test_a_hello_of_no_live_tunnel_gets_no_answer_and_leaves_nothing(self) -> None:
        scene = Scene()
        owner = scene.owner()
        stranger = Owner("psk", OTHER_IDENTIFIER, scene.random)
        for number in range(300):
            path = PeerPath(0, ("203.0.113.5", 40_000 + number))
            assert scene.give(path, scene.client(stranger).hello()) == []
        assert (stranger.begun, owner.begun) == (0, 0)
        assert scene.is_idle()
        assert list(scene.door._expected) == [IDENTIFIER]

    def test_a_hello_that_is_cut_short_gets_no_answer(self) -> None:
        scene = Scene()
        owner = scene.owner()
        hello = scene.client(owner).hello()
        for length in range(len(hello)):
            assert scene.give(HERE, hello[:length]) == []
        assert owner.begun == 0
        assert scene.is_idle()

    def test_half_a_hello_is_kept_for_a_short_time_only(self) -> None:
        scene = Scene()
        owner = scene.owner()
        half, _ = fragments(scene.client(owner).hello(), 70)
        assert scene.give(ANYWHERE, half) == []
        assert owner.begun == 1
        scene.clock.advance(HELLO_TIME_S)
        assert owner.failed == ["the rest of the hello did not come"]
        assert owner.live_handshakes() == []
        assert scene.is_idle()
        scene.client(owner).shake_hands()
        assert len(owner.established) == 1

    @given(st.lists(st.tuples(paths, st.binary(max_size=120)), max_size=6))
    @settings(max_examples=60)
    def test_noise_disturbs_neither_channel_nor_handshake(
        self, noise: list[tuple[PeerPath, bytes]]
    ) -> None:
        scene = Scene()
        owner, _ = scene.tunnel("gcm")
        pending = scene.client(owner, ELSEWHERE)
        finish = pending.last_flight()
        for path, datagram in noise:
            assert scene.give(path, datagram) == []
        scene.give(ELSEWHERE, *finish)
        assert len(owner.established) == 2
        pending.close()
        assert len(owner.closed) == 1

    @given(st.data())
    @settings(max_examples=60)
    def test_changed_datagrams_of_a_handshake_never_harm_the_established_one(
        self, data: st.DataObject
    ) -> None:
        scene = Scene()
        owner, client = scene.tunnel(data.draw(st.sampled_from(KINDS)))
        path = data.draw(paths)
        other = scene.client(owner, path)
        real = [other.hello(), *impostors_flight(scene, owner, path)]
        for _ in range(data.draw(st.integers(1, 4))):
            changed = bytearray(data.draw(st.sampled_from(real)))
            for _ in range(data.draw(st.integers(0, 3))):
                changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(
                    st.integers(0, 255)
                )
            del changed[data.draw(st.integers(0, len(changed))) :]
            scene.give(path, bytes(changed))
            assert len(scene.clock.getDelayedCalls()) <= 1
            assert len(scene.door._by_path) <= 2
        assert still_works(owner, client)

    def test_records_without_a_handshake_are_nothing(self) -> None:
        scene = Scene()
        owner, client = scene.tunnel()
        assert client.handshake.keys is not None
        alert = RecordSealer(client.handshake.keys).seal(CLOSE_NOTIFY, ALERT)
        data = application_record(client.handshake.keys, b"data")
        assert scene.give(ANYWHERE, alert, data) == []
        assert still_works(owner, client)
