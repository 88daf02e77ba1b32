"""Many sessions, of clients that a test steers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from types import SimpleNamespace

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.errors import GatewayUnreachable, LoginDenied
from anyvpn.load.generator import (
    ANSWER_TIME_S,
    GOODBYE_TIME_S,
    PROBES_PER_TICK,
    Load,
    LoadGenerator,
    NumberedUser,
    Worker,
)
from anyvpn.load.no_device import NoDevice
from anyvpn.load.tally import Tally
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.authentication import Answer, Step
from anyvpn.model.channels import ChannelName
from anyvpn.model.tunnel_settings import Lease, TunnelSettings

INSIDE = IPv4Address("10.99.0.2")


class FakeTunnel:
    """Ends when a test says so; its round trip takes 2 ms once it was probed."""

    def __init__(self) -> None:
        self.settings = TunnelSettings(lease=Lease(IPv4Interface("10.77.0.9/32")), mtu_bytes=1400)
        self.adapter = NoDevice(AdapterSettings(self.settings, 1400, None, ""))
        self.sent: list[bytes] = []
        self.adapter.start_reading(lambda: self.sent.extend(self.adapter.read_packets(9)))
        self.channel = ChannelName.CSTP
        self.over: Deferred[str] = Deferred()
        self.probes = 0
        self.said_goodbye = False

    def status(self) -> object:
        return SimpleNamespace(channel=self.channel, round_trip_s=0.002 if self.probes else 0.0)

    def probe(self) -> None:
        self.probes += 1

    async def wait_closed(self) -> str:
        return await self.over

    async def disconnect(self) -> None:
        self.said_goodbye = True
        self.over.callback("disconnected by the user")


class FakeResponder:
    """Knows a user name; logins are counted."""

    capabilities: frozenset[str] = frozenset({"webauthn"})

    def __init__(self) -> None:
        self.logins = 0

    def login_begins(self) -> None:
        self.logins += 1

    async def answer(self, step: Step) -> Answer:
        return {"username": "load-%d", "password": "%d"} if step is FORM else {}


FORM: Step = SimpleNamespace()  # type: ignore[assignment]  # nobody looks into it


class GeneratorCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.opening: list[tuple[int, Deferred[FakeTunnel]]] = []
        self.tunnels: list[FakeTunnel] = []

    def generator(
        self, sessions: int, *, rate: float = 1000.0, at_once: int = 16, pings: bool = False
    ) -> LoadGenerator:
        self.tally = Tally(sessions)
        load = Load(sessions, rate, at_once, INSIDE if pings else None)
        return LoadGenerator(self.clock, load, self.worker, self.tally)  # type: ignore[arg-type]  # a clock

    def worker(self) -> Worker:
        user = NumberedUser(FakeResponder())  # type: ignore[arg-type]  # a fake

        async def connect() -> FakeTunnel:
            opening: Deferred[FakeTunnel] = Deferred()
            self.opening.append((user.number, opening))
            return await opening

        return Worker(SimpleNamespace(connect=connect), user)  # type: ignore[arg-type]  # a fake

    def let_in(self) -> None:
        """Every login that waits succeeds."""
        while self.opening:
            _, opening = self.opening.pop(0)
            self.tunnels.append(FakeTunnel())
            opening.callback(self.tunnels[-1])
            self.clock.advance(0.01)

    def opened(self, sessions: int, *, pings: bool = False) -> LoadGenerator:
        generator = self.generator(sessions, pings=pings)
        opening = Deferred.fromCoroutine(generator.open_all())
        self.clock.advance(1.0)
        while not opening.called:
            self.let_in()
        self.successResultOf(opening)
        return generator


class LoginTests(GeneratorCase):
    def test_no_more_are_under_way_than_allowed(self) -> None:
        opening = Deferred.fromCoroutine(self.generator(10, at_once=3).open_all())
        self.clock.advance(1.0)
        self.assertEqual([number for number, _ in self.opening], [1, 2, 3])
        self.opening.pop(1)[1].callback(FakeTunnel())
        self.clock.advance(1.0)
        self.assertEqual([number for number, _ in self.opening], [1, 3, 4])
        opening.cancel()
        self.failureResultOf(opening)

    def test_they_begin_at_the_rate(self) -> None:
        opening = Deferred.fromCoroutine(self.generator(10, rate=2.0).open_all())
        for passed_s, begun in ((0.0, 1), (0.4, 1), (0.2, 2), (0.5, 3), (1.0, 5)):
            self.clock.advance(passed_s)
            self.assertEqual(len(self.opening), begun)
        opening.cancel()
        self.failureResultOf(opening)

    def test_each_is_counted(self) -> None:
        opening = Deferred.fromCoroutine(self.generator(4).open_all())
        self.clock.advance(1.0)
        (_, good), (_, denied), (_, unreachable), (_, too) = self.opening
        good.callback(FakeTunnel())
        denied.errback(LoginDenied("Login failed."))
        unreachable.errback(GatewayUnreachable("vpn: no answer"))
        too.errback(GatewayUnreachable("vpn: no answer"))
        self.successResultOf(opening)
        self.assertEqual(self.tally.failed, {"Login failed.": 1, "vpn: no answer": 2})
        self.assertEqual((self.tally.succeeded, self.tally.connected), (1, 1))
        self.assertEqual(self.tally.opening_time_s, 1.0)

    def test_bugs_are_no_failed_logins(self) -> None:
        opening = Deferred.fromCoroutine(self.generator(2).open_all())
        self.clock.advance(1.0)
        self.opening[0][1].errback(ZeroDivisionError())
        self.failureResultOf(opening)

    def test_an_interruption_is_seen_as_one(self) -> None:
        opening = Deferred.fromCoroutine(self.generator(4, at_once=2).open_all())
        self.clock.advance(1.0)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(len(self.opening), 2)
        self.assertEqual(self.tally.failed.total(), 0)

    def test_every_user_has_a_number(self) -> None:
        user = self.worker().user
        self.assertEqual(user.capabilities, {"webauthn"})
        user.number = 7
        user.login_begins()
        answer = self.successResultOf(Deferred.fromCoroutine(user.answer(FORM)))
        self.assertEqual(answer, {"username": "load-7", "password": "%d"})


class HoldingTests(GeneratorCase):
    def test_a_session_that_is_lost_is_counted_and_left_alone(self) -> None:
        generator = self.opened(3)
        self.tunnels[1].over.errback(GatewayUnreachable("no sign of life for 60 s"))
        self.tunnels[2].over.callback("the gateway ended the session")
        self.assertEqual(self.tally.connected, 1)
        self.assertEqual(
            self.tally.lost, {"no sign of life for 60 s": 1, "the gateway ended the session": 1}
        )
        self.clock.advance(1.0)
        closing = Deferred.fromCoroutine(generator.close_all())
        self.assertNoResult(closing)
        self.clock.advance(GOODBYE_TIME_S)
        self.successResultOf(closing)
        self.assertEqual([each.said_goodbye for each in self.tunnels], [True, False, False])
        self.assertEqual(self.tally.connected, 0)
        self.assertEqual(self.tally.lost.total(), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_some_are_probed_at_a_time_and_all_in_turn(self) -> None:
        sessions = PROBES_PER_TICK + 5
        self.opened(sessions)
        probed = sum(each.probes for each in self.tunnels)
        self.clock.advance(1.0)
        self.assertEqual(sum(each.probes for each in self.tunnels) - probed, PROBES_PER_TICK)
        self.clock.advance(1.0)
        self.assertTrue(all(each.probes for each in self.tunnels))
        self.assertEqual(set(self.tally.round_trips_s), {0.002})

    def test_each_pings_once_in_the_interval(self) -> None:
        self.opened(3, pings=True)
        sent = [len(each.sent) for each in self.tunnels]
        self.clock.advance(1.0)
        self.assertEqual([len(each.sent) for each in self.tunnels], [each + 1 for each in sent])
        self.assertEqual(self.tally.pings_sent, sum(sent) + 3)
        self.assertEqual(self.tunnels[0].sent[0][16:20], INSIDE.packed)
        self.tunnels[0].adapter.on_echo(2)
        self.assertEqual(self.tally.pings_answered, 2)

    def test_the_last_pings_may_come_back(self) -> None:
        generator = self.opened(1, pings=True)
        self.clock.advance(1.0)
        finishing = Deferred.fromCoroutine(generator.finish_pings())
        self.assertNoResult(finishing)
        self.tunnels[0].adapter.on_echo(self.tally.pings_sent)
        self.clock.advance(0.1)
        self.successResultOf(finishing)
        sent = self.tally.pings_sent
        self.clock.advance(5.0)
        self.assertEqual(self.tally.pings_sent, sent)

    def test_pings_that_are_lost_keep_nobody_for_long(self) -> None:
        generator = self.opened(1, pings=True)
        self.clock.advance(1.0)
        finishing = Deferred.fromCoroutine(generator.finish_pings())
        self.clock.pump([0.1] * round(ANSWER_TIME_S * 10 + 1))
        self.successResultOf(finishing)

    def test_channels_are_counted(self) -> None:
        generator = self.opened(2)
        for tunnel in self.tunnels:
            tunnel.channel = ChannelName.DTLS
            generator.channel_changed(ChannelName.DTLS)
        self.assertEqual(self.tally.over_dtls, 2)
        self.tunnels[0].over.callback("gone")
        self.assertEqual(self.tally.over_dtls, 1)
        generator.channel_changed(ChannelName.CSTP)
        self.assertEqual(self.tally.over_dtls, 0)
