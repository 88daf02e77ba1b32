"""A tunnel's life: probes, time-outs, goodbyes, and who comes back."""

from __future__ import annotations

from anyvpn.model.events import EventKind
from anyvpn.model.session import Dormant
from anyvpn.testing.inner_packets import ANYWHERE, ipv4_packet
from anyvpn.wire.cstp import Goodbye, PacketKind, frame_data, frame_packet, write_goodbye
from tests.gateway.gateway_in_memory import USUAL_OFFER, GatewayCase

ALICE = bytes((10, 99, 0, 2))
PACKET = frame_data([ipv4_packet(ALICE, ANYWHERE, b"data")])[0]
BY_USER = write_goodbye(Goodbye(0xB0, "Aborted by caller"))


class GoodbyeTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.tunnel()

    def test_the_users_own_ends_the_session_and_frees_its_addresses(self) -> None:
        self.alice.send_frame(PacketKind.DISCONNECT, BY_USER)
        self.assertEqual(self.alice.frames(), [])
        self.assertTrue(self.alice.tls.is_closed)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["the client said goodbye"])
        [closed] = self.details(EventKind.TUNNEL_CLOSED)
        self.assertEqual(closed, "the client disconnected with reason 0xb0: Aborted by caller")
        self.assertEqual(self.addresses.lent, [])
        self.assertEqual(self.store._records, {})
        self.assertEqual(self.client().open_tunnel(self.token).status, 401)

    def test_any_other_keeps_the_session(self) -> None:
        for payload in (b"", b"\xb1", b"\x00reason", b"\xb2" + bytes(5000)):
            with self.subTest(payload=payload[:8]):
                self.alice.send_frame(PacketKind.DISCONNECT, payload)
                self.assertTrue(self.alice.tls.is_closed)
                self.assertEqual(len(self.addresses.lent), 1)
                self.alice = self.tunnel(self.token)
        self.assertEqual(self.listener.of(EventKind.SESSION_ENDED), [])

    def test_terminate_keeps_the_session(self) -> None:
        self.alice.send_frame(PacketKind.TERMINATE)
        self.assertTrue(self.alice.tls.is_closed)
        self.assertEqual(self.client().open_tunnel(self.token).status, 200)

    def test_a_closed_tunnel_is_an_event_with_its_counters(self) -> None:
        self.alice.send(PACKET * 3)
        self.alice.send_frame(PacketKind.DISCONNECT, BY_USER)
        (closed,) = self.listener.of(EventKind.TUNNEL_CLOSED)
        (ended,) = self.listener.of(EventKind.SESSION_ENDED)
        for event in (closed, ended):
            assert event.counters is not None
            self.assertEqual(event.counters.received_packets, 3)
            self.assertEqual((event.user, event.peer), ("alice", "192.0.2.1"))
        self.assertLess(self.listener.events.index(closed), self.listener.events.index(ended))

    def test_what_follows_a_goodbye_changes_nothing(self) -> None:
        goodbye = frame_packet(PacketKind.DISCONNECT, BY_USER)
        self.alice.send(goodbye + goodbye + frame_packet(PacketKind.DISCONNECT, b""))
        self.alice.send(PACKET)
        self.assertEqual(self.packets_to_kernel(), [])
        self.assertEqual(len(self.listener.of(EventKind.SESSION_ENDED)), 1)


class TakeoverTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.old = self.tunnel()
        self.new = self.tunnel(self.token)

    def test_the_old_tunnel_is_disconnected_without_a_reason(self) -> None:
        self.assertEqual(self.old.frames(), [(PacketKind.DISCONNECT, b"")])
        self.assertTrue(self.old.tls.is_closed)

    def test_the_addresses_are_the_same(self) -> None:
        self.assertEqual(self.answer.first("X-CSTP-Address"), "10.99.0.2")
        self.assertEqual(self.answer.first("X-CSTP-Address-IP6"), "fd00::2/64")
        self.assertEqual(len(self.addresses.lent), 1)

    def test_packets_go_to_the_new_one(self) -> None:
        packet = ipv4_packet(ANYWHERE, ALICE, b"to the new one")
        self.send_from_kernel(packet)
        self.assertEqual(self.new.packets(), [packet])

    def test_a_late_goodbye_of_the_old_one_changes_nothing(self) -> None:
        client = self.tunnel(self.token)
        client.tls.tls.send(frame_packet(PacketKind.DISCONNECT, BY_USER))
        late = client.tls.tls.bio_read(65536)  # on its way when another one takes over
        newest = self.tunnel(self.token)
        client.tls.transport.write(late)
        self.pump()
        self.assertEqual(self.listener.of(EventKind.SESSION_ENDED), [])
        newest.send(PACKET)
        self.assertEqual(len(self.packets_to_kernel()), 1)

    def test_the_loss_of_the_old_one_changes_nothing(self) -> None:
        self.old.vanish()
        self.new.send(PACKET)
        self.assertEqual(len(self.packets_to_kernel()), 1)

    def test_it_is_told_as_an_end_and_a_resumption(self) -> None:
        kinds = [
            each
            for each in self.listener.kinds()
            if each in (EventKind.TUNNEL_OPENED, EventKind.TUNNEL_CLOSED, EventKind.TUNNEL_RESUMED)
        ]
        self.assertEqual(
            kinds, [EventKind.TUNNEL_OPENED, EventKind.TUNNEL_CLOSED, EventKind.TUNNEL_RESUMED]
        )

    def test_counters_of_a_session_are_those_of_all_its_tunnels(self) -> None:
        self.new.send(PACKET * 2)
        newest = self.tunnel(self.token)
        newest.send(PACKET * 3)
        newest.send_frame(PacketKind.DISCONNECT, BY_USER)
        (ended,) = self.listener.of(EventKind.SESSION_ENDED)
        assert ended.counters is not None
        self.assertEqual(ended.counters.received_packets, 5)


class ProbeTests(GatewayCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_policy(dpd_s=30.0, disconnected_timeout_s=100.0)
        self.alice = self.tunnel()

    def probes(self) -> int:
        """How many probes came since the last call."""
        frames = self.alice.frames()
        self.assertTrue(all(frame == (PacketKind.DPD_REQUEST, b"") for frame in frames))
        return len(frames)

    def test_a_silent_client_is_probed(self) -> None:
        self.pass_time(29)
        self.assertEqual(self.probes(), 0)
        self.pass_time(2)
        self.assertEqual(self.probes(), 1)
        self.pass_time(29)
        self.assertIn(self.probes(), (1, 2))

    def test_a_client_that_says_anything_is_not(self) -> None:
        for kind in (PacketKind.KEEPALIVE, PacketKind.DPD_RESPONSE, PacketKind.DATA) * 3:
            self.pass_time(25)
            self.alice.send_frame(kind)
        self.assertEqual(self.probes(), 0)
        self.assertFalse(self.alice.tls.is_closed)

    def test_an_answer_keeps_the_tunnel(self) -> None:
        for _ in range(10):
            self.pass_time(31)
            if self.probes():
                self.alice.send_frame(PacketKind.DPD_RESPONSE)
        self.assertFalse(self.alice.tls.is_closed)

    def test_a_dead_client_loses_its_tunnel_and_then_its_session(self) -> None:
        self.pass_time(89)
        self.assertFalse(self.alice.tls.is_closed)
        self.pass_time(2)
        self.assertTrue(self.alice.tls.is_closed)
        self.assertEqual(self.details(EventKind.TUNNEL_CLOSED), ["no sign of life for 90 s"])
        (record,) = self.store._records.values()
        self.assertIsInstance(record.state, Dormant)
        self.pass_time(98)
        self.assertEqual(len(self.addresses.lent), 1)
        self.pass_time(3)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["not resumed in time"])
        self.assertEqual(self.addresses.lent, [])
        self.assertEqual(self.client().open_tunnel(self.token).status, 401)

    def test_a_client_that_is_back_in_time_has_its_addresses(self) -> None:
        self.alice.vanish()
        self.pass_time(99)
        self.tunnel(self.token)
        self.assertEqual(self.answer.first("X-CSTP-Address"), "10.99.0.2")
        self.pass_time(60)
        self.assertEqual(self.listener.of(EventKind.SESSION_ENDED), [])

    def test_probes_can_be_switched_off(self) -> None:
        self.set_policy(dpd_s=0.0)
        quiet = self.tunnel(self.client().log_in("bob"))
        self.pass_time(1000)
        self.assertEqual(quiet.frames(), [])
        self.assertFalse(quiet.tls.is_closed)

    def test_phones_have_their_own_rhythm(self) -> None:
        self.set_policy(mobile_dpd_s=80.0)
        phone = {**USUAL_OFFER, "X-AnyConnect-Identifier-Platform": "android"}
        client = self.tunnel(self.client().log_in("bob"), phone)
        self.assertEqual(self.answer.first("X-CSTP-DPD"), "80")
        self.pass_time(79)
        self.assertEqual(client.frames(), [])
        self.pass_time(2)
        self.assertEqual(client.frames(), [(PacketKind.DPD_REQUEST, b"")])


