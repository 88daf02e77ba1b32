"""What is said of a running gateway."""

from __future__ import annotations

import os
from dataclasses import replace

from anyvpn import __version__
from anyvpn.control.status import (
    EngineStatus,
    GatewayStatus,
    SessionStatus,
    read_json,
    write_json,
)
from anyvpn.errors import ControlFailed
from anyvpn.model.authentication import ClientMessage, ClientMessageKind
from anyvpn.model.session import EndReason
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import frame_data
from tests.control.reported import STARTED_AT_S, ReportsCase
from tests.gateway.gateway_in_memory import DTLS_OFFER, HOST

ALICE, MALLORY = bytes((10, 99, 0, 2)), bytes((10, 99, 0, 66))


class GatewayReportTests(ReportsCase):
    def test_it_says_who_the_gateway_is(self) -> None:
        status = self.reports.gateway_status()
        self.assertEqual((status.name, status.version), (HOST, __version__))
        self.assertEqual((status.process_id, status.started_at_s), (os.getpid(), STARTED_AT_S))
        self.assertEqual(status.uptime_s, 1000.0)
        self.assertEqual((status.listen, status.dtls_port), (("tcp:4443",), 4443))
        self.assertEqual(status.engine, EngineStatus("python", "cryptography", 0, 0, 0))
        self.assertEqual((status.device.name, status.device.mtu_bytes), ("memory0", 1500))

    def test_packets_for_nobody_are_the_engines(self) -> None:
        self.send_from_kernel(ipv4_packet(ANYWHERE, ANYWHERE))
        self.assertEqual(self.reports.gateway_status().engine.unroutable_packets, 1)

    def test_sessions_are_counted_by_their_state(self) -> None:
        self.tunnel()
        self.tunnel().vanish()
        for _ in range(3):
            self.client().log_in()
        states = {"granted": 3, "connected": 1, "dormant": 1}
        self.assertEqual(self.reports.gateway_status().sessions, states)

    def test_logins_count_until_their_verdict(self) -> None:
        client = self.client()
        client.post(ClientMessage(ClientMessageKind.INIT))
        self.client().log_in()
        self.assertEqual(self.reports.gateway_status().logins_in_progress, 1)


class SessionReportTests(ReportsCase):
    def test_a_granted_session_has_neither_channel_nor_addresses(self) -> None:
        self.client().log_in()
        (session,) = self.sessions()
        self.assertEqual((session.user, session.state), ("alice", "granted"))
        self.assertEqual((session.addresses, session.channel, session.cipher), ((), "", ""))
        self.assertEqual(session.connected_at_s, 0.0)

    def test_a_connected_one_says_how_and_since_when(self) -> None:
        self.tunnel()
        self.pass_time(60)
        (session,) = self.sessions()
        self.assertEqual((session.user, session.profile), ("alice", "Staff"))
        self.assertEqual((session.state, session.channel), ("connected", "cstp"))
        self.assertIn("TLSv1.3 TLS_AES_", session.cipher)
        self.assertEqual(session.connected_at_s, self.clock.seconds() - 60)
        self.assertEqual(session.addresses[0], "10.99.0.2")
        self.assertEqual((session.peer, session.hostname), ("192.0.2.1", "laptop"))

    def test_dtls_is_the_channel_while_it_is_there(self) -> None:
        peer = self.dtls_peer(self.tunnel(offer=DTLS_OFFER))
        self.assertTrue(peer.shake_hands())
        (session,) = self.sessions()
        self.assertEqual(session.channel, "dtls")
        self.assertIn("AES_256_GCM", session.cipher)
        self.clients[0].vanish()
        (session,) = self.sessions()
        self.assertEqual((session.state, session.channel), ("dormant", ""))

    def test_bytes_and_drops_are_of_all_its_tunnels(self) -> None:
        packet = ipv4_packet(ALICE, ANYWHERE, b"data")
        spoofed = ipv4_packet(MALLORY, ANYWHERE)
        client = self.tunnel()
        client.send(b"".join(frame_data([packet, spoofed])))
        client.vanish()
        self.tunnel(self.token).send(frame_data([packet])[0])
        self.send_from_kernel(ipv4_packet(ANYWHERE, ALICE))
        (session,) = self.sessions()
        self.assertEqual(session.received_bytes, 2 * len(packet))
        self.assertEqual(session.sent_bytes, len(ipv4_packet(ANYWHERE, ALICE)))
        self.assertEqual({k: n for k, n in session.drops.items() if n}, {"spoofed": 1})

    def test_one_that_ends_while_others_are_looked_at_is_left_out(self) -> None:
        for _ in range(3):
            self.client().log_in()
        last = self.gateway.sessions()[-1]
        lists = self.reports.sessions(2)
        self.assertEqual(len(next(lists)), 2)
        self.clients[-1].get("/logout", webvpn=self.clients[-1].log_in())
        self.gateway._registry.end(last, self._reason())
        self.assertEqual(sum(map(len, lists)), 0)

    @staticmethod
    def _reason() -> EndReason:
        return EndReason.KICKED


class JSONTests(ReportsCase):
    def test_it_is_read_as_it_was_written(self) -> None:
        self.tunnel()
        status = self.reports.gateway_status()
        self.assertEqual(read_json(write_json(status).encode(), GatewayStatus), status)
        sessions = tuple(self.sessions())
        written = write_json(sessions).encode()
        self.assertEqual(read_json(written, tuple[SessionStatus, ...]), sessions)

    def test_no_token_is_in_it(self) -> None:
        self.tunnel()
        self.assertNotIn(self.token, write_json(self.sessions()))
        self.assertNotIn("digest", write_json(self.sessions()))

    def test_keys_of_later_versions_do_no_harm(self) -> None:
        status = self.reports.gateway_status()
        later = write_json(status).replace("{", '{"later": 1,', 1).encode()
        self.assertEqual(read_json(later, GatewayStatus), replace(status))

    def test_garbage_is_told_from_an_answer(self) -> None:
        written = write_json(self.reports.gateway_status()).encode()
        cases = (b"", b"\xff", b"[]", b"null", b"{}", b"1", written[:-1], b"[" * 100_000)
        for content in (*cases, written.replace(b'"threads"', b'"thread"')):
            with self.subTest(content=content[:20]), self.assertRaises(ControlFailed):
                read_json(content, GatewayStatus)
