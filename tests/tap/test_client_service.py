"""Tests of anyvpn.tap.client_service: a link that nobody watches."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from anyvpn.errors import AnyvpnError, GatewayUnreachable, LoginDenied
from anyvpn.model.client_events import ProfileStored
from anyvpn.tap.client_service import (
    AFTER_DENIAL_S,
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    ClientService,
    log_event,
)


class Tunnel:
    def __init__(self) -> None:
        self.closed: Deferred[str] = Deferred()
        self.disconnected = 0

    async def wait_closed(self) -> str:
        return await self.closed

    async def disconnect(self) -> None:
        self.disconnected += 1


class Client:
    """Connects when it is told to, or fails as it is told to."""

    def __init__(self) -> None:
        self.errors: list[AnyvpnError] = []
        self.tunnels: list[Tunnel] = []
        self.tries = 0

    async def connect(self) -> Tunnel:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        self.tunnels.append(Tunnel())
        return self.tunnels[-1]


class ServiceTests:
    def setup_method(self) -> None:
        self.clock = Clock()
        self.client = Client()
        self.service = ClientService(self.clock, self.client)  # type: ignore[arg-type]

    def test_a_tunnel_that_ends_is_connected_again(self) -> None:
        self.service.startService()
        self.client.tunnels[0].closed.callback("the gateway ended the session")
        assert self.client.tries == 1
        self.clock.advance(FIRST_DELAY_S)
        assert self.client.tries == 2

    def test_tries_come_ever_more_seldom(self) -> None:
        self.client.errors = [GatewayUnreachable("nobody there") for _ in range(20)]
        self.service.startService()
        waits = []
        for _ in range(9):
            [call] = self.clock.getDelayedCalls()
            waits.append(call.getTime() - self.clock.seconds())
            self.clock.advance(waits[-1])
        assert waits[:4] == [5, 10, 20, 40]
        assert waits[-1] == LONGEST_DELAY_S

    def test_a_denied_login_is_not_tried_again_soon(self) -> None:
        self.client.errors = [LoginDenied("no")]
        self.service.startService()
        self.clock.advance(AFTER_DENIAL_S - 1)
        assert self.client.tries == 1
        self.clock.advance(1)
        assert self.client.tries == 2

    def test_a_stop_says_goodbye(self) -> None:
        self.service.startService()
        stopped = self.service.stopService()
        assert stopped.called
        assert self.client.tunnels[0].disconnected == 1
        assert self.clock.getDelayedCalls() == []

    def test_a_stop_between_two_tries(self) -> None:
        self.client.errors = [GatewayUnreachable("nobody there")]
        self.service.startService()
        self.service.stopService()
        assert self.clock.getDelayedCalls() == []


class LogTests:
    def test_a_profile_that_is_kept_nowhere_is_not_called_stored(self) -> None:
        with capturedLogs() as logged:
            log_event(ProfileStored("a.xml", "/x/a.xml", is_new=True))
            log_event(ProfileStored("a.xml", "", is_new=True))
        assert [formatEvent(each) for each in logged] == [
            "Profile a.xml is stored as /x/a.xml",
            "Profile a.xml was fetched, and not kept",
        ]
