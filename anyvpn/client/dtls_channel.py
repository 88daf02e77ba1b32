"""The DTLS channel of one tunnel (phase 6): handshakes, their times, and what becomes of them.

Source: protocol reference, sections 12 and 13.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from anyvpn.client.datagrams import GatewayDatagrams
from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.psk import ClientPSK
from anyvpn.dtls.resumption import ClientResumption
from anyvpn.dtls.suites import OFFERS, PSK_NAME
from anyvpn.errors import GatewayUnreachable, HandshakeFailed
from anyvpn.model.channels import DTLSChannel, PeerPath, Suite
from anyvpn.model.dtls_life import (
    Completed,
    DTLSEvent,
    DTLSState,
    Failed,
    GivenUp,
    Handshaking,
    Lost,
    TimePassed,
    Up,
    is_hopeful,
    next_state,
)
from anyvpn.model.tunnel_settings import DTLSGrant

log = Logger()

# From the protocol (protocol reference, section 12.1)
PSK_LABEL = b"EXPORTER-openconnect-psk"
PSK_BYTES = 32


class DTLSOwner(Protocol):
    """Who has the tunnel that the channel belongs to."""

    def dtls_up(self, channel: DTLSChannel, suite: Suite) -> None:
        """A handshake is complete: its keys count from now on."""

    def dtls_down(self, reason: str) -> None:
        """The channel that was up is gone."""

    def dtls_given_up(self, reason: str) -> None:
        """There is no DTLS for now; quiet tries go on."""


def new_handshake(
    grant: DTLSGrant, psk: bytes, master_secret: bytes, random: Callable[[int], bytes]
) -> Handshake:
    """The client's side of one handshake of the kind that CONNECT has settled."""
    if grant.suite == PSK_NAME:
        return ClientPSK(psk=psk, session_id=grant.app_id, random=random)
    version, suite = OFFERS[grant.header][grant.suite]
    return ClientResumption(
        version=version,
        suite=suite,
        session_id=grant.session_id,
        master_secret=master_secret,
        random=random,
    )


class DTLSNegotiation:
    """Begins at once, and goes on until it is stopped.

    `handshake` makes a new one; `host` and `port` are the gateway's.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        datagrams: GatewayDatagrams,
        owner: DTLSOwner,
        handshake: Callable[[], Handshake],
        *,
        host: str,
        port: int,
        encoding: str,
    ) -> None:
        self.state: DTLSState = Handshaking()
        self._reactor = reactor
        self._datagrams = datagrams
        self._owner = owner
        self._new_handshake = handshake
        self._host, self._port = host, port
        self._encoding = encoding
        self._handshake: Handshake | None = None
        self._path: PeerPath | None = None
        self._is_complete = False
        self._timer: IDelayedCall | None = None

    @property
    def is_hopeful(self) -> bool:
        """Whether the adapter should have the DTLS channel's MTU."""
        return is_hopeful(self.state)

    def start(self) -> None:
        """Send the first hello."""
        self._datagrams.on_handshake = self._datagram_received
        self._begin()

    def stop(self) -> None:
        """Forget the handshake; the socket is closed."""
        self._stop_timer()
        self._handshake = None
        self._datagrams.close()

    def lost(self, reason: str) -> None:
        """The channel is dead, or its keys are too old: shake hands anew."""
        if isinstance(self.state, Up):
            self._enter(Lost(), reason)

    # --- states -----------------------------------------------------------------------------

    def _enter(self, event: DTLSEvent, reason: str) -> None:
        before = self.state
        self.state = next_state(before, event, self._reactor.seconds())
        if self.state == before:
            return
        match self.state:
            case Handshaking(quiet):
                if not quiet:
                    self._owner.dtls_down(reason)
                self._begin()
            case GivenUp(retry_at_s):
                self._handshake = None
                self._datagrams.close()
                self._set_timer(retry_at_s)
                if isinstance(before, Up):
                    self._owner.dtls_down(reason)
                if not (isinstance(before, Handshaking) and before.quiet):
                    self._owner.dtls_given_up(reason)
                else:
                    log.debug("Still no DTLS: {why}", why=reason)
            case Up():
                pass

    def _begin(self) -> None:
        now_s = self._reactor.seconds()
        self._is_complete = False
        handshake = self._handshake = self._new_handshake()
        try:
            self._path = self._datagrams.renew(self._host, self._port)
        except GatewayUnreachable as error:
            self._enter(Failed(), str(error))
            return
        self._send(handshake.start(now_s))
        self._wait()

    def _datagram_received(self, path: PeerPath, datagram: bytes) -> None:
        handshake = self._handshake
        if handshake is None or self._path is None or path.address[:2] != self._path.address[:2]:
            return
        try:
            answers = handshake.receive(datagram, self._reactor.seconds())
        except HandshakeFailed as error:
            self._failed(str(error))
            return
        self._send(answers)
        if self._is_complete:
            handshake.early_records.clear()  # the channel has its own keys by now
        elif handshake.keys is not None and handshake.suite is not None:
            self._is_complete = True
            early = tuple(handshake.early_records)
            handshake.early_records.clear()
            self._wait()
            self._enter(Completed(), "")
            channel = DTLSChannel(handshake.keys, self._path, self._encoding, early)
            self._owner.dtls_up(channel, handshake.suite)
            return
        self._wait()

    def _failed(self, reason: str) -> None:
        event = Lost() if self._is_complete else Failed()
        self._enter(event, reason)

    # --- time -------------------------------------------------------------------------------

    def _wait(self) -> None:
        at_s = None if self._handshake is None else self._handshake.next_timeout_s()
        if at_s is None:
            self._stop_timer()
        else:
            self._set_timer(at_s)

    def _set_timer(self, at_s: float) -> None:
        self._stop_timer()
        delay_s = max(0.0, at_s - self._reactor.seconds())
        self._timer = self._reactor.callLater(delay_s, self._time_passed)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _time_passed(self) -> None:
        self._timer = None
        if self._handshake is None:
            self._enter(TimePassed(), "")
            return
        try:
            self._send(self._handshake.handle_timeout(self._reactor.seconds()))
        except HandshakeFailed as error:
            self._failed(str(error))
            return
        self._wait()

    def _send(self, datagrams: list[bytes]) -> None:
        if datagrams and self._path is not None:
            self._datagrams.send(self._path, datagrams)
