from dataclasses import replace

import pytest

from anyvpn.dtls.handshake_messages import ClientHello, Message, ServerHello
from anyvpn.dtls.resumption import ClientResumption, ServerResumption
from anyvpn.dtls.suites import DTLS12_HEADER, DTLS_HEADER, OFFERS, PSK_SUITES, Version
from anyvpn.errors import HandshakeFailed
from tests.dtls.captured import read_session
from tests.dtls.joined import (
    MASTER_SECRET,
    SESSION_ID,
    Joined,
    counting_random,
    make_pair,
    make_resumption,
)

ALL_OFFERS = [(header, name) for header, names in OFFERS.items() for name in names]


def as_datagram(version: bytes, message: Message) -> bytes:
    encoded = message.encoded()
    return b"\x16" + version + bytes(8) + len(encoded).to_bytes(2, "big") + encoded


def client_hello(client: ClientResumption) -> ClientHello:
    return ClientHello.read(client.start(0.0)[0][25:])


class ResumptionTests:
    @pytest.mark.parametrize(("header", "name"), ALL_OFFERS)
    def test_every_offered_suite_comes_to_keys(self, header: str, name: str) -> None:
        client, server = make_resumption(header, name)
        Joined(client, server).run()
        assert client.keys is not None and server.keys is not None
        version, suite = OFFERS[header][name]
        assert client.keys.version == server.keys.version == version.value
        assert server.suite == suite
        assert client.keys.write == server.keys.read != client.keys.read == server.keys.write

    def test_another_master_secret_never_completes(self) -> None:
        client, _ = make_resumption(DTLS_HEADER, "OC-DTLS1_2-AES256-GCM")
        version, suite = OFFERS[DTLS_HEADER]["OC-DTLS1_2-AES256-GCM"]
        server = ServerResumption(
            version=version,
            suite=suite,
            session_id=SESSION_ID,
            master_secret=bytes(48),
            random=counting_random(5),
        )
        with pytest.raises(HandshakeFailed, match="seconds"):
            Joined(client, server).run()
        assert client.keys is None and server.keys is None

    @pytest.mark.parametrize(
        ("session_id", "master_secret"), [(b"", 48), (bytes(33), 48), (b"x", 47)]
    )
    def test_values_that_connect_cannot_have_agreed_on_are_our_own_error(
        self, session_id: bytes, master_secret: int
    ) -> None:
        for side in (ClientResumption, ServerResumption):
            with pytest.raises(ValueError, match="bytes"):
                side(
                    version=Version.DTLS12,
                    suite=PSK_SUITES[0],
                    session_id=session_id,
                    master_secret=bytes(master_secret),
                    random=bytes,
                )


