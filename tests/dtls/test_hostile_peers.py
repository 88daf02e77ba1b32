"""What no datagram may do to a handshake, from a peer or from anyone: whatever the kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.dtls.flights import FlightExchange
from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.handshake_messages import Message
from anyvpn.dtls.records import RecordSealer, split_datagram
from anyvpn.errors import HandshakeFailed
from tests.dtls.joined import KINDS, Joined, assert_in_agreement, feed, flights_of, make_pair

kinds = st.sampled_from(KINDS)


def epoch_0_alert(kind: str, level: int, description: int) -> bytes:
    version = b"\x01\x00" if kind == "old" else b"\xfe\xfd"
    return b"\x15" + version + bytes(7) + b"\x09\x00\x02" + bytes([level, description])


@pytest.mark.parametrize("kind", KINDS)
class AlertTests:
    @pytest.mark.parametrize(("level", "description"), [(1, 0), (2, 40), (2, 0)])
    def test_a_fatal_alert_or_the_end_of_the_channel_fails_it(
        self, kind: str, level: int, description: int
    ) -> None:
        client, _ = make_pair(kind)
        client.start(0.0)
        with pytest.raises(HandshakeFailed):
            client.receive(epoch_0_alert(kind, level, description), 0.1)
        assert client.next_timeout_s() is None

    def test_a_warning_is_nothing(self, kind: str) -> None:
        client, _ = make_pair(kind)
        client.start(0.0)
        assert client.receive(epoch_0_alert(kind, 1, 90), 0.1) == []

    def test_afterwards_only_an_authenticated_alert_counts(self, kind: str) -> None:
        client, server = make_pair(kind)
        Joined(client, server).run()
        assert client.receive(epoch_0_alert(kind, 2, 40), 1.0) == []
        assert server.keys is not None
        alert = RecordSealer(server.keys).seal(b"\x01\x00", 21)
        assert client.receive(alert[:-1] + bytes([alert[-1] ^ 1]), 1.0) == []
        with pytest.raises(HandshakeFailed, match="closed"):
            client.receive(alert, 1.0)


def sealed_message(sender: Handshake, message: Message) -> bytes:
    """A message in a record of the second epoch, under the keys that its sender has."""
    assert isinstance(sender, FlightExchange) and sender._protected_keys is not None
    return RecordSealer(replace(sender._protected_keys, write_sequence=100)).seal(
        message.encoded(), 22
    )


@pytest.mark.parametrize("kind", KINDS)
class UnexpectedMessageTests:
    """A peer who has the keys and yet does not keep to the protocol, and one who has none."""

    def before_the_end(self, kind: str, receiver: str) -> tuple[Handshake, Handshake, int]:
        """The one who awaits Finished, the other, and the number that Finished will have."""
        client, server = make_pair(kind)
        (hello,) = client.start(0.0)
        (flight,) = server.receive(hello, 0.0)
        if kind == "psk":
            (flight,) = client.receive(flight, 0.0)
            if receiver == "server":
                (record, *_) = split_datagram(flight)
                server.receive(record.whole(flight), 0.0)
                return server, client, 2
            server.receive(flight, 0.0)
            return client, server, 2
        sequence = 2 if kind == "old" else 1
        if receiver == "server":
            client.receive(flight, 0.0)
            return server, client, sequence
        (record, *_) = split_datagram(flight)
        client.receive(record.whole(flight), 0.0)
        return client, server, sequence

    @pytest.mark.parametrize("receiver", ["client", "server"])
    def test_a_finished_over_another_handshake_fails(self, kind: str, receiver: str) -> None:
        side, peer, sequence = self.before_the_end(kind, receiver)
        for verify_data in (bytes(12), b"", bytes(13)):
            forged = sealed_message(peer, Message(20, sequence, verify_data))
            with pytest.raises(HandshakeFailed, match="does not fit"):
                side.receive(forged, 0.1)
            assert side.keys is None and side.next_timeout_s() is None
            side, peer, sequence = self.before_the_end(kind, receiver)

    @pytest.mark.parametrize("receiver", ["client", "server"])
    def test_other_messages_under_the_keys_are_ignored(self, kind: str, receiver: str) -> None:
        side, peer, sequence = self.before_the_end(kind, receiver)
        assert side.receive(sealed_message(peer, Message(16, sequence, b"")), 0.1) == []
        assert side.next_timeout_s() is not None

    def test_a_message_after_finished_is_not_waited_for(self, kind: str) -> None:
        client, server = make_pair(kind)
        joined = Joined(client, server)
        version = b"\x01\x00" if kind == "old" else b"\xfe\xfd"
        for sequence in (2, 3, 4):
            encoded = Message(16, sequence, b"").encoded()
            head = b"\x16" + version + bytes(6) + sequence.to_bytes(2, "big")
            if not (kind != "gcm" and sequence == 2):
                server.receive(head + len(encoded).to_bytes(2, "big") + encoded, 0.0)
        joined.run()
        assert_in_agreement(client, server)

    @pytest.mark.parametrize(("at", "value"), [(18, 2), (17, 1), (5, 0x80), (8, 1)])
    def test_a_hello_with_a_number_that_no_first_one_has_is_ignored(
        self, kind: str, at: int, value: int
    ) -> None:
        client, server = make_pair(kind)
        hello = bytearray(client.start(0.0)[0])
        hello[at] = value
        assert server.receive(bytes(hello), 0.0) == []
        assert server.next_timeout_s() is None

    def test_a_plain_record_of_another_version_is_ignored(self, kind: str) -> None:
        client, server = make_pair(kind)
        hello = bytearray(client.start(0.0)[0])
        hello[1:3] = b"\xfe\xfd" if kind == "old" else b"\x01\x00"
        assert server.receive(bytes(hello), 0.0) == []


class HostileDatagramTests:
    @pytest.mark.parametrize("kind", KINDS)
    def test_flights_cut_at_any_byte_fail_cleanly_or_are_ignored(self, kind: str) -> None:
        for index, (receiver, datagram) in enumerate(flights_of(kind)):
            for size in range(len(datagram)):
                side = after_flights(kind, receiver, index)
                feed(side, [datagram[:size]])
                assert side.keys is None or size > len(datagram) - 40

    @given(kinds, st.integers(0, 3), st.data())
    @settings(max_examples=200)
    def test_flights_with_changed_bytes_fail_cleanly_or_are_ignored(
        self, kind: str, index: int, data: st.DataObject
    ) -> None:
        flights = flights_of(kind)
        index = min(index, len(flights) - 1)
        receiver, datagram = flights[index]
        changed = bytearray(datagram)
        for at in data.draw(st.lists(st.integers(0, len(datagram) - 1), min_size=1, max_size=4)):
            changed[at] = data.draw(st.integers(0, 255))
        side = after_flights(kind, receiver, index)
        feed(side, [bytes(changed), datagram, bytes(changed)])

    @given(kinds, st.sampled_from(("client", "server")), st.data())
    @settings(max_examples=150)
    def test_any_mix_of_true_and_false_datagrams_fails_cleanly_or_is_ignored(
        self, kind: str, receiver: str, data: st.DataObject
    ) -> None:
        true = st.sampled_from([datagram for _, datagram in flights_of(kind)])
        header = st.builds(
            lambda content_type, version, epoch, body: (
                content_type + version + epoch + bytes(6) + len(body).to_bytes(2, "big") + body
            ),
            st.sampled_from((b"\x14", b"\x15", b"\x16", b"\x17", b"\x18")),
            st.sampled_from((b"\xfe\xfd", b"\xfe\xff", b"\x01\x00")),
            st.sampled_from((b"\x00\x00", b"\x00\x01")),
            hostile_messages() | st.binary(max_size=60),
        )
        client, server = make_pair(kind)
        client.start(0.0)
        side = client if receiver == "client" else server
        datagrams = data.draw(st.lists(true | header | st.binary(max_size=80), max_size=6))
        feed(side, datagrams)


def hostile_messages() -> st.SearchStrategy[bytes]:
    """Handshake headers whose numbers may lie, with bodies that may not fit."""
    small = st.sampled_from((0, 1, 2, 5, 32, 70, 4096, 0xFFFFFF))
    return st.builds(
        lambda message_type, length, sequence, offset, size, body: (
            bytes([message_type])
            + length.to_bytes(3, "big")
            + sequence.to_bytes(2, "big")
            + offset.to_bytes(3, "big")
            + size.to_bytes(3, "big")
            + body
        ),
        st.sampled_from((0, 1, 2, 3, 4, 11, 12, 14, 16, 20, 99)),
        small,
        st.sampled_from((0, 1, 2, 3, 65535)),
        st.sampled_from((0, 1, 5)),
        small,
        st.binary(max_size=80),
    )


def after_flights(kind: str, receiver: str, index: int) -> Handshake:
    """One side of a fresh handshake, just before it gets the flight of this index."""
    client, server = make_pair(kind)
    client.start(0.0)
    side = client if receiver == "client" else server
    for to, datagram in flights_of(kind)[:index]:
        if to == receiver:
            side.receive(datagram, 0.0)
    return side
