"""A tunnel's DTLS channel: how it comes up, carries data, and goes."""

from __future__ import annotations

from anyvpn.gateway.settings import DTLSSettings
from anyvpn.model.channels import PeerPath
from anyvpn.model.events import EventKind
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import Goodbye, PacketKind, frame_data, write_goodbye
from tests.gateway.dtls_peer import DTLSPeer
from tests.gateway.gateway_in_memory import (
    DTLS_OFFER,
    PSK_OFFER,
    GatewayCase,
    VPNClient,
)

ALICE = bytes((10, 99, 0, 2))
DATA = int(PacketKind.DATA)
THERE = ipv4_packet(ALICE, ANYWHERE, b"there")
BACK = ipv4_packet(ANYWHERE, ALICE, b"back")
CBC_OFFER = {**DTLS_OFFER, "X-DTLS12-CipherSuite": "AES256-SHA"}


class HandshakeTests(GatewayCase):
    dtls = DTLSSettings(port=4443, legacy=True)

    def test_each_kind_comes_to_a_channel_that_carries_data(self) -> None:
        for offer, suite in (
            (PSK_OFFER, "TLS_PSK_WITH_AES_256_GCM_SHA384"),
            (DTLS_OFFER, "TLS_RSA_WITH_AES_256_GCM_SHA384"),
            (CBC_OFFER, "TLS_RSA_WITH_AES_256_CBC_SHA"),
        ):
            with self.subTest(suite=suite):
                self.listener.events.clear()
                client = self.tunnel(offer=offer)
                peer = self.dtls_peer(client)
                self.assertTrue(peer.shake_hands())
                inner = bytes(map(int, self.answer.first("X-CSTP-Address").split(".")))
                there, back = (
                    ipv4_packet(inner, ANYWHERE, b"there"),
                    ipv4_packet(ANYWHERE, inner, b"back"),
                )
                peer.send(DATA, there)
                self.assertEqual(self.packets_to_kernel(), [there])
                self.send_from_kernel(back)
                self.assertEqual(peer.received(), [(DATA, back)])
                self.assertEqual(client.packets(), [])
                (event,) = self.listener.of(EventKind.DTLS_UP)
                self.assertEqual(event.detail, f"{suite} with 192.0.2.1:50000")
                self.assertEqual((event.user, event.peer), ("alice", "192.0.2.1"))

    def test_the_longest_packet_comes_through_whole(self) -> None:
        client = self.tunnel(offer=CBC_OFFER)
        peer = self.dtls_peer(client)
        peer.shake_hands()
        packet = ipv4_packet(ANYWHERE, ALICE, b"a" * (1418 - 28))
        self.send_from_kernel(packet)
        (datagram,) = self.datagrams.sent[peer.path]
        self.assertLessEqual(len(datagram), 1500 - 28)
        self.assertEqual(peer.received(), [(DATA, packet)])

    def test_data_stays_on_cstp_until_the_handshake_is_complete(self) -> None:
        client = self.tunnel(offer=DTLS_OFFER)
        peer = self.dtls_peer(client)
        (hello,) = peer.handshake.start(self.clock.seconds())
        self.datagrams.on_handshake(peer.path, hello)
        self.send_from_kernel(BACK)
        self.assertEqual(client.packets(), [BACK])
        self.assertEqual(self.listener.of(EventKind.DTLS_UP), [])

    def test_a_wrong_secret_comes_to_nothing_and_harms_nothing(self) -> None:
        client = self.tunnel(offer=PSK_OFFER)
        other = self.client()
        peer = self.dtls_peer(other)  # the exporter of another TLS connection
        self.assertFalse(peer.shake_hands())
        self.assertEqual(self.listener.of(EventKind.DTLS_UP), [])
        self.send_from_kernel(BACK)
        self.assertEqual(client.packets(), [BACK])

    def test_a_hello_that_names_no_live_tunnel_gets_no_answer(self) -> None:
        client = self.tunnel(offer=DTLS_OFFER)
        peer = self.dtls_peer(client)
        client.send_frame(PacketKind.DISCONNECT, write_goodbye(Goodbye(0xB0, "bye")))
        self.assertFalse(peer.shake_hands())
        self.assertEqual(self.datagrams.sent, {})


class ChannelTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_policy(dpd_s=30.0)
        self.alice: VPNClient = self.tunnel(offer=DTLS_OFFER)
        self.peer: DTLSPeer = self.dtls_peer(self.alice)
        self.assertTrue(self.peer.shake_hands())

    def test_probes_are_answered_in_full_length(self) -> None:
        payload = b"\x12\x34\x56\x78" + bytes(1429)
        self.peer.send(PacketKind.DPD_REQUEST, payload)
        self.assertEqual(self.peer.received(), [(PacketKind.DPD_RESPONSE, payload)])

    def test_a_silent_channel_is_probed_and_then_left_for_cstp(self) -> None:
        for _ in range(9):
            self.pass_time(10)
            self.alice.send_frame(PacketKind.KEEPALIVE)
        self.pass_time(2)
        kinds = {kind for kind, _ in self.peer.received()}
        self.assertEqual(kinds, {PacketKind.DPD_REQUEST})
        self.assertEqual(self.details(EventKind.DTLS_DOWN), ["no sign of life for 90 s"])
        self.send_from_kernel(BACK)
        self.assertEqual(self.alice.packets(), [BACK])
        self.assertFalse(self.alice.tls.is_closed)
        self.assertEqual(self.listener.of(EventKind.TUNNEL_CLOSED), [])

    def test_a_lost_channel_comes_back_with_another_handshake(self) -> None:
        for _ in range(10):
            self.pass_time(10)
            self.alice.send_frame(PacketKind.KEEPALIVE)
        self.alice.frames()
        again = self.dtls_peer(self.alice, port=50_001)
        self.assertTrue(again.shake_hands())
        self.send_from_kernel(BACK)
        self.assertEqual(again.received(), [(DATA, BACK)])
        self.assertEqual(len(self.listener.of(EventKind.DTLS_UP)), 2)

    def test_life_on_dtls_is_no_life_on_cstp(self) -> None:
        for _ in range(10):
            self.pass_time(10)
            self.peer.send(PacketKind.KEEPALIVE, b"")
        self.assertTrue(self.alice.tls.is_closed)
        self.assertEqual(self.details(EventKind.TUNNEL_CLOSED), ["no sign of life for 90 s"])

    def test_data_on_dtls_keeps_a_session_from_idling(self) -> None:
        self.set_policy(idle_timeout_s=60.0, dpd_s=0.0)
        self.alice = self.tunnel(self.client().log_in("bob"), DTLS_OFFER)
        peer = self.dtls_peer(self.alice, port=50_002)
        peer.shake_hands()
        for _ in range(4):
            self.pass_time(50)
            peer.send(DATA, ipv4_packet(bytes((10, 99, 0, 3)), ANYWHERE))
        self.assertFalse(self.alice.tls.is_closed)
        self.pass_time(61)
        self.assertTrue(self.alice.tls.is_closed)

    def test_a_client_that_moves_keeps_its_channel(self) -> None:
        self.peer.path = PeerPath(0, ("198.51.100.9", 61_000))
        self.peer.send(DATA, THERE)
        self.assertEqual(self.details(EventKind.PEER_MOVED), ["now at 198.51.100.9:61000"])
        self.send_from_kernel(BACK)
        self.assertEqual(self.peer.received(), [(DATA, BACK)])

    def test_a_client_that_closes_its_channel_gets_data_over_cstp(self) -> None:
        self.peer.close()
        self.assertEqual(len(self.listener.of(EventKind.DTLS_DOWN)), 1)
        self.send_from_kernel(BACK)
        self.assertEqual(self.alice.packets(), [BACK])

    def test_a_client_that_moved_can_close_its_channel(self) -> None:
        self.peer.path = PeerPath(0, ("198.51.100.9", 61_001))
        self.peer.send(DATA, THERE)
        self.peer.close()
        self.assertEqual(len(self.listener.of(EventKind.DTLS_DOWN)), 1)
        self.send_from_kernel(BACK)
        self.assertEqual(self.alice.packets(), [BACK])

    def test_an_ipv6_address_is_written_with_brackets(self) -> None:
        self.peer.path = PeerPath(0, ("2001:db8::9", 61_000, 0, 0))
        self.peer.send(DATA, THERE)
        self.assertEqual(self.details(EventKind.PEER_MOVED), ["now at [2001:db8::9]:61000"])

    def test_a_disconnect_on_dtls_is_no_goodbye_of_the_session(self) -> None:
        self.peer.send(PacketKind.DISCONNECT, write_goodbye(Goodbye(0xB0, "bye")))
        self.assertEqual(self.listener.of(EventKind.SESSION_ENDED), [])
        self.assertFalse(self.alice.tls.is_closed)
        self.send_from_kernel(BACK)
        self.assertEqual(self.alice.packets(), [BACK])
        self.assertEqual(len(self.listener.of(EventKind.DTLS_DOWN)), 1)

    def test_the_channel_goes_with_its_tunnel(self) -> None:
        self.alice.vanish()
        self.peer.send(DATA, THERE)
        self.assertEqual(self.packets_to_kernel(), [])
        self.assertFalse(self.dtls_peer(self.alice, port=50_003).shake_hands())

    def test_a_new_tunnel_does_not_inherit_the_channel(self) -> None:
        client = self.tunnel(self.token, DTLS_OFFER)
        self.peer.send(DATA, THERE)
        self.assertEqual(self.packets_to_kernel(), [])
        self.send_from_kernel(BACK)
        self.assertEqual(client.packets(), [BACK])
        peer = self.dtls_peer(client, port=50_004)
        self.assertTrue(peer.shake_hands())
        self.send_from_kernel(BACK)
        self.assertEqual(peer.received(), [(DATA, BACK)])

    def test_data_on_cstp_means_that_the_client_has_left_dtls(self) -> None:
        self.alice.send(frame_data([THERE])[0])
        self.send_from_kernel(BACK)
        self.assertEqual(self.alice.packets(), [BACK])
        self.peer.send(DATA, THERE)
        self.send_from_kernel(BACK)
        self.assertEqual(self.peer.received(), [(DATA, BACK)])
