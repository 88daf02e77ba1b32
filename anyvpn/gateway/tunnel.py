"""One tunnel: what a granted CONNECT becomes, from its first frame to its last.

The packet engine moves the packets. Here is what it does not know: probes and time-outs,
goodbyes, and which keys the DTLS channel has.

Source: protocol reference, sections 9.3, 13 and 14.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.psk import ServerPSK
from anyvpn.dtls.resumption import ServerResumption
from anyvpn.dtls.suites import Choice, Mode
from anyvpn.gateway.datagram_door import DatagramDoor
from anyvpn.gateway.session import Session
from anyvpn.gateway.sessions import SessionRegistry
from anyvpn.gateway.timers import Timer, Timers
from anyvpn.interfaces import IPacketEngine, IPacketObserver
from anyvpn.model.channels import ChannelName, DTLSChannel, PeerPath, RecordKeys, Suite
from anyvpn.model.events import Counters, Event, EventKind
from anyvpn.model.liveness import LivenessAction, LivenessLimits, look_at_channel
from anyvpn.model.session import EndReason, Granted
from anyvpn.model.tunnel_settings import TunnelSettings
from anyvpn.packets.stream import TLSStream
from anyvpn.wire.cstp import Goodbye, PacketKind, read_goodbye

log = Logger()

# Ours
SHORTEST_LOOK_S = 0.05
NEVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class DTLSAgreement:
    """What CONNECT has settled about the DTLS channel.

    `identifier` is what the client's hello names; `secret` is the PSK or the master secret.
    """

    choice: Choice
    identifier: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    encoding: str = ""


@dataclass(frozen=True, slots=True)
class TunnelParts:
    """What every tunnel works with."""

    timers: Timers
    registry: SessionRegistry
    engine: IPacketEngine
    door: DatagramDoor
    tell: Callable[[Event], None]
    random: Callable[[int], bytes]


@implementer(IPacketObserver)
class Tunnel:
    """The CSTP channel of a session, and its DTLS channel when it has one."""

    __slots__ = (
        "_data_at_s",
        "_dtls",
        "_dtls_suite",
        "_goodbye",
        "_limits",
        "_look",
        "_over",
        "_parts",
        "_peer",
        "_session",
        "_stream",
        "_told_unknown",
    )

    def __init__(
        self,
        parts: TunnelParts,
        session: Session,
        stream: TLSStream,
        dtls: DTLSAgreement | None,
        *,
        peer: str,
        dpd_s: float,
    ) -> None:
        self._parts = parts
        self._session = session
        self._stream = stream
        self._dtls = dtls
        self._dtls_suite = ""
        self._peer = peer
        self._limits = LivenessLimits(dpd_s=dpd_s)
        self._data_at_s = 0.0
        self._look: Timer | None = None
        self._goodbye: Goodbye | None = None
        self._told_unknown = False
        self._over = False

    def begin(self, settings: TunnelSettings) -> None:
        """Take the stream over and move packets; the tunnel before this one lets go."""
        parts, session = self._parts, self._session
        is_new = isinstance(session.record.state, Granted)
        self._stream.reader = self
        self._stream.encoding = settings.encoding
        parts.registry.connected(session, self, self._peer, settings.hostname)
        # A client that comes back, or takes new keys, is as idle as it was
        self._data_at_s = parts.timers.seconds() - session.idle_s
        tunnel_id = session.tunnel_id
        policy = session.record.policy
        parts.engine.attach(
            *(tunnel_id, settings.lease, policy.client_networks, settings.mtu_bytes, self),
            filters=policy.filters,
        )
        if self._dtls is not None:
            parts.door.expect(self._dtls.identifier, self, self._peer)
        self._tell(
            EventKind.TUNNEL_OPENED if is_new else EventKind.TUNNEL_RESUMED,
            self._description(settings),
        )
        parts.engine.replace_channel(tunnel_id, ChannelName.CSTP, self._stream)
        if not self._over:
            self._look_now()

    # --- the session's side (SessionTunnel) -------------------------------------------------

    def replaced(self) -> None:
        """Another CONNECT has taken the session over; what this client still says is not heard."""
        self._send_disconnect()
        self._let_go("another connection took the session over")
        self._stream.close()

    def disconnect(self) -> None:
        """The session is over for good."""
        if self._over:
            return
        if self._goodbye is None:
            self._send_disconnect()
            self._let_go("the session ended")
        else:
            self._let_go(_last_words(self._goodbye))
        self._stream.close()

    def suspend(self) -> None:
        """The gateway stops: just close, so that the client tries to come back."""
        self._let_go("the gateway stops")
        self._stream.close()

    def counters(self) -> Counters:
        """What it has moved so far."""
        return self._parts.engine.counters(self._session.tunnel_id)

    def data_channel(self) -> tuple[ChannelName, str]:
        """The channel that data takes, and its cipher suite."""
        if self._parts.engine.activity(self._session.tunnel_id, ChannelName.DTLS) is not None:
            return ChannelName.DTLS, self._dtls_suite
        return ChannelName.CSTP, self._tls()

    # --- the stream's reader ----------------------------------------------------------------

    def secured(self) -> None:
        """Nothing to do: it was secured before there was a tunnel."""

    def received(self, data: bytes) -> None:
        """Nothing to do: the packet engine reads the stream."""

    def closed(self, reason: str) -> None:
        """The CSTP channel is gone."""
        self._lose(reason)

    # --- the packet engine's observer -------------------------------------------------------

    def control_received(self, name: ChannelName, kind: int, payload: bytes) -> None:
        """A packet that is not data."""
        if self._over:
            return
        if name is ChannelName.DTLS and kind in (PacketKind.DISCONNECT, PacketKind.TERMINATE):
            # It is about the UDP channel alone (protocol reference, section 11)
            self._drop_dtls("the client disconnects")
        elif kind == PacketKind.DISCONNECT:
            goodbye = read_goodbye(payload)
            if goodbye.ends_session:
                self._goodbye = goodbye
                self._parts.registry.end(self._session, EndReason.GOODBYE)
            else:
                self._lose(_last_words(goodbye))
        elif kind == PacketKind.TERMINATE:
            self._lose("the client terminates")
        elif not self._told_unknown:
            self._told_unknown = True
            log.info(
                "{user} sends packets of unknown kinds, {kind} first, on {channel}",
                user=self._session.record.identity.user,
                kind=kind,
                channel=name.value,
            )

    def peer_moved(self, path: PeerPath) -> None:
        """The DTLS channel's peer has another address now."""
        if self._dtls is not None and not self._over:
            self._parts.door.peer_moved(self._dtls.identifier, path)
            self._tell(EventKind.PEER_MOVED, f"now at {_place(path)}")

    # --- the datagram door's owner ----------------------------------------------------------

    def new_handshake(self) -> Handshake:
        """The gateway's side of one handshake."""
        dtls = self._dtls
        assert dtls is not None, "nothing was agreed on"
        if dtls.choice.mode is Mode.PSK:
            return ServerPSK(psk=dtls.secret, random=self._parts.random)
        assert dtls.choice.suite is not None, "a resumption has its suite from CONNECT"
        return ServerResumption(
            version=dtls.choice.version,
            suite=dtls.choice.suite,
            session_id=dtls.identifier,
            master_secret=dtls.secret,
            random=self._parts.random,
        )

    def dtls_established(
        self, keys: RecordKeys, suite: Suite, path: PeerPath, early_records: tuple[bytes, ...]
    ) -> None:
        """Data goes over DTLS from now on."""
        if self._over or self._dtls is None:
            return
        self._dtls_suite = suite.name
        channel = DTLSChannel(keys, path, self._dtls.encoding, early_records)
        self._tell(EventKind.DTLS_UP, f"{suite.name} with {_place(path)}")
        self._parts.engine.replace_channel(self._session.tunnel_id, ChannelName.DTLS, channel)
        self._look_later(self._parts.timers.seconds())

    def dtls_closed(self, reason: str) -> None:
        """Back to CSTP."""
        if not self._over:
            self._drop_dtls(reason)

    def dtls_failed(self, reason: str) -> None:
        """A handshake came to nothing; the client will try again."""
        log.info(
            "DTLS handshake of {user} (session {session}) failed: {reason}",
            user=self._session.record.identity.user,
            session=self._session.identifier,
            reason=reason,
        )

    # --- time -------------------------------------------------------------------------------

    def _look_later(self, at_s: float) -> None:
        """Look at the channels and the time-outs at that moment, if no look is due before it."""
        if self._look is not None:
            if self._look.at_s <= at_s:
                return
            self._look.cancel()
        timers = self._parts.timers
        self._look = timers.call_at(max(timers.seconds() + SHORTEST_LOOK_S, at_s), self._look_now)

    def _look_now(self) -> None:
        self._look = None
        now_s = self._parts.timers.seconds()
        next_s = min(self._look_at(name, now_s) for name in ChannelName)
        next_s = min(next_s, self._look_at_timeouts(now_s))
        if not self._over and next_s < NEVER_S:
            self._look_later(next_s)

    def _look_at(self, name: ChannelName, now_s: float) -> float:
        """Probe a silent channel, give a dead one up; gives the moment of the next look."""
        engine, tunnel_id = self._parts.engine, self._session.tunnel_id
        activity = engine.activity(tunnel_id, name)
        if activity is None or self._over:
            return NEVER_S
        action, next_s = look_at_channel(self._limits, activity, now_s)
        if action is LivenessAction.PROBE:
            engine.send_control(tunnel_id, name, PacketKind.DPD_REQUEST, b"")
        elif action is LivenessAction.GIVE_UP:
            silent = f"no sign of life for {now_s - activity.received_at_s:.0f} s"
            if name is ChannelName.DTLS:
                self._drop_dtls(silent)
            else:
                self._lose(silent)
            return NEVER_S
        return next_s

    def _look_at_timeouts(self, now_s: float) -> float:
        """End the session when its time is over; gives the moment of the next look."""
        if self._over:
            return NEVER_S
        ends_at_s = self._session.times_out_at_s()
        if now_s >= ends_at_s:
            self._parts.registry.end(self._session, EndReason.SESSION_TIMEOUT)
            return NEVER_S
        idle_timeout_s = self._session.record.policy.idle_timeout_s
        if not idle_timeout_s:
            return ends_at_s
        idle_at_s = self._last_data_at_s() + idle_timeout_s
        if now_s >= idle_at_s:
            self._parts.registry.end(self._session, EndReason.IDLE)
            return NEVER_S
        return min(ends_at_s, idle_at_s)

    def _last_data_at_s(self) -> float:
        return max(self._data_at_s, self.counters().data_at_s)

    # --- the end ----------------------------------------------------------------------------

    def _drop_dtls(self, reason: str) -> None:
        self._parts.engine.replace_channel(self._session.tunnel_id, ChannelName.DTLS, None)
        self._tell(EventKind.DTLS_DOWN, reason)

    def _send_disconnect(self) -> None:
        if not self._over:
            self._parts.engine.send_control(
                self._session.tunnel_id, ChannelName.CSTP, PacketKind.DISCONNECT, b""
            )

    def _lose(self, reason: str) -> None:
        """The tunnel is gone without a goodbye; its client may come back."""
        if self._over:
            return
        self._let_go(reason)
        self._parts.registry.tunnel_lost(self._session, self)
        self._stream.close()

    def _let_go(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        if self._look is not None:
            self._look.cancel()
        if self._dtls is not None:
            self._parts.door.forget(self._dtls.identifier)
        tunnel_id = self._session.tunnel_id
        counters = self.counters()
        self._session.idle_s = self._parts.timers.seconds() - self._last_data_at_s()
        self._parts.engine.detach(tunnel_id)
        self._session.counters = self._session.counters.plus(counters)
        self._tell(EventKind.TUNNEL_CLOSED, reason, counters)

    def _tell(self, kind: EventKind, detail: str, counters: Counters | None = None) -> None:
        record = self._session.record
        self._parts.tell(
            Event(
                kind,
                self._parts.timers.seconds(),
                user=record.identity.user,
                peer=self._peer,
                session_id=record.session_id,
                profile=record.profile,
                detail=detail,
                counters=counters,
            )
        )

    def _description(self, settings: TunnelSettings) -> str:
        networks = self._session.record.policy.client_networks
        addresses = " ".join(map(str, (*settings.lease.addresses, *networks)))
        dtls = "off" if settings.dtls is None else settings.dtls.suite
        return f"{addresses} MTU {settings.mtu_bytes} {self._tls()} DTLS {dtls}"

    def _tls(self) -> str:
        return f"{self._stream.protocol_version()} {self._stream.cipher_name()}"


def _place(path: PeerPath) -> str:
    host, port = path.host, path.address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _last_words(goodbye: Goodbye) -> str:
    reason = "" if goodbye.reason is None else f" with reason {goodbye.reason:#04x}"
    return f"the client disconnected{reason}: {goodbye.text or 'no text'}"
