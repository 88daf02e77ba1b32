"""The client's tun device, set up by a script that keeps to the contract of vpnc-script."""

from __future__ import annotations

import shlex

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorFDSet,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.backends.adapter_script_environment import script_environment
from anyvpn.errors import TunUnavailable
from anyvpn.interfaces import IAdapter, IAdapterBackend
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.printable import printable
from anyvpn.tun.descriptor import OpenedTun, open_descriptor
from anyvpn.tun.device import LinuxTunDevice

log = Logger()

# Ours
_LARGEST_OUTPUT_BYTES = 64 * 1024
_OUTPUT_TIME_S = 0.5


class _Reactor(IReactorTime, IReactorFDSet, IReactorProcess):
    """What runs a script."""


@attrs.frozen
class Settings:
    """Which script, and how long it may take."""

    script: str = attrs.field(
        default="/usr/share/vpnc-scripts/vpnc-script",
        metadata={"help": "The script, with options if it has any; no shell reads this line."},
    )
    device: str = attrs.field(
        default="tun%d",
        metadata={"help": "Name of the tun device; %d stands for the first free number."},
    )
    offloads: bool = attrs.field(
        default=True,
        metadata={"help": "Let the kernel hand over and take up to 64 KB of a flow at once."},
    )
    time_s: float = attrs.field(
        default=60.0, metadata={"help": "How long one run of the script may take, in seconds."}
    )

    def __attrs_post_init__(self) -> None:
        try:
            words = shlex.split(self.script)
        except ValueError as error:
            raise ValueError(f"script cannot be read: {error}") from None
        if not words:
            raise ValueError("script must name a program")


def build(settings: Settings, reactor: _Reactor) -> ScriptAdapterBackend:
    """The backend that makes adapters with this script."""
    return ScriptAdapterBackend(settings, reactor)


@implementer(IAdapterBackend)
class ScriptAdapterBackend:
    """Makes the device itself; the script does the rest."""

    def __init__(self, settings: Settings, reactor: _Reactor) -> None:
        self._settings = settings
        self._reactor = reactor

    async def open(self, settings: AdapterSettings) -> ScriptAdapter:
        """An adapter that the script has set up. Raises: TunUnavailable: its last words."""
        own = self._settings
        opened = open_descriptor(own.device, own.offloads)
        adapter = ScriptAdapter(self._reactor, opened, settings, own)
        try:
            await adapter.run("pre-init")
            await adapter.run("connect")
        except BaseException:
            await adapter.close()
            raise
        return adapter


@implementer(IAdapter)
class ScriptAdapter(LinuxTunDevice):
    """A tun device that a script looks after."""

    def __init__(
        self, reactor: _Reactor, opened: OpenedTun, applied: AdapterSettings, settings: Settings
    ) -> None:
        super().__init__(reactor, opened, applied.mtu_bytes)
        self._script_reactor = reactor
        self._command = shlex.split(settings.script)
        self._time_s = settings.time_s
        self._applied = applied
        self._is_closed = False

    async def apply(self, settings: AdapterSettings) -> None:
        """The script is told of a reconnect. Raises: TunUnavailable."""
        self._applied = settings
        self.mtu_bytes = settings.mtu_bytes
        await self.run("reconnect")

    async def prepare_reconnect(self) -> None:
        """The script may let the gateway be reached again; its failure is no obstacle."""
        try:
            await self.run("attempt-reconnect")
        except TunUnavailable as error:
            log.warn("{why}", why=error)

    async def close(self) -> None:
        """The script undoes what it has done; closing twice does no harm."""
        if not self._is_closed:
            self._is_closed = True
            try:
                await self.run("disconnect")
            except TunUnavailable as error:
                log.error("{why}", why=error)
        await super().close()

    async def run(self, reason: str) -> None:
        """Run the script once. Raises: TunUnavailable."""
        environment = script_environment(reason, self.name, self._applied)
        run = _Run(self._script_reactor, self._time_s)
        try:
            self._script_reactor.spawnProcess(run, self._command[0], self._command, environment)
        except OSError as error:
            raise TunUnavailable(f"{self._command[0]}: {error.strerror}") from error
        status = await run.ended
        for line in run.output.decode("utf-8", "replace").splitlines():
            log.info("{script}: {line}", script=self._command[0], line=printable(line))
        if status:
            words = run.output.decode("utf-8", "replace").strip().splitlines()
            last = f": {printable(words[-1])}" if words else ""
            raise TunUnavailable(f"{self._command[0]} ({reason}) {status}{last}")


class _Run(ProcessProtocol):
    """One run: its output, bounded, and how it ended; empty when it ended well."""

    transport: IProcessTransport

    def __init__(self, reactor: IReactorTime, time_s: float) -> None:
        self.output = b""
        self.ended: Deferred[str] = Deferred(lambda _: self._kill())
        self._reactor = reactor
        self._time_limit: IDelayedCall = reactor.callLater(time_s, self._late)
        self._why = ""

    def outReceived(self, data: bytes) -> None:
        """Output, of which the beginning is kept."""
        self.output += data[: _LARGEST_OUTPUT_BYTES - len(self.output)]

    def errReceived(self, data: bytes) -> None:
        """The same."""
        self.outReceived(data)

    def processExited(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted gives it
        """It is over; what it has left running may hold its output open."""
        self._stop_time_limit()
        close = self.transport.loseConnection
        self._time_limit = self._reactor.callLater(_OUTPUT_TIME_S, close)

    def processEnded(self, reason: Failure) -> None:
        """It is over, and so is its output."""
        self._stop_time_limit()
        if self.ended.called:
            return
        value = reason.value
        if isinstance(value, ProcessDone):
            self.ended.callback("")
        elif isinstance(value, ProcessTerminated) and value.exitCode is not None:
            self.ended.callback(self._why or f"failed with status {value.exitCode}")
        else:
            self.ended.callback(self._why or "was killed")

    def _late(self) -> None:
        self._why = "took too long"
        self._kill()

    def _stop_time_limit(self) -> None:
        if self._time_limit.active():
            self._time_limit.cancel()

    def _kill(self) -> None:
        self._stop_time_limit()
        if self.transport.pid:
            self.transport.signalProcess("KILL")
