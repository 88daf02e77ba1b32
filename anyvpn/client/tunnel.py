"""A tunnel: the adapter, the packets between it and the gateway, and getting lost links back.

Links come and go: with new keys, after a loss, at another address. Adapter and engine stay.

Source: protocol reference, sections 13.4, 14.1 and 14.2.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.client.adapter_changes import AdapterChanges
from anyvpn.client.datagrams import GatewayDatagrams
from anyvpn.client.link import EVERYTHING, TUNNEL_ID, Farewell, Link
from anyvpn.client.login import Login
from anyvpn.client.outcome import Outcome
from anyvpn.client.settings import ClientSettings
from anyvpn.client.tunnel_request import OpenedTunnel, adapter_settings, first_mtu
from anyvpn.client.tunnel_source import ClientReactor, TunnelSource, reopen
from anyvpn.client.tunnel_status import TunnelStatus
from anyvpn.errors import (
    AnyvpnError,
    ClientError,
    GatewayUnreachable,
    PeerError,
    TokenRejected,
    TunnelRefused,
    TunUnavailable,
)
from anyvpn.interfaces import IAdapter, IAdapterBackend, IPacketObserver
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.channels import ChannelName, PeerPath
from anyvpn.model.client_events import (
    AdapterChanged,
    ChannelChanged,
    ClientEvent,
    Disconnected,
    MessageShown,
    Phase,
    PhaseEntered,
    Retrying,
    TunnelReady,
)
from anyvpn.model.events import Counters
from anyvpn.model.reconnection import Tries
from anyvpn.model.tunnel_settings import LARGEST_TUNNEL_MTU_BYTES, TunnelSettings
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.packets.engines import engine_class

log = Logger()

# Ours
REKEY_AGAIN_AFTER_S = 60.0


@implementer(IPacketObserver)
class VPNTunnel:
    """Made by `VPNClient.connect`, which waits until it is up."""

    def __init__(
        self,
        reactor: ClientReactor,
        source: TunnelSource,
        login: Login,
        settings: ClientSettings,
        *,
        tell: Callable[[ClientEvent], None],
        random: Callable[[int], bytes],
    ) -> None:
        self.login = login
        self.adapter: IAdapter
        self._opened: OpenedTunnel | None = None
        self._reactor = reactor
        self._source = source
        self._client_settings = settings
        self._tell = tell
        self._random = random
        self._datagrams = GatewayDatagrams(reactor)
        self._engine: PythonPacketEngine
        self._link: Link
        self._link_is_up = False
        self._counters_before = Counters()
        self._connected_at_s = 0.0
        self._reconnects = 0
        self._tries = Tries(settings.reconnect_time_s)
        self._link_began_at_s = 0.0
        self._takes_keys = False
        self._goodbye = ""
        self._changes: AdapterChanges
        self._work: Deferred[None] | None = None
        self._ending = False
        self._outcome = Outcome()

    async def start(self, opened: OpenedTunnel, adapters: IAdapterBackend) -> None:
        """Bring the adapter up and move packets. Raises: TunUnavailable."""
        self._take(opened)
        settings = self._adapter_settings(first_mtu(opened))
        try:
            self.adapter = await adapters.open(settings)
        except BaseException:
            opened.stream.abort("closed here")
            raise
        self.adapter.on_lost = self._adapter_lost
        self._changes = AdapterChanges(
            self.adapter,
            settings,
            lambda: self._adapter_settings(self._link.mtu_bytes),
            tell=self._tell,
            failed=self._failed,
        )
        try:
            self._go(opened)
        except BaseException:
            opened.stream.abort("closed here")
            self._engine.stop()
            self._datagrams.close()
            await self.adapter.close()
            raise

    def _go(self, opened: OpenedTunnel) -> None:
        engine = engine_class(self._client_settings.engine)
        self._engine = engine(self._reactor, self.adapter, self._datagrams, follows_client=False)
        self._engine.start()
        self._attach()
        self._connected_at_s = self._reactor.seconds()
        ready = TunnelReady(
            self.settings, self.adapter.name, self._changes.applied.mtu_bytes, opened.tls
        )
        self._tell(ready)
        self._begin_link(opened)

    # --- what the user asks for -----------------------------------------------------------------

    @property
    def settings(self) -> TunnelSettings:
        """What the gateway granted last."""
        assert self._opened is not None, "not started"
        return self._opened.granted

    @property
    def is_ending(self) -> bool:
        """Whether it is over, or about to be."""
        return self._ending

    def status(self) -> TunnelStatus:
        """How it is doing."""
        link = self._link
        activity = self._engine.activity(TUNNEL_ID, link.channel)
        return TunnelStatus(
            is_connected=self._link_is_up,
            channel=link.channel,
            cipher=link.cipher,
            tls=link.tls,
            device=self.adapter.name,
            mtu_bytes=self._changes.applied.mtu_bytes,
            settings=self.settings,
            counters=self._counters_before.plus(self._engine.counters(TUNNEL_ID)),
            round_trip_s=0.0 if activity is None else activity.round_trip_s,
            connected_at_s=self._connected_at_s,
            reconnects=self._reconnects,
        )

    def probe(self) -> None:
        """Measure the round trip: the answer is seen in `status`."""
        if self._link_is_up:
            self._link.probe()

    def reconnect_now(self) -> None:
        """Give the link up and take another one, as when the network has changed."""
        self._tries.begin_anew()
        self._lose_link("asked to reconnect")

    async def wait_closed(self) -> str:
        """Wait for the end; gives the reason in words.

        Raises: ClientError, LoginAborted, TunUnavailable, PeerError: it was lost for good.
        """
        return await self._outcome.wait()

    async def disconnect(self) -> None:
        """Say goodbye, log out, undo everything; disconnecting twice does no harm."""
        await self._end("disconnected by the user", goodbye=Farewell.OURS)

    async def detach(self) -> None:
        """Undo everything here, and leave the session at the gateway for somebody else."""
        await self._end("detached; the session goes on at the gateway")

    # --- the link's owner, and the packet engine's observer ----------------------------------

    def link_lost(self, link: Link, reason: str) -> None:
        """Try to get it back."""
        if link is self._link and not self._ending:
            self._lose_link(reason)

    def gateway_disconnected(self, link: Link, reason: str) -> None:
        """The gateway has ended the session, unless it has just moved to a new link."""
        if link is not self._link or self._ending:
            return
        if self._takes_keys:  # a CONNECT is under way, and takes the session over
            self._link_is_up, self._goodbye = False, reason
            return
        self._start_end(reason, goodbye=Farewell.ANSWER)

    def channel_changed(self, link: Link, reason: str) -> None:
        """Tell the user."""
        if link is self._link:
            self._tell(ChannelChanged(link.channel, link.cipher, reason))

    def mtu_changed(self, link: Link, reason: str) -> None:
        """Set the adapter up anew when the MTU is another; without DTLS, tell it in any case."""
        if link is not self._link or self._ending:
            return
        if link.mtu_bytes != self._changes.applied.mtu_bytes:
            self._changes.make(reason)
        elif link.suite is None:
            self._tell(AdapterChanged(link.mtu_bytes, reason))

    def new_keys_due(self, link: Link) -> None:
        """Make the next link while this one works on."""
        if link is self._link and self._work is None and not self._ending:
            self._tell(PhaseEntered(Phase.CSTP, "new keys"))
            self._start(self._take_new_keys(link))

    def control_received(self, name: ChannelName, kind: int, payload: bytes) -> None:
        """A packet that is not data."""
        self._link.control_received(name, kind, payload)

    def peer_moved(self, path: PeerPath) -> None:
        """The gateway answers from another address, with keys that only it has: so be it."""

    # --- links ----------------------------------------------------------------------------------

    def _take(self, opened: OpenedTunnel) -> None:
        """What was granted counts from now on."""
        banner = opened.granted.banner
        if banner and (self._opened is None or banner != self.settings.banner):
            self._tell(MessageShown(banner))
        self._opened = opened

    def _begin_link(self, opened: OpenedTunnel) -> Link:
        link = self._link = Link(
            self._reactor,
            self._engine,
            self._datagrams,
            self,
            opened,
            dpd_s=self._client_settings.dpd_s,
            random=self._random,
        )
        self._link_is_up = True
        self._link_began_at_s = self._reactor.seconds()
        if link.is_trying_dtls:
            self._tell(PhaseEntered(Phase.DTLS, "data goes over TLS meanwhile"))
        try:
            link.begin()
        except BaseException:
            link.end()
            raise
        return link

    def _replace_link(self, opened: OpenedTunnel) -> None:
        """Go on over another link; whatever was granted anew is applied."""
        lease = self.settings.lease
        self._link.end()
        self._take(opened)
        if self.settings.lease != lease:
            self._counters_before = self._counters_before.plus(self._engine.counters(TUNNEL_ID))
            self._attach()
        link = self._begin_link(opened)
        if self._adapter_settings(link.mtu_bytes) != self._changes.applied:
            self._changes.make("the gateway grants other settings than before")

    def _attach(self) -> None:
        self._engine.attach(
            TUNNEL_ID, self.settings.lease, EVERYTHING, LARGEST_TUNNEL_MTU_BYTES, self
        )

    def _lose_link(self, reason: str) -> None:
        self._link_is_up = False
        self._link.end()
        for name in ChannelName:
            self._engine.replace_channel(TUNNEL_ID, name, None)
        if self._work is None and not self._ending:
            self._start(self._get_back(reason))

    async def _take_new_keys(self, link: Link) -> None:
        """A new link beside the old one, which stays if there is none to be had."""
        self._takes_keys, self._goodbye = True, ""
        try:
            opened = await self._source.open_link(self.login, self.settings.lease.addresses)
        except (ClientError, PeerError) as error:
            self._takes_keys = False
            log.warn("No new keys: {why}", why=error)
            if self._link_is_up:
                link.new_keys_in(REKEY_AGAIN_AFTER_S)
            elif self._goodbye and isinstance(error, TokenRejected):
                self._start_end(self._goodbye)  # that was no takeover
            else:
                await self._get_back(str(error))
            return
        self._takes_keys = False
        self._replace_link(opened)
        self._tell(PhaseEntered(Phase.CONNECTED, "with new keys"))

    async def _get_back(self, reason: str) -> None:
        """Try until there is a link again, or the time for it is up."""
        self._tries.link_lost(self._reactor.seconds() - self._link_began_at_s)
        why: AnyvpnError | None = None
        while True:
            next_try = self._tries.next_try(self._reactor.seconds())
            if next_try is None:
                lost_s = self._tries.lost_for_s(self._reactor.seconds())
                raise GatewayUnreachable(
                    f"the tunnel could not be got back within {lost_s:.0f} s: {why or reason}"
                ) from why
            attempt, delay_s = next_try
            self._tell(Retrying(str(why or reason), attempt, delay_s))
            if delay_s:
                await deferLater(self._reactor, delay_s)
            try:
                opened = await self._reopen()
                break
            except (GatewayUnreachable, TunnelRefused, PeerError) as error:
                why = error
        self._reconnects += 1
        self._replace_link(opened)
        self._tell(PhaseEntered(Phase.CONNECTED, "again"))

    async def _reopen(self) -> OpenedTunnel:
        """One try."""
        await self.adapter.prepare_reconnect()
        self._tell(PhaseEntered(Phase.RECONNECTING))
        self.login, opened = await reopen(self._source, self.login, self.settings)
        return opened

    def _adapter_settings(self, mtu_bytes: int) -> AdapterSettings:
        assert self._opened is not None, "not started"
        return adapter_settings(self._opened, mtu_bytes, self.login.url.host)

    # --- work in the background, and the end ----------------------------------------------------

    def _start(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        task = self._work = Deferred.fromCoroutine(work)
        task.addErrback(self._failed).addCallback(self._work_done, task)

    def _work_done(self, _: None, task: Deferred[None]) -> None:
        if self._work is task:
            self._work = None
        if not self._ending and not self._link_is_up:
            self._lose_link("the new link was lost at once")

    def _adapter_lost(self, reason: str) -> None:
        self._failed(Failure(TunUnavailable(reason)))  # type: ignore[no-untyped-call]  # Twisted's

    def _failed(self, failure: Failure) -> None:
        """It cannot go on: the user's tunnel ends with this error."""
        if isinstance(failure.value, CancelledError):
            return
        if not isinstance(failure.value, AnyvpnError):
            log.failure("The tunnel breaks down", failure)
        self._start_end(failure)

    def _start_end(self, outcome: str | Failure, goodbye: Farewell | None = None) -> None:
        ending = Deferred.fromCoroutine(self._end(outcome, goodbye))
        ending.addErrback(lambda failure: log.failure("The tunnel does not end well", failure))

    async def _end(self, outcome: str | Failure, goodbye: Farewell | None = None) -> None:
        if self._ending:
            with suppress(AnyvpnError):
                await self.wait_closed()
            return
        self._ending = True
        if goodbye and self._link_is_up:
            self._link.say_goodbye(goodbye)
        self._link_is_up = False
        self._changes.stop()
        if self._work is not None:
            self._work.cancel()
        self._counters_before = self._counters_before.plus(self._engine.counters(TUNNEL_ID))
        self._link.end()
        self._engine.stop()
        self._datagrams.close()
        try:
            await self.adapter.close()
        finally:
            try:
                if goodbye is Farewell.OURS:
                    await self._source.log_out(self.login)
            finally:
                reason = outcome if isinstance(outcome, str) else outcome.getErrorMessage()
                self._tell(Disconnected(reason))
                self._outcome.tell(outcome)
