"""CONNECT: who gets a tunnel, and what its client is told."""

from __future__ import annotations

import re
from ipaddress import ip_network

from anyvpn.errors import BackendFailed
from anyvpn.model.authentication import LoginComplete
from anyvpn.model.events import EventKind
from anyvpn.model.packet_filter import FilterRule
from anyvpn.model.session import Connected
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet, ipv6_packet
from anyvpn.wire.authentication import read_gateway_message
from anyvpn.wire.cstp import PacketKind, frame_data
from tests.gateway.gateway_in_memory import DTLS_OFFER, PSK_OFFER, USUAL_OFFER, GatewayCase

ALICE = bytes((10, 99, 0, 2))
ALICE6 = bytes.fromhex("fd00" + "00" * 13 + "02")


class RefusalTests(GatewayCase):
    def assert_refused(self, token: str, status: int, offer: dict[str, str] | None = None) -> str:
        """Gives the X-Reason."""
        client = self.client()
        answer = client.open_tunnel(token, offer)
        self.assertEqual((answer.status, answer.body), (status, b""))
        self.assertTrue(answer.status_line.startswith(f"HTTP/1.1 {status} "))
        self.assertEqual(answer.first("Content-Length"), "0")
        self.assertEqual(answer.first("Connection"), "close")
        self.assertTrue(client.tls.is_closed)
        (event,) = self.listener.of(EventKind.TUNNEL_REFUSED)
        self.assertTrue(event.detail.startswith(f"{status}: "), event.detail)
        self.assertEqual(event.peer, "192.0.2.1")
        self.assertEqual(self.listener.of(EventKind.TUNNEL_OPENED), [])
        return answer.first("X-Reason")

    def test_no_token_is_401(self) -> None:
        self.assert_refused("", 401)

    def test_a_wrong_token_is_401(self) -> None:
        token = self.client().log_in()
        self.assert_refused(token[:-1] + ("A" if token[-1] != "A" else "B"), 401)

    def test_a_token_that_nobody_used_in_time_is_401(self) -> None:
        token = self.client().log_in()
        self.pass_time(301)
        self.assert_refused(token, 401)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["the token was not used in time"])

    def test_no_free_address_is_503_with_a_reason(self) -> None:
        self.addresses.most = 0
        token = self.client().log_in()
        self.assertEqual(self.assert_refused(token, 503), "no address is free")
        (event,) = self.listener.of(EventKind.TUNNEL_REFUSED)
        self.assertEqual((event.user, event.profile), ("alice", "Staff"))
        self.assertTrue(event.session_id)

    def test_an_address_that_is_free_later_is_lent_then(self) -> None:
        self.addresses.most = 0
        token = self.client().log_in()
        self.assert_refused(token, 503)
        self.addresses.most = 1
        self.assertEqual(self.client().open_tunnel(token).status, 200)

    def test_a_store_that_is_down_is_503(self) -> None:
        async def fail(digest: bytes) -> None:
            raise BackendFailed("the disk is gone")

        self.store.find = fail  # type: ignore[method-assign]
        self.assertEqual(self.assert_refused("unknown", 503), "please try again later")
        self.assertIn("the disk is gone", self.details(EventKind.TUNNEL_REFUSED)[0])

    def test_no_common_ip_version_is_503(self) -> None:
        self.set_policy(ipv6=False)
        token = self.client().log_in()
        only6 = {**USUAL_OFFER, "X-CSTP-Address-Type": "IPv6"}
        self.assertIn("IP version", self.assert_refused(token, 503, only6))
        self.assertEqual(self.addresses.lent, [])

    def test_more_than_any_client_needs_is_400(self) -> None:
        token = self.client().log_in()
        many = {**USUAL_OFFER, "Cookie": "; ".join(f"c{n}=1" for n in range(99))}
        self.assert_refused(token, 400, many)


