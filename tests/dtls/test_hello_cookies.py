import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.dtls.hello_cookies import HelloCookies
from anyvpn.dtls.records import split_datagram
from anyvpn.errors import HandshakeFailed
from tests.dtls.captured import read_session
from tests.dtls.joined import KINDS, make_pair

ADDRESS = b"192.0.2.1:5000"


@pytest.mark.parametrize("kind", KINDS)
class HelloCookiesTests:
    def test_a_client_that_returns_the_cookie_is_let_in_and_completes(self, kind: str) -> None:
        cookies = HelloCookies(b"secret")
        client, server = make_pair(kind)
        (challenge,) = cookies.challenge(client.start(0.0)[0], ADDRESS) or []
        (second_hello,) = client.receive(challenge, 0.1)
        assert cookies.challenge(second_hello, ADDRESS) is None
        answers = server.receive(second_hello, 0.2)
        while answers:
            replies = [reply for answer in answers for reply in client.receive(answer, 0.3)]
            answers = [answer for reply in replies for answer in server.receive(reply, 0.4)]
        assert client.keys is not None and server.keys is not None

    def test_the_server_goes_on_from_the_number_of_the_hello(self, kind: str) -> None:
        cookies = HelloCookies(b"secret")
        client, server = make_pair(kind)
        (challenge,) = cookies.challenge(client.start(0.0)[0], ADDRESS) or []
        (second_hello,) = client.receive(challenge, 0.1)
        (flight,) = server.receive(second_hello, 0.2)
        assert split_datagram(challenge)[0].sequence == 0
        assert split_datagram(flight)[0].sequence == 1

    def test_a_cookie_is_good_for_one_address_one_hello_and_one_secret(self, kind: str) -> None:
        cookies = HelloCookies(b"secret")
        client, _ = make_pair(kind)
        (challenge,) = cookies.challenge(client.start(0.0)[0], ADDRESS) or []
        (second_hello,) = client.receive(challenge, 0.1)
        assert cookies.challenge(second_hello, b"192.0.2.2:5000") is not None
        assert HelloCookies(b"other").challenge(second_hello, ADDRESS) is not None
        other_random = bytearray(second_hello)
        other_random[30] ^= 1
        assert cookies.challenge(bytes(other_random), ADDRESS) is not None

    def test_a_client_that_is_asked_twice_fails(self, kind: str) -> None:
        client, _ = make_pair(kind)
        cookies = HelloCookies(b"secret")
        (challenge,) = cookies.challenge(client.start(0.0)[0], ADDRESS) or []
        client.receive(challenge, 0.1)
        again = bytearray(challenge)
        again[18] = 1  # the next message
        with pytest.raises(HandshakeFailed, match="again"):
            client.receive(bytes(again), 0.2)

    def test_the_same_challenge_twice_is_answered_once(self, kind: str) -> None:
        client, _ = make_pair(kind)
        (challenge,) = HelloCookies(b"x").challenge(client.start(0.0)[0], ADDRESS) or []
        assert len(client.receive(challenge, 0.1)) == 1
        assert client.receive(challenge, 0.2) == []


class HostileHelloTests:
    def test_a_hello_cut_at_any_byte_is_refused(self) -> None:
        hello = read_session("psk").datagrams[0][1]
        for size in range(len(hello)):
            with pytest.raises(HandshakeFailed):
                HelloCookies(b"x").challenge(hello[:size], ADDRESS)

    @given(st.binary(max_size=120))
    @settings(max_examples=60)
    def test_garbage_is_refused(self, garbage: bytes) -> None:
        with pytest.raises(HandshakeFailed):
            HelloCookies(b"x").challenge(b"\x16\xfe\xfd" + garbage, ADDRESS)
