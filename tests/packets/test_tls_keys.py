"""Keys of TLS as its documents and OpenSSL have them, and streams kept under them."""

from __future__ import annotations

from collections.abc import Callable
from unittest import TestCase

from OpenSSL import SSL

from anyvpn.packets import tls_keys
from anyvpn.packets._compiled import HANDSHAKE, LOST_STREAM
from anyvpn.packets.channels import LiveCSTPChannel
from anyvpn.packets.kept_streams import KeptStreams
from anyvpn.packets.tls_keys import TLSSecrets, asks_for_update, key_update
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import frame_data
from tests.packets.core_threads import CoreThreads
from tests.packets.kept_openssl import TLS12_SUITES, TLS13_SUITES, OpenSSLClient

CLIENT = bytes((10, 99, 0, 7))
TICKET = b"\4\0\0\3abc"


class FixedConnection:
    """Says what a test wants of a connection."""

    def get_cipher_name(self) -> str:
        return "TLS_AES_128_GCM_SHA256"

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"


class KeyLog:
    """Takes the callback that OpenSSL would call."""

    told: Callable[[object, bytes], None]

    def set_keylog_callback(self, told: Callable[[object, bytes], None]) -> None:
        self.told = told


class DocumentedKeysTests(TestCase):
    """RFC 8448, section 3."""

    def setUp(self) -> None:
        self.secrets, self.log, self.connection = TLSSecrets(), KeyLog(), FixedConnection()
        self.secrets.watch(self.log)  # type: ignore[arg-type]  # the part that is used

    def tell(self, label: str, secret: str) -> None:
        self.log.told(self.connection, f"{label} {'00' * 32} {secret}".encode())

    def test_keys_follow_from_the_secrets(self) -> None:
        client = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
        server = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
        self.tell("CLIENT_TRAFFIC_SECRET_0", client)
        self.tell("SERVER_TRAFFIC_SECRET_0", server)
        keys = self.secrets.keys_of(self.connection, is_client=True)  # type: ignore[arg-type]
        assert keys is not None
        write, read = (tuple(each.hex() for each in pair) for pair in (keys.write, keys.read))
        self.assertEqual(write, ("17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"))
        self.assertEqual(read, ("9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"))

    def test_half_of_the_secrets_is_nothing(self) -> None:
        self.tell("CLIENT_TRAFFIC_SECRET_0", "00" * 32)
        self.tell("EXPORTER_SECRET", "00" * 32)
        self.log.told(self.connection, b"garbage")
        for is_client in (False, True):
            keys = self.secrets.keys_of(self.connection, is_client=is_client)  # type: ignore[arg-type]
            self.assertIsNone(keys)

    def test_what_asks_for_an_update_and_what_is_none(self) -> None:
        self.assertIs(asks_for_update(key_update()), False)
        self.assertIs(asks_for_update(b"\x18\0\0\1\1"), True)
        for garbage in (b"", b"\x18", b"\x18\0\0\1\2", b"\x18\0\0\1", b"\x18\0\0\2\1\1", TICKET):
            self.assertIsNone(asks_for_update(garbage))


class KeptTests(TestCase):
    """A core that keeps the records of a real OpenSSL's peer."""

    def setUp(self) -> None:
        self.threads = CoreThreads()
        self.addCleanup(self.threads.stop)
        self.core = self.threads.core
        self.core.attach(1, [(CLIENT, 32)], 1, 1400)
        self.kept = KeptStreams(self.core)

    def client(self, *suites: str) -> OpenSSLClient:
        client = OpenSSLClient(*suites)
        self.addCleanup(client.close)
        self.kept.take(1, client, LiveCSTPChannel(client, 0.0), lambda: True)
        return client

    def hear(self, kind: int) -> bool:
        """Let the keeper hear the next event of that kind."""
        event = self.threads.wait_for(kind)
        return self.kept.told(event[1], event[3], event[0], event[5])

    def assert_it_carries(self, client: OpenSSLClient) -> None:
        for number in range(3):
            up = ipv4_packet(CLIENT, ANYWHERE, b"%d" % number * 300)
            client.send(frame_data([up])[0])
            self.assertEqual(self.threads.kernel.recv(2000), up)
            down = ipv4_packet(ANYWHERE, CLIENT, b"%d" % number * 300)
            self.threads.kernel.send(down)
            (frame,) = frame_data([down])
            self.assertEqual(client.receive(len(frame)), frame)

    def test_each_cipher_of_either_version(self) -> None:
        for suite in (*TLS13_SUITES, *TLS12_SUITES):
            with self.subTest(suite):
                client = self.client(suite)
                self.assertIn(client.tls.get_cipher_name(), TLS13_SUITES + TLS12_SUITES)
                self.assert_it_carries(client)
                self.kept.let_go(1)
                with self.assertRaises(SSL.ZeroReturnError):  # OpenSSL's word for a goodbye
                    client.receive(1)

    def test_other_ciphers_are_left_where_they_are(self) -> None:
        self.assertIsNone(
            OpenSSLClient("ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256").keys()
        )

    def test_our_keys_change_and_openssl_follows(self) -> None:
        client = self.client(TLS13_SUITES[0])
        for _ in range(3):
            self.kept._kept[1].renew_keys()
            self.assert_it_carries(client)

    def test_openssl_is_asked_for_new_keys_and_changes_them(self) -> None:
        for suite in TLS13_SUITES:
            client = self.client(suite)
            keeper = self.kept._kept[1]
            keeper._keys = tls_keys.next_write_keys(keeper._keys)
            self.core.set_tls_keys(1, keeper._keys.write, None, key_update()[:-1] + b"\1")
            self.threads.kernel.send(ipv4_packet(ANYWHERE, CLIENT))
            client.receive(len(frame_data([ipv4_packet(ANYWHERE, CLIENT)])[0]))
            up = ipv4_packet(CLIENT, ANYWHERE, b"under new keys")
            client.send(frame_data([up])[0])
            self.assertFalse(self.hear(HANDSHAKE))
            self.assertEqual(self.threads.kernel.recv(2000), up)
            self.assert_it_carries(client)
            self.kept.let_go(1)

    def test_tickets_are_passed_over_and_other_messages_end_it(self) -> None:
        client = self.client(TLS13_SUITES[0])
        self.kept._kept[1].handshake_received(TICKET + TICKET)
        self.assert_it_carries(client)
        for garbage in (TICKET[:-1], b"\x18", key_update() + TICKET, b"\1\0\0\0", b"\x18\0\0\1\2"):
            client = self.client(TLS13_SUITES[0])
            self.kept._kept[1].handshake_received(garbage)
            self.assertEqual(client.ended, ["TLS failed: unexpected message"])

    def test_the_end_of_one_stream_is_not_that_of_the_next(self) -> None:
        first = self.client(TLS13_SUITES[0])
        first.socket.close()
        late = self.threads.wait_for(LOST_STREAM)
        self.kept.let_go(1)
        second = self.client(TLS13_SUITES[0])
        self.assertFalse(self.kept.told(late[1], late[3], late[0], late[5]))
        self.assertEqual(second.ended, [])
        self.assert_it_carries(second)
        second.socket.close()
        self.assertTrue(self.hear(LOST_STREAM))
        self.assertEqual(second.ended, ["the peer closed the connection"])

    def test_a_stream_that_nobody_wants_any_more_goes_back(self) -> None:
        client = OpenSSLClient(TLS13_SUITES[0])
        self.addCleanup(client.close)
        self.kept.take(1, client, LiveCSTPChannel(client, 0.0), lambda: False)
        self.assertFalse(self.kept.has(1))