class TimeOutTests(GatewayCase):
    def test_an_idle_client_is_disconnected_for_good(self) -> None:
        self.set_policy(idle_timeout_s=60.0, dpd_s=0.0)
        alice = self.tunnel()
        self.assertEqual(self.answer.first("X-CSTP-Idle-Timeout"), "60")
        self.pass_time(59)
        self.assertEqual(alice.frames(), [])
        self.pass_time(2)
        self.assertEqual(alice.frames(), [(PacketKind.DISCONNECT, b"")])
        self.assertTrue(alice.tls.is_closed)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["idle time-out"])
        self.assertEqual(self.client().open_tunnel(self.token).status, 401)

    def test_a_client_that_reconnects_is_as_idle_as_before(self) -> None:
        self.set_policy(idle_timeout_s=60.0, dpd_s=0.0)
        alice = self.tunnel()
        for _ in range(2):
            self.pass_time(25)
            alice.vanish()
            alice = self.tunnel(self.token)
        self.pass_time(9)
        self.assertFalse(alice.tls.is_closed)
        self.pass_time(2)
        self.assertTrue(alice.tls.is_closed)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["idle time-out"])

    def test_time_without_a_tunnel_is_not_idle_time(self) -> None:
        self.set_policy(idle_timeout_s=60.0, dpd_s=0.0, disconnected_timeout_s=900.0)
        self.tunnel().vanish()
        self.pass_time(500)
        alice = self.tunnel(self.token)
        self.pass_time(55)
        self.assertFalse(alice.tls.is_closed)

    def test_only_data_counts_as_work(self) -> None:
        self.set_policy(idle_timeout_s=60.0, dpd_s=0.0)
        alice, bob = self.tunnel(), self.tunnel(self.client().log_in("bob"))
        for _ in range(5):
            self.pass_time(30)
            if not alice.tls.is_closed:
                alice.send_frame(PacketKind.KEEPALIVE)
                alice.send_frame(PacketKind.DPD_REQUEST)
            self.send_from_kernel(ipv4_packet(ANYWHERE, bytes((10, 99, 0, 3)), b"data"))
        self.assertTrue(alice.tls.is_closed)
        self.assertFalse(bob.tls.is_closed)

    def test_a_session_ends_at_its_time_whatever_it_does(self) -> None:
        self.set_policy(session_timeout_s=200.0, dpd_s=30.0)
        alice = self.tunnel()
        for _ in range(19):
            self.pass_time(10)
            alice.send(PACKET)
        self.assertFalse(alice.tls.is_closed)
        self.pass_time(11)
        self.assertEqual(alice.frames()[-1], (PacketKind.DISCONNECT, b""))
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["session time-out"])

    def test_a_reconnect_does_not_lengthen_the_session(self) -> None:
        self.set_policy(session_timeout_s=200.0, dpd_s=0.0)
        alice = self.tunnel()
        self.pass_time(150)
        alice.vanish()
        alice = self.tunnel(self.token)
        self.pass_time(51)
        self.assertTrue(alice.tls.is_closed)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["session time-out"])

    def test_a_client_that_reads_nothing_cannot_delay_its_end(self) -> None:
        self.set_policy(idle_timeout_s=60.0, dpd_s=0.0)
        alice = self.tunnel()
        alice.wire.far.is_stalled = True
        self.pass_time(70)
        self.assertTrue(alice.wire.near.lost)
        self.assertEqual(self.details(EventKind.SESSION_ENDED), ["idle time-out"])
