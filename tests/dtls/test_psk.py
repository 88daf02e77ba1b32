import pytest

from anyvpn.dtls.handshake_messages import ClientHello, Message, ServerHello
from anyvpn.dtls.hello_cookies import HelloCookies
from anyvpn.dtls.psk import ClientPSK, ServerPSK
from anyvpn.dtls.records import RecordOpener, RecordSealer
from anyvpn.dtls.suites import PSK_SUITES
from anyvpn.errors import HandshakeFailed
from tests.dtls.captured import read_session
from tests.dtls.joined import PSK, SESSION_ID, Joined, make_pair
from tests.dtls.openssl_peer import OpenSSLPeer
from tests.dtls.test_resumption import as_datagram


def complete_with_openssl(ours: ClientPSK | ServerPSK, openssl: OpenSSLPeer) -> None:
    to_openssl = ours.start(0.0)
    to_us = openssl.start() if isinstance(ours, ServerPSK) else []
    while to_openssl or to_us:
        to_us += openssl.receive(to_openssl) if to_openssl else []
        to_openssl = [answer for datagram in to_us for answer in ours.receive(datagram, 0.0)]
        to_us = []


def exchange_data(ours: ClientPSK | ServerPSK, openssl: OpenSSLPeer) -> None:
    assert ours.keys is not None and openssl.is_complete
    for record in RecordSealer(ours.keys).seal_packets(0, [b"to them", bytes(1300)]):
        assert openssl.open(record)[:1] == b"\x00"
    opener = RecordOpener(ours.keys)
    for payload in (b"\x00to us", bytes(1300)):
        (datagram,) = openssl.seal(payload)
        assert opener.open(datagram) == payload


class OpenSSLTests:
    def test_our_client_and_its_server_agree_and_exchange_data(self) -> None:
        client = ClientPSK(psk=PSK, session_id=SESSION_ID)
        server = OpenSSLPeer(is_client=False, psk=PSK)
        complete_with_openssl(client, server)
        exchange_data(client, server)
        assert client.suite == PSK_SUITES[0]

    def test_our_server_and_its_client_agree_and_exchange_data(self) -> None:
        server = ServerPSK(psk=PSK)
        client = OpenSSLPeer(is_client=True, psk=PSK)
        complete_with_openssl(server, client)
        exchange_data(server, client)

    @pytest.mark.parametrize("suite", PSK_SUITES)
    def test_both_suites_work_in_both_directions(self, suite: object) -> None:
        is_first = suite is PSK_SUITES[0]
        cipher = b"PSK-AES256-GCM-SHA384" if is_first else b"PSK-AES128-GCM-SHA256"
        for ours in (ClientPSK(psk=PSK, session_id=SESSION_ID), ServerPSK(psk=PSK)):
            openssl = OpenSSLPeer(is_client=isinstance(ours, ServerPSK), psk=PSK, ciphers=cipher)
            complete_with_openssl(ours, openssl)
            assert ours.suite is suite
            exchange_data(ours, openssl)

    def test_its_master_secret_is_ours_extended_as_both_can(self) -> None:
        client = ClientPSK(psk=PSK, session_id=SESSION_ID)
        server = OpenSSLPeer(is_client=False, psk=PSK)
        complete_with_openssl(client, server)
        assert server.connection.master_key() == client._master_secret
        assert client._extended

    def test_its_hint_at_an_identity_is_taken_and_signed(self) -> None:
        client = ClientPSK(psk=PSK, session_id=SESSION_ID)
        server = OpenSSLPeer(is_client=False, psk=PSK, hint=b"any")
        complete_with_openssl(client, server)
        exchange_data(client, server)

    def test_its_client_returns_our_cookie(self) -> None:
        cookies = HelloCookies(b"secret")
        server = ServerPSK(psk=PSK)
        client = OpenSSLPeer(is_client=True, psk=PSK)
        challenge = cookies.challenge(client.start()[0], b"address")
        assert challenge is not None
        (hello,) = client.receive(challenge)
        assert cookies.challenge(hello, b"address") is None
        answers = server.receive(hello, 0.0)
        for reply in client.receive(answers):
            client.receive(server.receive(reply, 0.0))
        exchange_data(server, client)

    def test_its_answer_to_our_repeated_flight_completes_us(self) -> None:
        """Its last flight is lost: our timer repeats ours, and it repeats its own."""
        client = ClientPSK(psk=PSK, session_id=SESSION_ID)
        server = OpenSSLPeer(is_client=False, psk=PSK)
        to_server = client.start(0.0)
        to_server = [a for d in server.receive(to_server) for a in client.receive(d, 0.0)]
        assert server.receive(to_server)  # lost
        assert server.is_complete and client.keys is None
        for datagram in server.receive(client.handle_timeout(1.0)):
            client.receive(datagram, 1.0)
        exchange_data(client, server)

    def test_another_key_never_completes(self) -> None:
        server = ServerPSK(psk=bytes(32))
        client = OpenSSLPeer(is_client=True, psk=PSK)
        complete_with_openssl(server, client)
        assert server.keys is None and not client.is_complete


