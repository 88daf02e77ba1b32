"""One granted CONNECT while it lasts: its CSTP stream, its DTLS channel, its probes and its keys.

The packet engine moves the packets. Here is what it does not know; what becomes of the tunnel
when a link is lost is its owner's.

Source: protocol reference, sections 9.3 and 13.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from anyvpn.client.datagrams import GatewayDatagrams
from anyvpn.client.dtls_channel import PSK_BYTES, PSK_LABEL, DTLSNegotiation, new_handshake
from anyvpn.client.tunnel_request import OpenedTunnel, dtls_mtu
from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.suites import PSK_NAME
from anyvpn.interfaces import IPacketEngine
from anyvpn.model.channels import ChannelName, DTLSChannel, Suite
from anyvpn.model.liveness import (
    CLIENT_DEAD_AFTER_DPD_INTERVALS,
    LivenessAction,
    LivenessLimits,
    look_at_channel,
)
from anyvpn.model.tunnel_settings import TunnelSettings
from anyvpn.wire.cstp import GOODBYE_BY_USER, Goodbye, PacketKind, read_goodbye, write_goodbye

log = Logger()


# From the protocol (protocol reference, section 9.3)
class Farewell(Enum):
    """What a client says with its goodbye."""

    OURS = "Aborted by caller"
    ANSWER = "Server request"


# Ours
EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
SHORTEST_LOOK_S = 0.05
SHORTEST_REKEY_S = 5.0
"""New keys take a connection and a handshake, which no gateway can ask for without end."""
NEVER_S = float("inf")
TUNNEL_ID = 1
"""A client's engine has one tunnel."""


class LinkOwner(Protocol):
    """The tunnel that the link carries."""

    def link_lost(self, link: Link, reason: str) -> None:
        """The CSTP channel is gone without a goodbye."""

    def gateway_disconnected(self, link: Link, reason: str) -> None:
        """The gateway ended the session."""

    def channel_changed(self, link: Link, reason: str) -> None:
        """Data goes over another channel from now on."""

    def mtu_changed(self, link: Link, reason: str) -> None:
        """The adapter may need another MTU; `mtu_bytes` says which."""

    def new_keys_due(self, link: Link) -> None:
        """The keys are as old as the gateway wants them to get."""


