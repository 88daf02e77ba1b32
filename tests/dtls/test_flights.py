"""What all handshakes must do, whatever their kind: loss, order, time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.dtls.flights import (
    FIRST_DATA_SEQUENCE,
    MOST_EARLY_RECORDS,
    MOST_FLIGHTS,
)
from anyvpn.dtls.handshake_messages import Message, read_fragments
from anyvpn.dtls.records import RecordOpener, RecordSealer, split_datagram
from anyvpn.errors import HandshakeFailed
from tests.dtls.joined import KINDS, PSK, Fault, Joined, assert_in_agreement, flights_of, make_pair

kinds = st.sampled_from(KINDS)


def lose(*numbers: int) -> Fault:
    return lambda number: () if number in numbers else (0.01,)


@pytest.mark.parametrize("kind", [*KINDS, "cbc"])
class UndisturbedHandshakeTests:
    def test_both_sides_come_to_the_same_keys(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server)
        joined.run()
        assert_in_agreement(client, server)
        assert joined.now_s < 0.1
        assert client.next_timeout_s() is None and server.next_timeout_s() is None

    def test_each_flight_is_one_datagram(self, kind: str) -> None:
        receivers = [receiver for receiver, _ in flights_of(kind)]
        expected = ["server", "client", "server"] + (["client"] if kind == "psk" else [])
        assert receivers == expected

    def test_data_never_shares_a_sequence_number_with_the_handshake(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server)
        joined.run()
        for name, side in (("client", client), ("server", server)):
            assert side.keys is not None
            assert side.keys.write_sequence == FIRST_DATA_SEQUENCE
            assert max(joined.sequence_numbers(name, 1)) < FIRST_DATA_SEQUENCE

    def test_print_shows_no_secret(self, kind: str) -> None:
        client, server = make_pair(kind)
        Joined(client, server).run()
        for side in (client, server):
            assert side.keys is not None
            shown = repr(side) + repr(side.keys)
            assert repr(PSK) not in shown and repr(side.keys.write.key) not in shown


@pytest.mark.parametrize("kind", KINDS)
class LossTests:
    @pytest.mark.parametrize("lost", range(4))
    def test_any_one_lost_datagram_is_made_up_for(self, kind: str, lost: int) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server, lose(lost))
        joined.run()
        assert_in_agreement(client, server)
        assert joined.now_s < 1.2

    def test_a_peer_who_never_answers_is_given_up_after_31_seconds(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server, lambda number: ())
        with pytest.raises(HandshakeFailed, match="31 seconds"):
            joined.run()
        assert joined.now_s == 31.0
        assert len(joined.sent["client"]) == 5
        assert client.next_timeout_s() is None

    def test_a_server_whose_client_went_away_gives_up_after_60_seconds(self, kind: str) -> None:
        client, server = make_pair(kind)
        assert server.receive(client.start(0.0)[0], 5.0)
        repeats = 0
        with pytest.raises(HandshakeFailed, match="60 seconds"):
            while (now_s := server.next_timeout_s()) is not None:
                repeats += len(server.handle_timeout(now_s))
        assert repeats == 7
        assert server.receive(client.start(0.0)[0], 70.0) == []

    def test_a_timeout_before_its_time_repeats_nothing(self, kind: str) -> None:
        client, _ = make_pair(kind)
        client.start(10.0)
        assert client.next_timeout_s() == 11.0
        assert client.handle_timeout(10.9) == []
        assert len(client.handle_timeout(11.0)) == 1

    def test_repeated_records_have_numbers_of_their_own(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server, lose(1, 2, 3, 5))
        joined.run()
        assert_in_agreement(client, server)
        for name in ("client", "server"):
            for epoch in (0, 1):
                numbers = joined.sequence_numbers(name, epoch)
                assert len(numbers) == len(set(numbers))


class DisturbedHandshakeTests:
    @given(
        kinds,
        st.lists(
            st.lists(st.floats(0.01, 0.8), max_size=3).map(tuple), min_size=1, max_size=9
        ).filter(lambda faults: faults.count(()) <= 4),  # a client has five tries
    )
    @settings(max_examples=120)
    def test_loss_delay_reordering_and_doubles_do_not_keep_it_from_completing(
        self, kind: str, faults: list[tuple[float, ...]]
    ) -> None:
        client, server = make_pair(kind)
        joined = Joined(
            client,
            server,
            lambda number: faults[number] if number < len(faults) else (0.01,),
        )
        joined.run()
        assert_in_agreement(client, server)
        for name in ("client", "server"):
            protected = joined.sequence_numbers(name, 1)
            assert len(protected) == len(set(protected))

    @given(kinds, st.integers(1, 40))
    @settings(max_examples=60)
    def test_messages_in_fragments_are_put_together(self, kind: str, size: int) -> None:
        client, server = make_pair(kind)
        fragments = [
            fragment for datagram in client.start(0.0) for fragment in in_fragments(datagram, size)
        ]
        answers = [answer for datagram in fragments for answer in server.receive(datagram, 0.0)]
        assert len(answers) == 1
        replies = [
            reply
            for fragment in in_fragments(answers[0], size)
            for reply in client.receive(fragment, 0.0)
        ]
        for reply in replies:
            for answer in server.receive(reply, 0.0):
                client.receive(answer, 0.0)
        assert_in_agreement(client, server)

    @pytest.mark.parametrize("kind", KINDS)
    def test_records_one_by_one_and_backwards_are_enough(self, kind: str) -> None:
        client, server = make_pair(kind)
        sides = {"client": client, "server": server}
        receiver, datagrams = "server", client.start(0.0)
        for _ in range(4):
            records = [
                record.whole(datagram)
                for datagram in datagrams
                for record in split_datagram(datagram)
            ]
            datagrams = [
                answer
                for record in reversed(records)
                for answer in sides[receiver].receive(record, 0.0)
            ]
            receiver = "client" if receiver == "server" else "server"
        assert_in_agreement(client, server)


def in_fragments(datagram: bytes, size: int) -> list[bytes]:
    """The records of a datagram one by one, each plain handshake message cut into pieces."""
    cut: list[bytes] = []
    numbers = iter(range(10_000))
    for record in split_datagram(datagram):
        if record.epoch or record.content_type != 22:
            cut.append(record.whole(datagram))
            continue
        (fragment,) = read_fragments(record.body(datagram))
        encoded = Message(fragment.message_type, fragment.message_sequence, fragment.body).encoded()
        for offset in range(0, max(1, len(fragment.body)), size):
            piece = fragment.body[offset : offset + size]
            body = encoded[:6] + offset.to_bytes(3, "big") + len(piece).to_bytes(3, "big") + piece
            head = b"\x16" + record.version + next(numbers).to_bytes(8, "big")
            cut.append(head + len(body).to_bytes(2, "big") + body)
    return cut


@pytest.mark.parametrize("kind", KINDS)
class RepeatedMessageTests:
    def test_the_same_hello_again_is_answered_again(self, kind: str) -> None:
        client, server = make_pair(kind)
        hello = client.start(0.0)[0]
        first = server.receive(hello, 0.0)
        again = server.receive(hello, 0.1)
        assert len(again) == len(first) == 1
        assert again != first
        assert len(again[0]) == len(first[0])

    def test_a_hello_with_another_random_is_ignored(self, kind: str) -> None:
        client, server = make_pair(kind)
        hello = client.start(0.0)[0]
        flight = server.receive(hello, 0.0)
        for sequence in (0, 1):
            other = bytearray(hello)
            other[18] = sequence
            other[30] ^= 1
            assert server.receive(bytes(other), 0.1) == []
        for datagram in flight:
            for answer in client.receive(datagram, 0.2):
                server.receive(answer, 0.2)
        assert server.keys is not None

    def test_a_hello_again_after_the_end_is_not_answered(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server)
        joined.run()
        keys = server.keys
        assert server.receive(joined.sent["client"][0], 5.0) == []
        assert server.keys is keys

    def test_an_endless_stream_of_hellos_is_not_answered_endlessly(self, kind: str) -> None:
        client, server = make_pair(kind)
        hello = client.start(0.0)[0]
        answers = sum(len(server.receive(hello, 0.0)) for _ in range(1000))
        assert answers == MOST_FLIGHTS

    def test_a_lost_last_flight_is_repeated_when_the_peer_repeats_its_own(self, kind: str) -> None:
        client, server = make_pair(kind)
        last = 3 if kind == "psk" else 2
        finisher, waiter = (server, client) if kind == "psk" else (client, server)
        joined = Joined(client, server, lose(last))
        joined.run(until_s=0.2)
        assert finisher.keys is not None and waiter.keys is None
        joined.go_on()
        assert_in_agreement(client, server)

    def test_a_lost_middle_flight_is_repeated_when_the_servers_first_comes_again(
        self, kind: str
    ) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server, lose(2))
        joined.run()
        assert_in_agreement(client, server)
        assert joined.now_s < 0.5  # sooner than the client's own second

    def test_the_peers_last_datagram_played_again_is_not_answered(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server)
        joined.run()
        replays = [server.receive(datagram, 1.0) for datagram in joined.sent["client"]]
        replays += [client.receive(datagram, 1.0) for datagram in joined.sent["server"]]
        assert all(answer == [] for answer in replays)


@pytest.mark.parametrize("kind", KINDS)
class EarlyRecordTests:
    def test_data_that_overtakes_the_last_flight_is_kept(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server, lose(3 if kind == "psk" else 2))
        joined.run(until_s=0.2)
        ahead, behind = (server, client) if kind == "psk" else (client, server)
        assert ahead.keys is not None
        sealed = RecordSealer(ahead.keys).seal_packets(0, [b"a", b"b"])
        assert behind.receive(sealed[0] + sealed[1], 0.2) == []
        joined.go_on()
        assert behind.keys is not None
        opened = RecordOpener(behind.keys).open_records(behind.early_records)
        assert opened == [b"\x00a", b"\x00b"]

    def test_data_in_the_datagram_of_the_last_flight_is_kept(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server, lose(3 if kind == "psk" else 2))
        joined.run(until_s=0.2)
        ahead, behind = (server, client) if kind == "psk" else (client, server)
        assert ahead.keys is not None
        last_flight = joined.sent["server" if kind == "psk" else "client"][-1]
        (sealed,) = RecordSealer(ahead.keys).seal_packets(0, [b"a"])
        behind.receive(last_flight + sealed, 0.2)
        assert behind.keys is not None
        assert RecordOpener(behind.keys).open_records(behind.early_records) == [b"\x00a"]

    def test_no_more_than_a_bounded_number_is_kept(self, kind: str) -> None:
        _, server = make_pair(kind)
        record = b"\x17\xfe\xfd\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01x"
        finished = b"\x16" + record[1:]
        for _ in range(100):
            server.receive(record * 20 + finished * 20, 0.0)
        assert len(server.early_records) == MOST_EARLY_RECORDS
