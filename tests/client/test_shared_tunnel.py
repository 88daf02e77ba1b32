"""One tunnel for all who ask."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.client.shared_tunnel import LINGER_S, SharedTunnel
from anyvpn.errors import GatewayUnreachable, LoginDenied
from anyvpn.interfaces import IInnerNetwork
from tests.client.sockets import HandedOut, SteeredReactor


class FakeTunnel:
    """Ends when a test says so."""

    def __init__(self) -> None:
        self.adapter = HandedOut()
        self.over: Deferred[str] = Deferred()
        self.disconnecting: Deferred[None] | None = None
        self.is_disconnected = False

    async def wait_closed(self) -> str:
        return await self.over

    async def disconnect(self) -> None:
        if self.disconnecting is not None:
            await self.disconnecting
        self.is_disconnected = True
        self.over.callback("the user ended it")


class SharedTunnelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = SteeredReactor()
        self.opening: list[Deferred[FakeTunnel]] = []
        self.cancelled: list[object] = []
        self.shared = SharedTunnel(self.reactor, self.connect)  # type: ignore[arg-type]  # fakes

    async def connect(self) -> FakeTunnel:
        opening: Deferred[FakeTunnel] = Deferred(self.cancelled.append)
        self.opening.append(opening)
        return await opening

    def hold(self) -> Deferred[IInnerNetwork]:
        return Deferred.fromCoroutine(self.shared.hold())

    def opened(self) -> FakeTunnel:
        """A tunnel that has a holder."""
        holding = self.hold()
        tunnel = FakeTunnel()
        self.opening[-1].callback(tunnel)
        self.assertIs(self.successResultOf(holding), tunnel.adapter)
        return tunnel

    def test_nothing_is_opened_before_somebody_asks(self) -> None:
        self.assertEqual(self.opening, [])

    def test_all_who_ask_meanwhile_get_the_same(self) -> None:
        holding = [self.hold() for _ in range(3)]
        self.assertEqual(len(self.opening), 1)
        tunnel = FakeTunnel()
        self.opening[0].callback(tunnel)
        holding.append(self.hold())
        for each in holding:
            self.assertIs(self.successResultOf(each), tunnel.adapter)
        self.assertEqual(len(self.opening), 1)

    def test_it_is_closed_a_while_after_the_last_has_left(self) -> None:
        tunnel = self.opened()
        self.successResultOf(self.hold())
        self.shared.release()
        self.reactor.advance(LINGER_S * 2)
        self.assertFalse(tunnel.is_disconnected)
        self.shared.release()
        self.reactor.advance(LINGER_S - 1)
        self.assertFalse(tunnel.is_disconnected)
        self.reactor.advance(2)
        self.assertTrue(tunnel.is_disconnected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_who_comes_while_it_lingers_finds_it(self) -> None:
        tunnel = self.opened()
        self.shared.release()
        self.reactor.advance(LINGER_S - 1)
        self.assertIs(self.successResultOf(self.hold()), tunnel.adapter)
        self.reactor.advance(LINGER_S)
        self.assertFalse(tunnel.is_disconnected)

    def test_who_comes_while_it_closes_gets_another_after_that(self) -> None:
        tunnel = self.opened()
        tunnel.disconnecting = Deferred()
        self.shared.release()
        self.reactor.advance(LINGER_S)
        holding = self.hold()
        self.assertEqual(len(self.opening), 1)
        tunnel.disconnecting.callback(None)
        self.assertEqual(len(self.opening), 2)
        another = FakeTunnel()
        self.opening[1].callback(another)
        self.assertIs(self.successResultOf(holding), another.adapter)

    def test_a_lost_tunnel_is_opened_again_by_who_needs_it(self) -> None:
        tunnel = self.opened()
        with capturedLogs() as logged:
            tunnel.over.errback(GatewayUnreachable("for good"))
        self.assertIn("for good", logged[0]["why"])
        self.assertEqual(len(self.opening), 1)
        another = self.opened()
        self.assertIsNot(another, tunnel)

    def test_a_failure_is_told_to_all_and_the_next_one_tries_again(self) -> None:
        holding = [self.hold(), self.hold()]
        self.opening[0].errback(LoginDenied("no"))
        for each in holding:
            self.failureResultOf(each, LoginDenied)
        self.assertEqual(self.shared.holders, 0)
        self.opened()

    def test_one_who_stops_waiting_takes_it_from_nobody(self) -> None:
        impatient, patient = self.hold(), self.hold()
        impatient.cancel()
        self.failureResultOf(impatient, CancelledError)
        self.assertEqual(self.cancelled, [])
        tunnel = FakeTunnel()
        self.opening[0].callback(tunnel)
        self.assertIs(self.successResultOf(patient), tunnel.adapter)

    def test_an_attempt_that_nobody_waits_for_is_given_up(self) -> None:
        impatient = self.hold()
        impatient.cancel()
        self.failureResultOf(impatient, CancelledError)
        self.reactor.advance(LINGER_S)
        self.assertEqual(len(self.cancelled), 1)

    def test_the_reactor_waits_for_the_end_of_the_tunnel(self) -> None:
        tunnel = self.opened()
        tunnel.disconnecting = Deferred()
        [before_shutdown] = self.reactor.before_shutdown
        waiting = before_shutdown()
        self.assertNoResult(waiting)
        tunnel.disconnecting.callback(None)
        self.successResultOf(waiting)
        self.assertTrue(tunnel.is_disconnected)

    def test_the_reactor_waits_for_an_end_that_has_begun(self) -> None:
        tunnel = self.opened()
        tunnel.disconnecting = Deferred()
        self.shared.release()
        self.reactor.advance(LINGER_S)
        waiting = self.reactor.before_shutdown[0]()
        self.assertNoResult(waiting)
        tunnel.disconnecting.callback(None)
        self.successResultOf(waiting)

    def test_a_shutdown_ends_an_attempt(self) -> None:
        holding = self.hold()
        self.successResultOf(self.reactor.before_shutdown[0]())
        self.failureResultOf(holding, CancelledError)
        self.assertEqual(len(self.cancelled), 1)