class Link:
    """`dpd_s` overrides what the gateway says, unless it is 0."""

    def __init__(
        self,
        reactor: IReactorTime,
        engine: IPacketEngine,
        datagrams: GatewayDatagrams,
        owner: LinkOwner,
        opened: OpenedTunnel,
        *,
        dpd_s: float,
        random: Callable[[int], bytes],
    ) -> None:
        granted = opened.granted
        self.granted = granted
        self.peer_address = opened.peer_address
        self.suite: Suite | None = None
        """That of the DTLS channel, while it carries the data."""
        self._reactor = reactor
        self._engine = engine
        self._owner = owner
        self._stream = opened.stream
        self._tls = opened.tls
        self._limits = {
            ChannelName.CSTP: _limits(dpd_s or granted.dpd_s, granted.keepalive_s),
        }
        self._dtls: DTLSNegotiation | None = None
        if granted.dtls is not None and opened.peer_address:
            dtls = granted.dtls
            self._limits[ChannelName.DTLS] = _limits(dpd_s or dtls.dpd_s, dtls.keepalive_s)
            psk = b""
            if dtls.suite == PSK_NAME:
                psk = self._stream.export_keying_material(PSK_LABEL, PSK_BYTES)
            secret = opened.master_secret

            def handshake() -> Handshake:
                return new_handshake(dtls, psk, secret, random)

            self._dtls = DTLSNegotiation(
                reactor,
                datagrams,
                self,
                handshake,
                host=opened.peer_address,
                port=dtls.port,
                encoding=dtls.encoding,
            )
        self._rekey_at_s = NEVER_S
        self._look: IDelayedCall | None = None
        self._told_unknown = False
        self._over = False

    # --- what can be known about it -------------------------------------------------------------

    @property
    def channel(self) -> ChannelName:
        """The one that carries our data."""
        return ChannelName.CSTP if self.suite is None else ChannelName.DTLS

    @property
    def cipher(self) -> str:
        """The cipher suite of that channel."""
        return self.tls if self.suite is None else f"DTLS {self.suite.name}"

    @property
    def tls(self) -> str:
        """Version and cipher suite of the CSTP channel."""
        return self._tls

    @property
    def mtu_bytes(self) -> int:
        """The adapter's MTU: the DTLS channel's as long as there is hope for it."""
        dtls = self.granted.dtls
        if dtls is not None and self._dtls is not None and self._dtls.is_hopeful:
            return dtls_mtu(self.granted, dtls, self.peer_address)
        return self.granted.mtu_bytes

    @property
    def is_trying_dtls(self) -> bool:
        """Whether there is to be a DTLS channel."""
        return self._dtls is not None

    # --- its life -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Move packets; the first hello goes out."""
        now_s = self._reactor.seconds()
        self._stream.reader = self
        self._stream.encoding = self.granted.encoding
        self._engine.replace_channel(TUNNEL_ID, ChannelName.DTLS, None)
        self._engine.replace_channel(TUNNEL_ID, ChannelName.CSTP, self._stream)
        self.new_keys_in(_rekey_s(self.granted))
        self._look_later(now_s)
        if self._dtls is not None:
            self._dtls.start()
        self._stream.resume_reading()

    def new_keys_in(self, delay_s: float) -> None:
        """Ask the owner for new keys then."""
        self._rekey_at_s = self._reactor.seconds() + delay_s
        if not self._over and delay_s < NEVER_S:
            self._look_later(self._rekey_at_s)

    def probe(self) -> None:
        """Ask the gateway for a sign of life now, on the channel in use."""
        self._engine.send_control(TUNNEL_ID, self.channel, PacketKind.DPD_REQUEST, b"")

    def say_goodbye(self, farewell: Farewell) -> None:
        """End the session at the gateway: nobody comes back."""
        goodbye = write_goodbye(Goodbye(GOODBYE_BY_USER, farewell.value))
        self._engine.send_control(TUNNEL_ID, ChannelName.CSTP, PacketKind.DISCONNECT, goodbye)

    def end(self) -> None:
        """Let go; ending twice does no harm. The engine's channels are the owner's to replace."""
        if self._over:
            return
        self._over = True
        if self._look is not None and self._look.active():
            self._look.cancel()
        if self._dtls is not None:
            self._dtls.stop()
        self._stream.close()

    # --- the stream's reader ----------------------------------------------------------------

    def secured(self) -> None:
        """Nothing to do: it was secured before there was a tunnel."""

    def received(self, data: bytes) -> None:
        """Nothing to do: the packet engine reads the stream."""

    def closed(self, reason: str) -> None:
        """The CSTP channel is gone."""
        if not self._over:
            self._owner.link_lost(self, reason)

    # --- packets that are not data, from the engine's observer ----------------------------------

    def control_received(self, name: ChannelName, kind: int, payload: bytes) -> None:
        """A packet that is not data."""
        if self._over:
            return
        if kind in (PacketKind.DISCONNECT, PacketKind.TERMINATE):
            if name is ChannelName.DTLS:
                self._lose_dtls("the gateway closes it")  # about the UDP channel alone
                return
            text = read_goodbye(payload).text if kind == PacketKind.DISCONNECT else ""
            self._owner.gateway_disconnected(
                self, f"the gateway ended the session{f': {text}' if text else ''}"
            )
        elif not self._told_unknown:
            self._told_unknown = True
            log.info(
                "The gateway sends packets of unknown kinds, {kind} first, on {channel}",
                kind=kind,
                channel=name.value,
            )

    # --- the DTLS channel -----------------------------------------------------------------------

    def dtls_up(self, channel: DTLSChannel, suite: Suite) -> None:
        """Data goes over DTLS from now on."""
        if self._over:
            return
        self.suite = suite
        self._engine.replace_channel(TUNNEL_ID, ChannelName.DTLS, channel)
        self._owner.channel_changed(self, "the DTLS handshake is complete")
        self._owner.mtu_changed(self, "DTLS is up")
        self._look_later(self._reactor.seconds())

    def dtls_down(self, reason: str) -> None:
        """Data goes over CSTP while another handshake is tried."""
        if self._over:
            return
        self.suite = None
        self._engine.replace_channel(TUNNEL_ID, ChannelName.DTLS, None)
        self._owner.channel_changed(self, reason)

    def dtls_given_up(self, reason: str) -> None:
        """The adapter gets the MTU of CSTP."""
        if not self._over:
            self._owner.mtu_changed(self, f"there is no DTLS: {reason}")

    def _lose_dtls(self, reason: str) -> None:
        if self._dtls is not None:
            self._dtls.lost(reason)

    # --- time -------------------------------------------------------------------------------

    def _look_later(self, at_s: float) -> None:
        """Look at the channels at that moment, if no look is due before it."""
        if self._look is not None and self._look.active():
            if self._look.getTime() <= at_s:
                return
            self._look.cancel()
        delay_s = max(SHORTEST_LOOK_S, at_s - self._reactor.seconds())
        self._look = self._reactor.callLater(delay_s, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        now_s = self._reactor.seconds()
        next_s = min(self._look_at(name, now_s) for name in self._limits)
        if now_s >= self._rekey_at_s and not self._over:
            self._rekey_at_s = NEVER_S
            self._owner.new_keys_due(self)
        next_s = min(next_s, self._rekey_at_s)
        if not self._over and next_s < NEVER_S:
            self._look_later(next_s)

    def _look_at(self, name: ChannelName, now_s: float) -> float:
        """Probe a silent channel, give a dead one up; gives the moment of the next look."""
        if self._over:
            return NEVER_S
        activity = self._engine.activity(TUNNEL_ID, name)
        if activity is None:
            if name is ChannelName.DTLS and self._dtls is not None and self.suite is not None:
                self._lose_dtls("the channel broke")
            return NEVER_S
        action, next_s = look_at_channel(self._limits[name], activity, now_s)
        if action is LivenessAction.PROBE:
            self._engine.send_control(TUNNEL_ID, name, PacketKind.DPD_REQUEST, b"")
        elif action is LivenessAction.KEEP_ALIVE:
            self._engine.send_control(TUNNEL_ID, name, PacketKind.KEEPALIVE, b"")
        elif action is LivenessAction.GIVE_UP:
            silent = f"no sign of life for {now_s - activity.received_at_s:.0f} s"
            if name is ChannelName.DTLS:
                self._lose_dtls(silent)
            else:
                self._owner.link_lost(self, silent)
            return NEVER_S
        return next_s


def _limits(dpd_s: float, keepalive_s: float) -> LivenessLimits:
    return LivenessLimits(dpd_s, keepalive_s, CLIENT_DEAD_AFTER_DPD_INTERVALS)


def _rekey_s(granted: TunnelSettings) -> float:
    """Both channels get new keys with a new tunnel, so the sooner of their times counts.

    Renegotiation, which "ssl" means, is no part of TLS 1.3 (protocol reference, section 1.4).
    """
    times_s = [granted.rekey_s] if granted.rekey_method != "none" else []
    if granted.dtls is not None and granted.dtls.rekey_method == "ssl":
        times_s.append(granted.dtls.rekey_s)
    return min((max(each, SHORTEST_REKEY_S) for each in times_s if each), default=NEVER_S)
