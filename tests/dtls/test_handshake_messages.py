import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.dtls.handshake_messages import (
    LONGEST_MESSAGE_BYTES,
    ClientHello,
    Fragment,
    Message,
    Reassembly,
    ServerHello,
    read_cookie,
    read_fragments,
    read_psk_identity,
    write_cookie,
    write_psk_identity,
)
from anyvpn.errors import HandshakeFailed
from tests.dtls.captured import read_session

extensions = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=20)), max_size=4).map(
    tuple
)
client_hellos = st.builds(
    ClientHello,
    version=st.binary(min_size=2, max_size=2),
    random=st.binary(min_size=32, max_size=32),
    session_id=st.binary(max_size=32),
    suites=st.lists(st.integers(0, 0xFFFF), max_size=5).map(tuple),
    extensions=extensions,
    cookie=st.binary(max_size=255),
    compressions=st.binary(max_size=3),
)
server_hellos = st.builds(
    ServerHello,
    version=st.binary(min_size=2, max_size=2),
    random=st.binary(min_size=32, max_size=32),
    session_id=st.binary(max_size=32),
    suite=st.integers(0, 0xFFFF),
    extensions=extensions,
    compression=st.integers(0, 255),
)


def hello_body(name: str, index: int) -> bytes:
    """The body of a captured session's datagram that holds one hello."""
    return read_session(name).datagrams[index][1][25:]


class HelloTests:
    @given(client_hellos)
    @settings(max_examples=60)
    def test_a_client_hello_makes_the_round_trip(self, hello: ClientHello) -> None:
        assert ClientHello.read(hello.write()) == hello

    @given(server_hellos)
    @settings(max_examples=60)
    def test_a_server_hello_makes_the_round_trip(self, hello: ServerHello) -> None:
        assert ServerHello.read(hello.write()) == hello

    @pytest.mark.parametrize("name", ["psk", "oc_dtls12", "bad_ver"])
    def test_captured_hellos_are_written_as_they_were_read(self, name: str) -> None:
        client, server = hello_body(name, 0), hello_body(name, 1)
        assert ClientHello.read(client).write() == client
        assert ServerHello.read(server).write() == server

    def test_openconnects_psk_hello_is_understood(self) -> None:
        hello = ClientHello.read(hello_body("psk", 0))
        assert hello.version == b"\xfe\xfd"
        assert hello.suites[:2] == (0x00A9, 0xCCAB)
        assert hello.extension(28) == b"\x40\x00"
        assert hello.extension(23) is None

    @pytest.mark.parametrize(("reader", "index"), [(ClientHello, 0), (ServerHello, 1)])
    def test_a_hello_cut_at_any_byte_fails_unless_only_extensions_are_gone(
        self, reader: type[ClientHello] | type[ServerHello], index: int
    ) -> None:
        whole = hello_body("psk", index)
        read_at = []
        for size in range(len(whole)):
            try:
                reader.read(whole[:size])
            except HandshakeFailed:
                continue
            read_at.append(size)
        assert len(read_at) == 1  # where the extensions begin, which a hello need not have

    def test_bytes_left_over_fail(self) -> None:
        with pytest.raises(HandshakeFailed):
            ClientHello.read(hello_body("psk", 0) + b"\x00")

    def test_a_session_id_of_33_bytes_fails(self) -> None:
        hello = ServerHello(b"\xfe\xfd", bytes(32), bytes(33), 0)
        with pytest.raises(HandshakeFailed):
            ServerHello.read(hello.write())

    @given(st.binary(max_size=120))
    @settings(max_examples=100)
    def test_garbage_fails_in_one_way(self, garbage: bytes) -> None:
        for read in (ClientHello.read, ServerHello.read, read_cookie, read_psk_identity):
            try:
                read(garbage)
            except HandshakeFailed as failure:
                assert str(failure)

    def test_cookies_and_identities_make_the_round_trip(self) -> None:
        assert read_cookie(write_cookie(b"\xfe\xff", b"cookie")) == b"cookie"
        assert read_psk_identity(write_psk_identity(b"psk")) == b"psk"


class FragmentTests:
    def test_a_message_is_read_back_as_one_fragment(self) -> None:
        encoded = Message(14, 3, b"body").encoded()
        assert read_fragments(encoded * 2) == [Fragment(14, 4, 3, 0, b"body")] * 2

    def test_a_message_cut_at_any_byte_gives_nothing(self) -> None:
        encoded = Message(14, 3, b"body").encoded()
        for size in range(len(encoded)):
            assert read_fragments(encoded[:size]) == []

    def test_a_fragment_that_ends_behind_its_message_is_dropped(self) -> None:
        assert read_fragments(bytes.fromhex("010000040000 000001 000004") + b"body") == []


class ReassemblyTests:
    @given(
        st.binary(min_size=1, max_size=60),
        st.lists(st.tuples(st.integers(0, 59), st.integers(1, 30)), max_size=20),
    )
    @settings(max_examples=100)
    def test_a_message_is_given_when_every_byte_was_there_and_not_before(
        self, body: bytes, pieces: list[tuple[int, int]]
    ) -> None:
        reassembly = Reassembly()
        present: set[int] = set()
        for offset, size in pieces:
            piece = body[offset : offset + size]
            if not piece:
                continue
            reassembly.add(Fragment(1, len(body), 0, offset, piece))
            present.update(range(offset, offset + len(piece)))
            message = reassembly.next_message()
            assert (message is not None) is (len(present) == len(body))
            if message is not None:
                assert message == Message(1, 0, body)
                return

    def test_messages_come_in_order_whatever_the_order_of_their_fragments(self) -> None:
        reassembly = Reassembly()
        for sequence in (2, 1, 0):
            assert reassembly.next_message() is None
            reassembly.add(Fragment(20, 1, sequence, 0, bytes([sequence])))
        taken = [reassembly.next_message() for _ in range(4)]
        assert taken == [Message(20, at, bytes([at])) for at in range(3)] + [None]

    def test_an_empty_message_is_whole_at_once(self) -> None:
        reassembly = Reassembly()
        reassembly.add(Fragment(14, 0, 0, 0, b""))
        assert reassembly.next_message() == Message(14, 0, b"")

    def test_what_is_too_long_or_too_far_ahead_is_not_kept(self) -> None:
        reassembly = Reassembly()
        reassembly.add(Fragment(1, LONGEST_MESSAGE_BYTES + 1, 0, 0, b"x"))
        for sequence in range(1, 65536):
            reassembly.add(Fragment(1, LONGEST_MESSAGE_BYTES, sequence, 0, b"x"))
        assert len(reassembly._partials) == 7

    def test_a_fragment_at_odds_with_the_first_is_dropped(self) -> None:
        reassembly = Reassembly()
        reassembly.add(Fragment(1, 4, 0, 0, b"ab"))
        reassembly.add(Fragment(1, 3, 0, 2, b"X"))
        reassembly.add(Fragment(2, 4, 0, 2, b"XX"))
        assert reassembly.next_message() is None
        reassembly.add(Fragment(1, 4, 0, 2, b"cd"))
        assert reassembly.next_message() == Message(1, 0, b"abcd")