class ServerResumptionTests:
    def answer(self, **changes: object) -> list[bytes]:
        """What a server says to a hello of our client that was changed."""
        client, server = make_resumption(DTLS12_HEADER, "AES256-GCM-SHA384")
        hello = replace(client_hello(client), **changes)  # type: ignore[arg-type]  # in tests
        return server.receive(as_datagram(b"\xfe\xfd", Message(1, 0, hello.write())), 0.0)

    def test_a_hello_as_agreed_is_answered(self) -> None:
        assert len(self.answer()) == 1

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"session_id": bytes(32)}, "another session"),
            ({"session_id": b""}, "another session"),
            ({"suites": (0x009C, 0x00A9)}, "does not offer the suite"),
            ({"version": b"\xfe\xff"}, "version feff"),
            ({"version": b"\x01\x00"}, "version 0100"),
            ({"compressions": b"\x01"}, "compression"),
        ],
    )
    def test_a_hello_other_than_agreed_fails(self, changes: dict[str, object], reason: str) -> None:
        with pytest.raises(HandshakeFailed, match=reason):
            self.answer(**changes)

    def test_a_client_of_a_newer_version_is_answered_in_ours(self) -> None:
        (datagram,) = self.answer(version=b"\xfe\xfc")
        assert ServerHello.read(datagram[25 : 25 + 70]).version == b"\xfe\xfd"

    def test_only_a_size_limit_of_whole_records_is_agreed_to(self) -> None:
        limits = {b"\x40\x00": ((28, b"\x40\x00"),), b"\x02\x00": (), b"": (), b"\x40\x00\x00": ()}
        for offered, answered in limits.items():
            extensions = ((28, offered), (35, b"ticket"), (0xFF01, b"\x00"))
            (datagram,) = self.answer(extensions=extensions)
            length = int.from_bytes(datagram[14:17], "big")
            assert ServerHello.read(datagram[25 : 25 + length]).extensions == answered

    def test_a_key_exchange_instead_of_finished_fails(self) -> None:
        client, server = make_pair("gcm")
        server.receive(client.start(0.0)[0], 0.0)
        with pytest.raises(HandshakeFailed, match="where Finished was due"):
            server.receive(as_datagram(b"\xfe\xfd", Message(16, 1, b"\x00\x03psk")), 0.0)

    def test_a_plain_finished_is_not_even_looked_at(self) -> None:
        client, server = make_pair("gcm")
        server.receive(client.start(0.0)[0], 0.0)
        assert server.receive(as_datagram(b"\xfe\xfd", Message(20, 1, bytes(12))), 0.0) == []


class ClientResumptionTests:
    def receive(self, **changes: object) -> list[bytes]:
        client, _ = make_resumption(DTLS12_HEADER, "AES256-GCM-SHA384")
        client.start(0.0)
        hello = ServerHello(b"\xfe\xfd", bytes(32), SESSION_ID, 0x009D)
        changed = replace(hello, **changes)  # type: ignore[arg-type]  # in tests
        return client.receive(as_datagram(b"\xfe\xfd", Message(2, 0, changed.write())), 0.1)

    def test_a_hello_as_agreed_is_taken(self) -> None:
        assert self.receive() == []

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"session_id": bytes(32)}, "full handshake"),
            ({"session_id": b""}, "full handshake"),
            ({"suite": 0x009C}, "suite 009c"),
            ({"version": b"\xfe\xff"}, "version feff"),
            ({"compression": 1}, "compression"),
        ],
    )
    def test_a_hello_other_than_agreed_fails(self, changes: dict[str, object], reason: str) -> None:
        with pytest.raises(HandshakeFailed, match=reason):
            self.receive(**changes)

    def test_a_certificate_instead_of_finished_fails(self) -> None:
        client, _ = make_pair("gcm")
        client.start(0.0)
        hello = ServerHello(b"\xfe\xfd", bytes(32), SESSION_ID, 0x009D)
        client.receive(as_datagram(b"\xfe\xfd", Message(2, 0, hello.write())), 0.1)
        with pytest.raises(HandshakeFailed, match="message 11"):
            client.receive(as_datagram(b"\xfe\xfd", Message(11, 1, b"")), 0.1)

    def test_the_hello_names_the_session_and_one_suite_in_its_version(self) -> None:
        client, _ = make_resumption(DTLS_HEADER, "AES256-SHA")
        datagram = client.start(0.0)[0]
        hello = ClientHello.read(datagram[25:])
        assert datagram[1:3] == hello.version == b"\x01\x00"
        assert (hello.session_id, hello.suites, hello.extensions) == (SESSION_ID, (0x35,), ())

    def test_openconnects_hello_to_another_session_is_refused(self) -> None:
        session = read_session("oc_dtls12")
        version, suite = OFFERS[DTLS_HEADER]["OC-DTLS1_2-AES256-GCM"]
        server = ServerResumption(
            version=version,
            suite=suite,
            session_id=SESSION_ID,
            master_secret=MASTER_SECRET,
            random=counting_random(1),
        )
        with pytest.raises(HandshakeFailed, match="another session"):
            server.receive(session.datagrams[0][1], 0.0)