class GrantTests(GatewayCase):
    def test_the_status_line_and_the_head_are_a_record_by_themselves(self) -> None:
        client = self.client()
        token = client.log_in()
        cookie = f"Cookie: webvpn={token}\r\n"
        head = "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: vpn\r\n" + cookie
        probe = b"STF\x01\x00\x00\x03\x00"
        client.send(head.encode() + b"\r\n" + probe)
        answer, *frames = client.tls.take_records()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 CONNECTED\r\nX-CSTP-Version: 1\r\n"))
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertEqual(frames, [b"STF\x01\x00\x00\x04\x00"])

    def test_the_client_is_told_what_it_needs(self) -> None:
        self.set_policy(
            banner="Welcome",
            split_include=(ip_network("10.20.0.0/16"), ip_network("fd00:20::/48")),
            dpd_s=25.0,
        )
        self.tunnel()
        for name, value in (
            ("X-CSTP-Address", "10.99.0.2"),
            ("X-CSTP-Netmask", "255.255.255.0"),
            ("X-CSTP-Address-IP6", "fd00::2/64"),
            ("X-CSTP-Hostname", "laptop"),
            ("X-CSTP-MTU", "1420"),
            ("X-CSTP-Base-MTU", "1500"),
            ("X-CSTP-DPD", "25"),
            ("X-CSTP-Banner", "Welcome"),
            ("X-CSTP-Split-Include", "10.20.0.0/255.255.0.0"),
            ("X-CSTP-Split-Include-IP6", "fd00:20::/48"),
            ("X-CSTP-Tunnel-All-DNS", "false"),
            ("X-CSTP-License", "accept"),
            ("X-CSTP-Rekey-Method", "new-tunnel"),
            ("X-CSTP-Session-Timeout-Remaining", "none"),
        ):
            self.assertEqual(self.answer.all(name), [value], name)
        self.assertEqual([n for n, _ in self.answer.headers if n.startswith("X-DTLS")], [])

    def test_the_document_that_ended_the_login_comes_once_more(self) -> None:
        self.tunnel()
        document = self.answer.first("X-CSTP-Post-Auth-XML")
        complete = read_gateway_message(document.encode())
        assert isinstance(complete, LoginComplete)
        self.assertEqual(complete.session_token, self.token)
        self.assertRegex(complete.server_cert_hash, r"\A[0-9A-F]{40}\Z")

    def test_the_session_timeout_runs_from_the_login(self) -> None:
        self.set_policy(session_timeout_s=1000.0)
        token = self.client().log_in()
        self.pass_time(100)
        self.tunnel(token)
        self.assertEqual(self.answer.first("X-CSTP-Session-Timeout"), "1000")
        self.assertEqual(self.answer.first("X-CSTP-Session-Timeout-Remaining"), "900")

    def test_psk_names_an_app_id(self) -> None:
        self.tunnel(offer=PSK_OFFER)
        self.assertEqual(self.answer.first("X-DTLS-CipherSuite"), "PSK-NEGOTIATE")
        self.assertTrue(re.fullmatch("[0-9a-f]{64}", self.answer.first("X-DTLS-App-ID")))
        self.assertEqual(self.answer.first("X-DTLS-Port"), "4443")
        self.assertEqual(self.answer.all("X-DTLS-Session-ID"), [])

    def test_a_resumption_names_a_session_id_that_is_new_each_time(self) -> None:
        client = self.tunnel(offer=DTLS_OFFER)
        first = self.answer.first("X-DTLS-Session-ID")
        self.assertTrue(re.fullmatch("[0-9a-f]{64}", first))
        self.assertEqual(self.answer.first("X-DTLS12-CipherSuite"), "AES256-GCM-SHA384")
        client.vanish()
        self.tunnel(self.token, DTLS_OFFER)
        self.assertNotEqual(self.answer.first("X-DTLS-Session-ID"), first)

    def test_only_the_outer_family_changes_the_mtu(self) -> None:
        for peer, mtu in (("192.0.2.7", "1434"), ("2001:db8::7", "1414")):
            client = self.client(peer)
            answer = client.open_tunnel(client.log_in(), PSK_OFFER)
            self.assertEqual(answer.first("X-CSTP-MTU"), mtu, peer)

    def test_a_client_without_ipv6_gets_none(self) -> None:
        self.tunnel(offer={**USUAL_OFFER, "X-CSTP-Address-Type": "IPv4"})
        self.assertEqual(self.answer.all("X-CSTP-Address-IP6"), [])
        self.assertIsNone(self.addresses.lent[0].ipv6)

    def test_an_opened_tunnel_is_an_event(self) -> None:
        self.tunnel(offer=DTLS_OFFER)
        (event,) = self.listener.of(EventKind.TUNNEL_OPENED)
        self.assertEqual((event.user, event.peer, event.profile), ("alice", "192.0.2.1", "Staff"))
        self.assertIn("10.99.0.2 fd00::2 MTU 1434 TLSv1.3", event.detail)
        self.assertIn("DTLS AES256-GCM-SHA384", event.detail)
        self.assertNotIn(self.token, repr(self.listener.events))

    def test_the_store_knows_that_it_is_connected(self) -> None:
        self.tunnel()
        (record,) = tuple(self.store._records.values())
        self.assertIsInstance(record.state, Connected)
        self.assertEqual((record.hostname, record.lease), ("laptop", self.addresses.lent[0]))


class PacketTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.tunnel()

    def test_packets_go_both_ways(self) -> None:
        there = [ipv4_packet(ALICE, ANYWHERE, b"%d" % number) for number in range(5)]
        self.alice.send(b"".join(frame_data(there)))
        self.assertEqual(self.packets_to_kernel(), there)
        back = [ipv4_packet(ANYWHERE, ALICE, b"%d" % number) for number in range(5)]
        back.append(ipv6_packet(bytes(16), ALICE6, b"six"))
        self.send_from_kernel(*back)
        self.assertEqual(self.alice.packets(), back)

    def test_packets_that_follow_the_request_at_once_arrive(self) -> None:
        client = self.client()
        client.send_request(
            "CONNECT", "/CSCOSSLC/tunnel", {"Cookie": f"webvpn={self.token}", **USUAL_OFFER}
        )
        packet = ipv4_packet(ALICE, ANYWHERE, b"early")
        (frame,) = frame_data([packet])
        client.send(frame)
        self.assertEqual(self.packets_to_kernel(), [packet])

    def test_a_forged_source_is_dropped_and_counted(self) -> None:
        self.alice.send(b"".join(frame_data([ipv4_packet(bytes((10, 99, 0, 3)), ANYWHERE)])))
        self.assertEqual(self.packets_to_kernel(), [])
        self.alice.vanish()
        (event,) = self.listener.of(EventKind.TUNNEL_CLOSED)
        assert event.counters is not None
        self.assertEqual(event.counters.dropped_spoofed, 1)

    def test_the_filters_of_the_policy_are_kept_to(self) -> None:
        self.set_policy(filters=(FilterRule.read("allow udp 198.51.100.0/24"),))
        bob = self.tunnel(self.client().log_in("bob"))
        good, bad = (
            ipv4_packet(bytes((10, 99, 0, 3)), each) for each in (ANYWHERE, bytes((10, 1, 1, 1)))
        )
        bob.send(b"".join(frame_data([bad, good])))
        self.assertEqual(self.packets_to_kernel(), [good])
        bob.vanish()
        event = self.listener.of(EventKind.TUNNEL_CLOSED)[-1]
        assert event.counters is not None
        self.assertEqual(event.counters.dropped_filtered, 1)

    def test_two_clients_reach_each_other(self) -> None:
        bob = self.tunnel(self.client().log_in("bob"))
        packet = ipv4_packet(ALICE, bytes((10, 99, 0, 3)), b"hello bob")
        self.alice.send(b"".join(frame_data([packet])))
        self.assertEqual(bob.packets(), [packet])
        self.assertEqual(self.packets_to_kernel(), [])

    def test_a_probe_is_answered(self) -> None:
        self.alice.send_frame(PacketKind.DPD_REQUEST, b"how are you")
        self.assertEqual(self.alice.frames(), [(PacketKind.DPD_RESPONSE, b"how are you")])

    def test_what_is_no_frame_closes_the_tunnel_and_keeps_the_session(self) -> None:
        self.alice.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(self.alice.tls.is_closed)
        self.assertEqual(self.listener.of(EventKind.SESSION_ENDED), [])
        self.assertEqual(self.client().open_tunnel(self.token).status, 200)

    def test_unknown_kinds_are_passed_over(self) -> None:
        self.alice.send_frame(0x42, b"?")
        self.alice.send_frame(PacketKind.DPD_REQUEST)
        self.assertEqual(self.alice.frames(), [(PacketKind.DPD_RESPONSE, b"")])

    def test_a_client_that_reads_nothing_costs_no_memory_and_no_other(self) -> None:
        bob = self.tunnel(self.client().log_in("bob"))
        self.alice.wire.far.is_stalled = True
        packet = ipv4_packet(ANYWHERE, ALICE, b"a" * 1300)
        for _ in range(50):
            self.send_from_kernel(*[packet] * 50)
        self.assertLess(len(self.alice.wire.near.outgoing), 300 * 1024)
        to_bob = ipv4_packet(ANYWHERE, bytes((10, 99, 0, 3)), b"bob")
        self.send_from_kernel(to_bob)
        self.assertEqual(bob.packets(), [to_bob])
        self.alice.wire.far.is_stalled = False
        self.pump()
        self.alice.packets()
        self.send_from_kernel(ipv4_packet(ANYWHERE, ALICE, b"again"))
        self.assertEqual(self.alice.packets(), [ipv4_packet(ANYWHERE, ALICE, b"again")])