class ServerPSKTests:
    def test_its_session_id_is_not_the_clients(self) -> None:
        client, server = make_pair("psk")
        (datagram,) = server.receive(client.start(0.0)[0], 0.0)
        length = int.from_bytes(datagram[14:17], "big")
        hello = ServerHello.read(datagram[25 : 25 + length])
        assert len(hello.session_id) == 32
        assert hello.session_id != SESSION_ID

    @pytest.mark.parametrize(
        ("suites", "extensions", "answered"),
        [
            ((0xA9,), (), ()),
            ((0xA9, 0x00FF), (), ((0xFF01, b"\x00"),)),
            ((0xA8,), ((0xFF01, b"\x00"),), ((0xFF01, b"\x00"),)),
            ((0xA9,), ((23, b""), (22, b"")), ((23, b""),)),
        ],
    )
    def test_it_answers_no_extension_that_was_not_offered(
        self,
        suites: tuple[int, ...],
        extensions: tuple[tuple[int, bytes], ...],
        answered: tuple[tuple[int, bytes], ...],
    ) -> None:
        hello = ClientHello(b"\xfe\xfd", bytes(32), SESSION_ID, suites, extensions)
        server = ServerPSK(psk=PSK)
        (datagram,) = server.receive(as_datagram(b"\xfe\xff", Message(1, 0, hello.write())), 0.0)
        length = int.from_bytes(datagram[14:17], "big")
        assert ServerHello.read(datagram[25 : 25 + length]).extensions == answered

    def test_a_client_without_a_suite_of_ours_fails(self) -> None:
        hello = ClientHello(b"\xfe\xfd", bytes(32), SESSION_ID, (0xCCAB, 0x8C))
        with pytest.raises(HandshakeFailed, match="no PSK suite"):
            ServerPSK(psk=PSK).receive(as_datagram(b"\xfe\xff", Message(1, 0, hello.write())), 0.0)

    def test_a_certificate_instead_of_a_key_fails(self) -> None:
        client, server = make_pair("psk")
        server.receive(client.start(0.0)[0], 0.0)
        with pytest.raises(HandshakeFailed, match="message 11"):
            server.receive(as_datagram(b"\xfe\xfd", Message(11, 1, b"")), 0.0)

    def test_a_client_of_another_tls_connection_never_completes(self) -> None:
        """Its exporter gave another key, so its Finished cannot be read."""
        session = read_session("psk")
        server = ServerPSK(psk=PSK)
        for datagram in session.sent_by("client")[:2]:
            server.receive(datagram, 0.0)
        assert server.keys is None


class ClientPSKTests:
    def answer(self, *messages: Message) -> None:
        client = ClientPSK(psk=PSK, session_id=SESSION_ID)
        client.start(0.0)
        for message in messages:
            client.receive(as_datagram(b"\xfe\xfd", message), 0.1)

    def server_hello(self, session_id: bytes = b"", suite: int = 0xA9) -> Message:
        hello = ServerHello(b"\xfe\xfd", bytes(32), session_id, suite)
        return Message(2, 0, hello.write())

    def test_a_server_that_returns_the_app_id_fails(self) -> None:
        with pytest.raises(HandshakeFailed, match="never was"):
            self.answer(self.server_hello(SESSION_ID))

    def test_a_suite_that_was_not_offered_fails(self) -> None:
        with pytest.raises(HandshakeFailed, match="008c"):
            self.answer(self.server_hello(suite=0x8C))

    def test_a_request_for_a_certificate_fails(self) -> None:
        with pytest.raises(HandshakeFailed, match="message 13"):
            self.answer(self.server_hello(), Message(13, 1, b""))

    def test_a_hello_done_with_content_fails(self) -> None:
        with pytest.raises(HandshakeFailed, match="message 14"):
            self.answer(self.server_hello(), Message(14, 1, b"x"))

    def test_the_first_hello_is_in_records_of_the_oldest_version(self) -> None:
        client, server = make_pair("psk")
        joined = Joined(client, server)
        joined.run()
        first, second = joined.sent["client"][:2]
        assert first[1:3] == b"\xfe\xff" and first[25:27] == b"\xfe\xfd"
        assert second[1:3] == b"\xfe\xfd"
        assert ClientHello.read(first[25:]).session_id == SESSION_ID
