"""Opens many sessions, one by one at a bounded rate, and holds them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import AnyvpnError
from anyvpn.interfaces import IResponder
from anyvpn.load.no_device import NoDevice, echo_request
from anyvpn.load.tally import Tally
from anyvpn.model.authentication import Answer, Step
from anyvpn.model.channels import ChannelName
from anyvpn.model.printable import printable

# Ours
TICK_S = 1.0
PROBES_PER_TICK = 20
GOODBYES_AT_ONCE = 100
GOODBYE_TIME_S = 0.5
"""What was written last must leave this host before the reactor stops."""
ANSWER_TIME_S = 2.0
"""A ping that has no answer by then is lost."""
NUMBER = "%d"
"""What stands for the session's number in a user name."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many sessions, and how they come; `ping` is an inner address that each of them pings."""

    sessions: int
    logins_per_s: float
    logins_at_once: int
    ping: IPv4Address | None = None
    ping_every_s: float = 1.0


@implementer(IResponder)
class NumberedUser:
    """Answers as `responder` does, with the session's number in the user name."""

    def __init__(self, responder: IResponder) -> None:
        self.number = 0
        self.capabilities: frozenset[str] = responder.capabilities
        self._responder = responder

    def login_begins(self) -> None:
        """A new login."""
        self._responder.login_begins()

    async def answer(self, step: Step) -> Answer:
        """What the step asks for. Raises: LoginAborted."""
        answer = await self._responder.answer(step)
        if not isinstance(answer, Mapping) or "username" not in answer:
            return answer
        return {**answer, "username": answer["username"].replace(NUMBER, str(self.number))}


@dataclass(frozen=True, slots=True)
class Worker:
    """Whoever logs in, one session after the other; the user's number is set before each."""

    client: VPNClient
    user: NumberedUser


class LoadGenerator:
    """Sessions of one process; `tally` follows them, `new_worker` makes who logs in.

    A session that is lost stays lost: its client must not try to come back.
    """

    def __init__(
        self, reactor: ClientReactor, load: Load, new_worker: Callable[[], Worker], tally: Tally
    ) -> None:
        self._reactor = reactor
        self._load = load
        self._new_worker = new_worker
        self._tally = tally
        self._tunnels: set[VPNTunnel] = set()
        self._in_turn: deque[VPNTunnel] = deque()
        self._next_number = 1
        self._next_login_at_s = 0.0
        self._probed: list[VPNTunnel] = []
        self._pings_due = 0.0
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor

    async def open_all(self) -> None:
        """Log in until all sessions were tried. Raises: CancelledError: somebody stopped it."""
        began_at_s = self._next_login_at_s = self._reactor.seconds()
        self._ticking.start(TICK_S, now=False)
        count = min(self._load.logins_at_once, self._load.sessions)
        work = [Deferred.fromCoroutine(self._log_in_in_turn(began_at_s)) for _ in range(count)]
        try:
            await gatherResults(work, consumeErrors=True)
        except FirstError as error:
            if isinstance(error.subFailure.value, CancelledError):
                raise CancelledError from None
            raise

    async def finish_pings(self) -> None:
        """Send no more of them, and wait for what is on its way."""
        self._stop_ticking()
        tally, end_at_s = self._tally, self._reactor.seconds() + ANSWER_TIME_S
        while tally.pings_answered < tally.pings_sent and self._reactor.seconds() < end_at_s:
            await deferLater(self._reactor, ANSWER_TIME_S / 20)

    async def close_all(self) -> None:
        """Say goodbye for all of them."""
        self._stop_ticking()
        tunnels, self._tunnels = list(self._tunnels), set()
        for first in range(0, len(tunnels), GOODBYES_AT_ONCE):
            some = tunnels[first : first + GOODBYES_AT_ONCE]
            await gatherResults([Deferred.fromCoroutine(each.disconnect()) for each in some])
        if tunnels:
            await deferLater(self._reactor, GOODBYE_TIME_S)

    def channel_changed(self, channel: ChannelName) -> None:
        """One of the clients says that its data goes over another channel."""
        self._tally.over_dtls += 1 if channel is ChannelName.DTLS else -1

    # --- logins ---------------------------------------------------------------------------------

    async def _log_in_in_turn(self, began_at_s: float) -> None:
        """One worker's part."""
        worker = self._new_worker()
        while self._next_number <= self._load.sessions:
            worker.user.number, self._next_number = self._next_number, self._next_number + 1
            await self._wait_for_turn()
            await self._open(worker.client)
            self._tally.opening_time_s = self._reactor.seconds() - began_at_s

    async def _wait_for_turn(self) -> None:
        now_s = self._reactor.seconds()
        turn_s = max(now_s, self._next_login_at_s)
        self._next_login_at_s = turn_s + 1 / self._load.logins_per_s
        if turn_s > now_s:
            await deferLater(self._reactor, turn_s - now_s)

    async def _open(self, client: VPNClient) -> None:
        began_at_s = self._reactor.seconds()
        tally = self._tally
        try:
            tunnel = await client.connect()
        except AnyvpnError as error:
            tally.login_failed(_reason(error))
            return
        tally.login_times_s.append(self._reactor.seconds() - began_at_s)
        tally.succeeded += 1
        tally.connected += 1
        if isinstance(tunnel.adapter, NoDevice):
            tunnel.adapter.on_echo = self._echoes_came
        self._tunnels.add(tunnel)
        self._in_turn.append(tunnel)
        ended = Deferred.fromCoroutine(tunnel.wait_closed())
        ended.addBoth(self._ended, tunnel)

    def _ended(self, outcome: str | Failure, tunnel: VPNTunnel) -> None:
        self._tally.connected -= 1
        if tunnel.status().channel is ChannelName.DTLS:
            self._tally.over_dtls -= 1
        if tunnel in self._tunnels:  # else it was us
            self._tunnels.remove(tunnel)
            self._tally.session_lost(_reason(outcome))

    # --- while they last ------------------------------------------------------------------------

    def _stop_ticking(self) -> None:
        if self._ticking.running:
            self._ticking.stop()

    def _tick(self) -> None:
        probed, self._probed = self._probed, []
        times_s = [each.status().round_trip_s for each in probed]
        self._tally.round_trips_s.extend(each for each in times_s if each)
        for _ in range(min(PROBES_PER_TICK, len(self._tunnels))):
            tunnel = self._next_in_turn()
            tunnel.probe()
            self._probed.append(tunnel)
        if self._load.ping is not None:
            self._pings_due += len(self._tunnels) * TICK_S / self._load.ping_every_s
            self._send_pings(self._load.ping)

    def _send_pings(self, destination: IPv4Address) -> None:
        count = int(self._pings_due) if self._tunnels else 0
        self._pings_due -= count
        for _ in range(count):
            tunnel = self._next_in_turn()
            address = tunnel.settings.lease.ipv4
            if address is not None and isinstance(tunnel.adapter, NoDevice):
                tunnel.adapter.send(echo_request(address.ip, destination))
                self._tally.pings_sent += 1

    def _next_in_turn(self) -> VPNTunnel:
        """One of those that are there, which there must be; each comes as often as the others."""
        while (tunnel := self._in_turn.popleft()) not in self._tunnels:
            pass
        self._in_turn.append(tunnel)
        return tunnel

    def _echoes_came(self, answers: int) -> None:
        self._tally.pings_answered += answers


def _reason(outcome: str | Failure | AnyvpnError) -> str:
    """In words that are the same for all sessions that fare alike."""
    if isinstance(outcome, Failure):
        return printable(outcome.getErrorMessage())
    return printable(str(outcome))
