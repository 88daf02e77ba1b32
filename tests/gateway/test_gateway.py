"""The gateway as a whole: who is let in, how it begins, how it ends, and who hears of it."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from zope.interface import implementer

from anyvpn.gateway.settings import ShutdownBehaviour
from anyvpn.interfaces import IEventListener
from anyvpn.model.authentication import ClientMessage, ClientMessageKind
from anyvpn.model.events import Event, EventKind
from anyvpn.model.session import Connected, Dormant
from anyvpn.packets.stream import TLSStream
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import PacketKind
from tests.gateway.backends_in_memory import NotedEvents
from tests.gateway.gateway_in_memory import DTLS_OFFER, GatewayCase, VPNClient
from tests.gateway.memory_tls import MemoryTransport

ALICE = bytes((10, 99, 0, 2))
TO_ALICE = ipv4_packet(ANYWHERE, ALICE, b"to alice")


class AdmissionTests(GatewayCase):
    limits = replace(GatewayCase.limits, connections_per_address=3, connections=5)

    def arrive(self, peer: str) -> bool:
        """Whether a connection is let in."""
        arrived = self.gateway.factory().buildProtocol(IPv4Address("TCP", peer, 1))
        return isinstance(arrived, TLSStream)

    def behind_a_proxy(self, peer: str) -> VPNClient:
        """A client whose address the endpoint knows only when the first byte comes."""
        client = VPNClient(self, "198.51.100.200", real_peer=peer)
        self.clients.append(client)
        return client

    def test_a_refused_connection_is_closed_politely(self) -> None:
        for _ in range(3):
            self.client()
        refused = self.gateway.factory().buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        transport = MemoryTransport()
        refused.makeConnection(transport)
        self.assertTrue(transport.closing)

    def test_clients_behind_a_proxy_are_counted_one_by_one(self) -> None:
        for number in range(4):
            client = self.behind_a_proxy(f"192.0.2.{number}")
            client.log_in()
        self.assertEqual(
            {each.peer for each in self.listener.of(EventKind.LOGIN_SUCCEEDED)},
            {f"192.0.2.{number}" for number in range(4)},
        )
        for client in self.clients:
            client.vanish()
        for _ in range(3):
            self.assertFalse(self.client("198.51.100.200").tls.is_closed)

    def test_too_many_of_one_client_behind_a_proxy_are_closed(self) -> None:
        clients = [self.behind_a_proxy("192.0.2.1") for _ in range(4)]
        self.assertEqual([each.tls.is_closed for each in clients], [False, False, False, True])
        clients[0].vanish()
        self.assertFalse(self.behind_a_proxy("192.0.2.1").tls.is_closed)

    def test_connections_of_one_address_are_limited(self) -> None:
        clients = [self.client() for _ in range(3)]
        self.assertFalse(self.arrive("192.0.2.1"))
        self.assertIn("3 connections", self.details(EventKind.REQUEST_REFUSED)[0])
        clients[0].vanish()
        self.client()

    def test_a_connection_that_closes_makes_room_whoever_reads_it(self) -> None:
        for _ in range(10):
            client = self.tunnel()
            client.vanish()

    def test_an_ipv4_address_is_the_same_in_ipv6_clothes(self) -> None:
        for _ in range(3):
            self.client("::ffff:192.0.2.1")
        self.assertFalse(self.arrive("192.0.2.1"))
        self.assertEqual(self.listener.events[-1].peer, "192.0.2.1")
        self.clients[0].log_in()
        (event,) = self.listener.of(EventKind.LOGIN_SUCCEEDED)
        self.assertEqual(event.peer, "192.0.2.1")

    def test_a_client_that_does_not_shake_hands_is_cut(self) -> None:
        silent = self.silent_client()
        self.pass_time(9)
        self.assertFalse(silent.near.aborted)
        self.pass_time(2)
        silent.pump()
        self.assertTrue(silent.near.lost)
        (event,) = self.listener.of(EventKind.TLS_FAILED)
        self.assertIn("not complete after 10 s", event.detail)
        self.assertEqual(event.peer, "192.0.2.9")


@implementer(IEventListener)
class BrokenListener:
    """Fails at everything."""

    def event_happened(self, event: Event) -> None:
        raise ZeroDivisionError("a listener's fault")


class ListenerTests(GatewayCase):
    def test_one_that_fails_is_logged_and_the_others_hear_all_the_same(self) -> None:
        second = NotedEvents()
        self.stop_gateway()
        self.listeners = (self.listener, BrokenListener(), second)
        self.open_gateway()
        self.listener.events.clear()
        second.events.clear()
        self.tunnel()
        self.assertEqual(second.events, self.listener.events)
        self.assertGreater(len(second.events), 2)
        self.stop_gateway()
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.listeners = ()
        self.open_gateway()

    def test_sessions_report_once_in_each_interval(self) -> None:
        self.set_policy(dpd_s=0.0, rekey_s=0.0)
        self.tunnel()
        self.listener.events.clear()
        for _ in range(3 * 300):
            self.clock.advance(1)
        self.assertEqual(self.listener.kinds(), [EventKind.SESSION_PROGRESS] * 3)

    def test_a_reactor_that_is_late_leaves_nobody_out(self) -> None:
        self.set_policy(dpd_s=0.0, rekey_s=0.0)
        self.tunnel()
        self.listener.events.clear()
        for _ in range(3 * 300 // 20):
            self.clock.advance(20)
        self.assertEqual(self.listener.kinds(), [EventKind.SESSION_PROGRESS] * 3)

    def test_all_that_happens_to_a_client_names_it(self) -> None:
        client = self.tunnel()
        client.vanish()
        kinds = [
            EventKind.LOGIN_STARTED,
            EventKind.LOGIN_SUCCEEDED,
            EventKind.SESSION_STARTED,
            EventKind.TUNNEL_OPENED,
            EventKind.TUNNEL_CLOSED,
        ]
        self.assertEqual(self.listener.kinds(), [EventKind.GATEWAY_STARTED, *kinds])
        for event in self.listener.events[2:]:
            self.assertEqual(
                (event.user, event.peer, event.profile), ("alice", "192.0.2.1", "Staff")
            )
            self.assertTrue(event.session_id)
            self.assertEqual(event.at_s, self.clock.seconds())


class ResumingStopTests(GatewayCase):
    shutdown = ShutdownBehaviour.RESUME

    def test_clients_are_closed_without_a_goodbye(self) -> None:
        client = self.tunnel()
        self.stop_gateway()
        self.assertTrue(client.tls.is_closed)
        self.assertEqual(client.frames(), [])
        self.assertEqual(self.details(EventKind.TUNNEL_CLOSED), ["the gateway stops"])
        self.assertEqual(self.listener.of(EventKind.SESSION_ENDED), [])
        self.assertEqual(self.listener.kinds()[-1], EventKind.GATEWAY_STOPPED)

    def test_sessions_stay_in_the_store_as_they_were(self) -> None:
        self.tunnel()
        self.stop_gateway()
        (record,) = self.store._records.values()
        self.assertIsInstance(record.state, Connected)
        self.assertEqual(len(self.addresses.lent), 1)

    def test_clients_come_back_to_the_next_gateway_with_the_same_addresses(self) -> None:
        self.tunnel(offer=DTLS_OFFER)
        address = self.answer.first("X-CSTP-Address")
        self.stop_gateway()
        self.addresses.lent.clear()
        self.open_gateway()
        self.assertEqual(self.details(EventKind.GATEWAY_STARTED)[-1], "1 sessions can be resumed")
        client = self.tunnel(self.token, DTLS_OFFER)
        self.assertEqual(self.answer.first("X-CSTP-Address"), address)
        self.assertTrue(self.dtls_peer(client).shake_hands())
        self.assertEqual(len(self.listener.of(EventKind.TUNNEL_RESUMED)), 1)

    def test_a_session_that_nobody_takes_up_ends(self) -> None:
        self.set_policy(disconnected_timeout_s=50.0)
        self.tunnel()
        self.stop_gateway()
        self.addresses.lent.clear()
        self.open_gateway()
        (session,) = self.gateway._registry.all()
        self.assertIsInstance(session.record.state, Dormant)
        self.pass_time(51)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["not resumed in time"])
        self.assertEqual(self.addresses.lent, [])


class DisconnectingStopTests(GatewayCase):
    shutdown = ShutdownBehaviour.DISCONNECT

    def test_clients_are_told_and_nothing_is_kept(self) -> None:
        client = self.tunnel()
        idle = self.client().log_in("bob")
        self.assertTrue(idle)
        self.stop_gateway()
        self.assertEqual(client.frames(), [(PacketKind.DISCONNECT, b"")])
        self.assertTrue(client.tls.is_closed)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["the gateway stops"] * 2)
        self.assertEqual(self.store._records, {})
        self.assertEqual(self.addresses.lent, [])

    def test_what_was_on_its_way_arrives_before_the_end(self) -> None:
        client = self.tunnel()
        self.device.inject([TO_ALICE] * 20)
        self.stop_gateway()
        frames = client.frames()
        self.assertEqual(frames[:-1], [(PacketKind.DATA, TO_ALICE)] * 20)
        self.assertEqual(frames[-1], (PacketKind.DISCONNECT, b""))


class StopTests(GatewayCase):
    def test_it_waits_until_all_are_gone(self) -> None:
        self.client()
        stopping = Deferred.fromCoroutine(self.gateway.stop())
        self.assertNoResult(stopping)
        self.pump()
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_client_that_reads_nothing_delays_it_for_three_seconds_at_most(self) -> None:
        client = self.tunnel()
        client.wire.far.is_stalled = True
        self.device.inject([TO_ALICE])
        stopping = Deferred.fromCoroutine(self.gateway.stop())
        self.pass_time(2)
        self.assertNoResult(stopping)
        self.pass_time(2)
        self.successResultOf(stopping)
        self.assertTrue(client.wire.near.lost)

    def test_a_handshake_in_progress_does_not_delay_it(self) -> None:
        wire = self.silent_client()
        stopping = Deferred.fromCoroutine(self.gateway.stop())
        self.pump()
        wire.pump()
        self.successResultOf(stopping)

    def test_logins_in_progress_end(self) -> None:
        client = self.client()
        client.post(ClientMessage(ClientMessageKind.INIT))
        self.stop_gateway()
        self.assertEqual(len(self.gateway._logins), 0)

    def test_stopping_without_clients_is_done_at_once(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.gateway.stop()))
