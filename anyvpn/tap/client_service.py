"""Keeps a tunnel up without anybody watching."""

from __future__ import annotations

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from anyvpn.client.tunnel import VPNTunnel
from anyvpn.errors import AnyvpnError, LoginAborted, LoginDenied
from anyvpn.model.client_events import (
    CertificateWarning,
    ChannelChanged,
    ClientEvent,
    Disconnected,
    MessageShown,
    Phase,
    PhaseEntered,
    ProfileStored,
    Retrying,
    TunnelReady,
)
from anyvpn.model.printable import printable

log = Logger()

# Ours
FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 300.0
AFTER_DENIAL_S = 600.0
"""A gateway that denies a login is not asked again soon: guessers are banned for less."""


class Connector(Protocol):
    """What the service has connected: a `VPNClient`."""

    async def connect(self) -> VPNTunnel:
        """A tunnel that is up. Raises AnyvpnError."""


class ClientService(Service):
    """Connects, waits for the end of the tunnel, and connects again."""

    def __init__(self, reactor: IReactorTime, client: Connector) -> None:
        self._reactor = reactor
        self._client = client
        self._running: Deferred[None] | None = None
        self._tunnel: VPNTunnel | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted has no types here
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(_failed)

    def stopService(self) -> Deferred[None]:
        """Say goodbye, and undo everything."""
        super().stopService()  # type: ignore[no-untyped-call]  # likewise
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        if self._tunnel is not None:
            await self._tunnel.disconnect()

    async def _run(self) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            try:
                self._tunnel = await self._client.connect()
                delay_s = FIRST_DELAY_S
                why = await self._tunnel.wait_closed()
            except (LoginDenied, LoginAborted) as error:
                why, delay_s = str(error), AFTER_DENIAL_S
            except AnyvpnError as error:
                why = str(error)
            self._tunnel = None
            log.warn(
                "No connection: {why}; the next try comes in {delay:g} s",
                why=printable(why),
                delay=delay_s,
            )
            await deferLater(self._reactor, delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)


def log_event(event: ClientEvent) -> None:
    """One line in the log for what an operator of a link looks for."""
    match event:
        case TunnelReady(settings, device, mtu_bytes, tls):
            log.info(
                "Connected: {addresses} on {device}, MTU {mtu}, {tls}",
                addresses=" ".join(str(each) for each in settings.lease.addresses),
                device=device,
                mtu=mtu_bytes,
                tls=tls,
            )
        case ChannelChanged(channel, cipher, reason):
            log.info(
                "Data goes over {channel} ({cipher}): {why}",
                channel=channel.value,
                cipher=cipher,
                why=printable(reason),
            )
        case Retrying(reason, attempt, delay_s):
            log.warn(
                "The tunnel is lost: {why}; try {attempt} in {delay:g} s",
                why=printable(reason),
                attempt=attempt,
                delay=delay_s,
            )
        case CertificateWarning(reason, pin):
            log.warn(
                "The gateway's certificate is not trusted: {why} ({pin})",
                why=printable(reason),
                pin=pin,
            )
        case Disconnected(reason):
            log.info("Disconnected: {why}", why=printable(reason))
        case MessageShown(text):
            log.info("The gateway says: {text}", text=printable(text))
        case ProfileStored(name, "", is_new=True):
            log.info("Profile {name} was fetched, and not kept", name=printable(name))
        case ProfileStored(name, path, is_new=True):
            log.info("Profile {name} is stored as {path}", name=printable(name), path=path)
        case PhaseEntered(Phase.CONNECTED, detail):
            log.info("Connected {detail}", detail=detail)
        case PhaseEntered(phase, detail):
            log.debug("Phase {phase}: {detail}", phase=phase.value, detail=printable(detail))


def _failed(failure: object) -> None:
    value = getattr(failure, "value", None)
    if not isinstance(value, CancelledError):
        log.failure("The client breaks down", failure)  # type: ignore[arg-type]  # it is one
