"""Networks behind clients: who has them, from when until when, and what cannot be."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_network

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from anyvpn.errors import TunUnavailable
from anyvpn.model.events import EventKind
from anyvpn.model.group_policy import Network
from anyvpn.model.session import EndReason
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import PacketKind, frame_data
from tests.gateway.gateway_in_memory import GatewayCase, VPNClient

BRANCH, OTHER = ip_network("10.5.0.0/16"), ip_network("fd05::/48")
BEHIND = bytes((10, 5, 0, 9))


class ClientNetworksTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_policy(client_networks=(BRANCH, OTHER))

    def connect(self, user: str = "alice") -> tuple[VPNClient, str]:
        client = self.client()
        token = client.log_in(user)
        return self.tunnel(token), token

    def refusal(self, token: str) -> str:
        answer = self.client().open_tunnel(token)
        self.assertEqual(answer.status, 503)
        reason = "a network behind this client cannot be led to it"
        self.assertEqual(answer.first("X-Reason"), reason)
        return self.details(EventKind.TUNNEL_REFUSED)[-1]

    def test_packets_go_to_the_network_and_come_from_it(self) -> None:
        alice, _ = self.connect()
        self.assertEqual(self.device.routes, {BRANCH, OTHER})
        there, back = ipv4_packet(ANYWHERE, BEHIND), ipv4_packet(BEHIND, ANYWHERE)
        self.send_from_kernel(there)
        self.assertEqual(alice.packets(), [there])
        alice.send(b"".join(frame_data([back])))
        self.assertEqual(self.packets_to_kernel(), [back])
        self.assertIn("10.5.0.0/16", self.details(EventKind.TUNNEL_OPENED)[0])

    def test_routes_stay_while_the_client_is_away_and_end_with_the_session(self) -> None:
        alice, token = self.connect()
        alice.vanish()
        self.assertEqual(self.device.routes, {BRANCH, OTHER})
        alice = self.tunnel(token)
        self.assertEqual(self.device.routes, {BRANCH, OTHER})
        alice.send_frame(PacketKind.DISCONNECT, b"\xb0bye")
        self.assertEqual(len(self.details(EventKind.SESSION_ENDED)), 1)
        self.assertEqual(self.device.routes, frozenset())

    def test_a_session_that_never_connects_has_no_route(self) -> None:
        self.client().log_in()
        self.assertEqual(self.device.routes, frozenset())

    def test_a_restart_brings_them_back_with_the_client(self) -> None:
        _, token = self.connect()
        self.stop_gateway()
        self.open_gateway()
        self.assertEqual(self.device.routes, frozenset())
        self.tunnel(token)
        self.assertEqual(self.device.routes, {BRANCH, OTHER})

    def test_another_users_network_is_refused_while_he_is_connected(self) -> None:
        alice, _ = self.connect()
        token = self.client().log_in("bob")
        detail = self.refusal(token)
        self.assertIn("10.5.0.0/16 lies behind alice already, whose session ", detail)
        there = ipv4_packet(ANYWHERE, BEHIND)
        self.send_from_kernel(there)
        self.assertEqual(alice.packets(), [there])
        alice.vanish()
        bob = self.tunnel(token)
        self.send_from_kernel(there)
        self.assertEqual(bob.packets(), [there])

    def test_of_one_user_s_sessions_the_last_one_has_it(self) -> None:
        old, _ = self.connect()
        with capturedLogs() as events:
            new, _ = self.connect("ALICE")
        self.assertIn("no longer behind session", str([each["log_format"] for each in events]))
        there = ipv4_packet(ANYWHERE, BEHIND)
        self.send_from_kernel(there)
        self.assertEqual((old.packets(), new.packets()), ([], [there]))
        old.send_frame(PacketKind.DISCONNECT, b"\xb0bye")
        self.assertEqual(self.device.routes, {BRANCH, OTHER})
        self.send_from_kernel(there)
        self.assertEqual(new.packets(), [there])
        new.send_frame(PacketKind.DISCONNECT, b"\xb0bye")
        self.assertEqual(self.device.routes, frozenset())

    def test_a_network_within_another_one_may_lie_elsewhere(self) -> None:
        self.connect()
        self.set_policy(client_networks=(ip_network("10.5.6.0/24"),))
        bob, _ = self.connect("bob")
        narrow = ipv4_packet(ANYWHERE, bytes((10, 5, 6, 7)))
        self.send_from_kernel(narrow)
        self.assertEqual(bob.packets(), [narrow])
        self.assertEqual(len(self.device.routes), 3)

    def test_the_pool_lies_behind_nobody(self) -> None:
        for network in ("10.99.0.0/16", "10.99.0.8/30", "fd00::/16"):
            self.set_policy(client_networks=(BRANCH, ip_network(network)))
            detail = self.refusal(self.client().log_in())
            self.assertIn(f"{network} behind the client overlaps the pool ", detail)
            self.assertEqual(self.device.routes, frozenset())

    def test_the_client_itself_does_not_lie_behind_its_tunnel(self) -> None:
        self.set_policy(client_networks=(ip_network("192.0.2.0/24"),))
        detail = self.refusal(self.client().log_in())
        self.assertIn("192.0.2.0/24 behind the client holds its outer address 192.0.2.1", detail)

    def test_what_the_kernel_refuses_leaves_everything_as_it_was(self) -> None:
        alice, _ = self.connect()
        alice.vanish()
        self.device.refused_routes = frozenset({ip_network("10.6.0.0/16")})
        self.set_policy(client_networks=(BRANCH, ip_network("10.6.0.0/16")))
        token = self.client().log_in("bob")
        self.assertIn("10.6.0.0/16 is refused", self.refusal(token))
        self.assertEqual(self.device.routes, {BRANCH, OTHER})
        [owner, _] = self.gateway._registry.all()
        self.gateway._registry.end(owner, EndReason.KICKED)
        self.assertEqual(self.device.routes, frozenset())
        self.device.refused_routes = frozenset()
        self.tunnel(token)
        self.assertEqual(self.device.routes, {BRANCH, ip_network("10.6.0.0/16")})

    def test_a_session_that_ends_before_its_routes_are_there_leaves_none(self) -> None:
        token = self.client().log_in()
        waiting: list[Deferred[None]] = []
        set_routes = self.device.set_routes

        async def slowly(networks: Collection[Network]) -> None:
            waiting.append(Deferred())
            await waiting[-1]
            await set_routes(networks)

        self.device.set_routes = slowly  # type: ignore[method-assign]
        client = self.client()
        client.send_request("CONNECT", "/CSCOSSLC/tunnel", {"Cookie": f"webvpn={token}"})
        [session] = self.gateway._registry.all()
        self.gateway._registry.end(session, EndReason.KICKED)
        while waiting:
            waiting.pop(0).callback(None)
        self.assertEqual(self.device.routes, frozenset())
        self.assertEqual(self.details(EventKind.TUNNEL_OPENED), [])

    def test_a_route_that_stays_behind_is_said(self) -> None:
        alice, _ = self.connect()

        async def fail(networks: Collection[Network]) -> None:
            raise TunUnavailable("no more")

        self.device.set_routes = fail  # type: ignore[method-assign]
        with capturedLogs() as events:
            alice.send_frame(PacketKind.DISCONNECT, b"\xb0bye")
        self.assertEqual([each["why"] for each in events if "why" in each], ["no more"])
