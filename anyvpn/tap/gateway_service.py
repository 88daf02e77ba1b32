"""The gateway as a service: opens everything while it has the rights, and closes it in order."""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from types import FrameType, TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from anyvpn.control.reports import Reports
from anyvpn.control.server import ControlReactor, open_control
from anyvpn.errors import AnyvpnError, StartUpFailed
from anyvpn.gateway.gateway import Gateway
from anyvpn.interfaces import IDescriptorDevice, IRoutedTunDevice
from anyvpn.packets.datagrams import DatagramSockets
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.tap.config_build import LoadedGateway
from anyvpn.tap.listen_addresses import Reactor, cannot_listen, listen_on

log = Logger()

Result = TypeVar("Result")

# Ours
OTHER_FILES = 256
"""Descriptors besides those of clients."""
STOP_TIME_S = 5.0
"""How long each part may take to stop; telling all clients takes one round trip."""


class GatewayReactor(Reactor, ControlReactor, IReactorCore, IReactorFDSet, IReactorFromThreads):
    """What a gateway needs of a reactor."""


class ErrorOutput(Protocol):
    """Where the operator sees why there is no gateway."""

    def write(self, line: str) -> None:
        """Say one line."""

    def close(self) -> None:
        """There will be no more lines."""


class GatewayService(MultiService):
    """Opens tun device, UDP and TCP before twistd changes the user; serves from then on."""

    def __init__(self, reactor: GatewayReactor, loaded: LoadedGateway, output: ErrorOutput) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has no types here
        self._reactor = reactor
        self._loaded = loaded
        self._output = output
        self._device: IRoutedTunDevice | None = None
        self._datagrams: DatagramSockets | None = None
        self._engine: PythonPacketEngine | None = None
        self._gateway: Gateway | None = None
        self._ports: list[IListeningPort] = []
        self._starting: Deferred[None] | None = None

    def privilegedStartService(self) -> None:
        """Open everything that may need root.

        Raises: StartUpFailed: said to the operator already; twistd ends with exit status 1.
        """
        self._raise_file_limit()
        try:
            self._open()
        except AnyvpnError as error:
            self._refuse(str(error))
        except CannotListenError as error:
            self._refuse(cannot_listen(error, "UDP"))
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # nor here

    def startService(self) -> None:
        """Serve. Raises: StartUpFailed: as above, when it is known at once."""
        super().startService()  # type: ignore[no-untyped-call]  # nor here
        failures: list[Failure] = []
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(failures.append)
        if failures:
            self._report(failures[0])
            self._refuse(failures[0].getErrorMessage())
        self._starting.addCallback(lambda _: self._end_late(failures))
        self._reactor.callWhenRunning(self._take_signals)

    def stopService(self) -> Deferred[None]:
        """Close everything in order; a part that fails or takes too long keeps nothing up."""
        stopped = maybeDeferred(super().stopService)
        return stopped.addBoth(lambda _: Deferred.fromCoroutine(self._stop()))

    def _raise_file_limit(self) -> None:
        """Let there be descriptors for all connections, as far as the system allows."""
        wanted = self._loaded.settings.limits.connections + OTHER_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft >= wanted or soft == resource.RLIM_INFINITY:
            return
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            log.warn(
                "The system allows {allowed} open files, limits.connections would need {wanted}; "
                "raise LimitNOFILE or ulimit -n, or lower limits.connections",
                allowed=allowed,
                wanted=wanted,
            )

    # --- starting --------------------------------------------------------------------------

    def _open(self) -> None:
        loaded, settings = self._loaded, self._loaded.settings
        self._device = _at_once(
            loaded.tun.open(settings.addresses.gateway_addresses, loaded.tun_mtu_bytes)
        )
        self._device.on_lost = self._device_lost
        self._datagrams = DatagramSockets(self._reactor)
        self._datagrams.open(loaded.datagrams, queues=self._queues())
        self._engine = loaded.engine(self._reactor, self._device, self._datagrams)
        self._gateway = Gateway(
            self._reactor,
            settings,
            loaded.contexts,
            self._engine,
            datagrams=self._datagrams,
            device=self._device,
        )
        self._ports = listen_on(self._reactor, loaded.listen, self._gateway.factory())

    def _queues(self) -> int:
        """How many sockets each UDP address needs: one for each thread of the packet engine."""
        device = self._device
        if not self._loaded.engine.reads_all_queues or not IDescriptorDevice.providedBy(device):
            return 1
        return len(device.descriptors())

    async def _start(self) -> None:
        assert self._engine is not None, "not opened"
        assert self._gateway is not None, "not opened"
        self._open_control(self._gateway, self._engine)
        self._engine.start()
        await self._gateway.start()
        log.info("{line}", line=self.describe())
        self._output.close()
        # What is there now stays: looking for garbage in it would stop the reactor for 50 ms
        gc.collect()
        gc.freeze()

    def _open_control(self, gateway: Gateway, engine: PythonPacketEngine) -> None:
        """By the user that twistd has become, who must be able to remove it in the end."""
        loaded, dtls = self._loaded, self._loaded.settings.dtls
        assert self._device is not None, "not opened"
        if loaded.control is None:
            return
        reports = Reports(
            gateway,
            engine,
            self._device,
            name=loaded.settings.name,
            listen=tuple(each.text for each in loaded.listen),
            dtls_port=dtls.port if dtls.enabled else 0,
            started_at_s=self._reactor.seconds(),
            seconds=self._reactor.seconds,
        )
        self._ports.append(open_control(self._reactor, loaded.control, reports))

    def describe(self) -> str:
        """What runs, in one line."""
        loaded, dtls, device = self._loaded, self._loaded.settings.dtls, self._device
        where = ", ".join(each.text for each in loaded.listen)
        udp = "off"
        if dtls.enabled:
            kinds = {"PSK": dtls.psk, "resumption": True, "legacy": dtls.legacy}
            shown = ", ".join(f"{kind} {_yes(there)}" for kind, there in kinds.items())
            udp = f"on UDP port {dtls.port} ({shown})"
        offloads = _yes(device is not None and device.vnet_header_bytes > 0)
        engine = "none"
        if self._engine:
            engine = f"{self._engine.name} (AES-GCM by {self._engine.cipher_library})"
        return (
            f"Gateway {loaded.settings.name} listens on {where}; DTLS {udp}; "
            f"tun device {device.name if device else 'none'} (offloads {offloads}); "
            f"packet engine {engine}; "
            f"connection profiles: {len(loaded.settings.profiles)}; "
            f"control socket {loaded.control or 'none'}"
        )

    def _refuse(self, text: str) -> NoReturn:
        """Say why, once in the log and once on stderr, and end without a traceback."""
        self._say(text)
        self._output.close()
        self._close_what_is_open()
        _hide_traceback()
        raise StartUpFailed(text)

    def _close_what_is_open(self) -> None:
        """Without the reactor, which does not run; sessions and logins have not begun."""
        for port in self._ports:
            port.stopListening()
        if self._datagrams is not None:
            self._datagrams.close()
        if self._device is not None:
            Deferred.fromCoroutine(self._device.close())
        self._ports, self._datagrams, self._device = [], None, None

    def _end_late(self, failures: list[Failure]) -> None:
        """A start that fails while the reactor runs: twistd has no way to be told."""
        if not failures or isinstance(failures[0].value, CancelledError):
            return
        self._report(failures[0])
        self._say(failures[0].getErrorMessage())
        self._output.close()
        self._end_with_failure()

    def _device_lost(self, reason: str) -> None:
        """No packet passes any more: whoever watches over the process starts it again."""
        log.critical("The gateway ends: {reason}", reason=reason)
        self._end_with_failure()

    def _end_with_failure(self) -> None:
        atexit.register(_exit_with_failure)
        self._reactor.callWhenRunning(self._stop_reactor)

    def _say(self, text: str) -> None:
        line = " ".join(text.split())
        log.critical("The gateway cannot start: {problem}", problem=line)
        self._output.write(f"anyvpn-gateway: {line}")

    @staticmethod
    def _report(failure: Failure) -> None:
        if not isinstance(failure.value, AnyvpnError):
            log.failure("Unexpected failure while starting", failure)

    def _take_signals(self) -> None:
        """End with exit status 0 when asked to end, where twistd would die of the signal."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if getattr(signal.getsignal(number), "__self__", None) is self._reactor:
                signal.signal(number, self._signalled)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, self._signalled if os.isatty(0) else self._hung_up)

    def _signalled(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python calls
        signal.signal(number, signal.SIG_DFL)  # the second one is meant in earnest
        self._reactor.callFromThread(self._asked_to_stop, signal.Signals(number).name)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as above
        """Without a terminal nothing has hung up: somebody hopes for a new configuration."""
        self._reactor.callFromThread(
            log.warn,
            "SIGHUP changes nothing: the configuration is read at the start; restart the gateway, "
            "sessions go on",
        )

    def _asked_to_stop(self, why: str) -> None:
        log.info("Received {signal}, shutting down", signal=why)
        self._stop_reactor()

    def _stop_reactor(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            log.debug("The reactor is stopping already")

    # --- stopping --------------------------------------------------------------------------

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        ports, self._ports = self._ports, []
        for port in ports:
            await self._finish("a listening port", maybeDeferred(port.stopListening))
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            await self._finish("the gateway", Deferred.fromCoroutine(gateway.stop()))
        engine, self._engine = self._engine, None
        if engine is not None:
            await self._finish("the packet engine", maybeDeferred(engine.stop))
        datagrams, self._datagrams = self._datagrams, None
        if datagrams is not None:
            await self._finish("UDP", maybeDeferred(datagrams.close))
        device, self._device = self._device, None
        if device is not None:
            await self._finish("the tun device", Deferred.fromCoroutine(device.close()))
        await self._finish(
            "the session store", Deferred.fromCoroutine(self._loaded.settings.sessions.close())
        )

    async def _finish(self, what: str, stopping: Deferred[Any]) -> None:
        if not stopping.called:
            stopping.addTimeout(STOP_TIME_S, self._reactor)
        try:
            await stopping
        except Exception:  # whatever it is, the other parts have to stop too
            log.failure("Failed to stop {what}", what=what)


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of what must not wait, since the reactor does not run yet."""
    results: list[Result] = []
    failures: list[Failure] = []
    Deferred.fromCoroutine(coroutine).addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    if not results:
        raise StartUpFailed("the tun backend waits for the reactor, which does not run yet")
    return results[0]


def _hide_traceback() -> None:
    """twistd leaves a failed start to Python, which would show the operator our source code."""
    shown_by = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, StartUpFailed):
            shown_by(kind, error, trace)

    sys.excepthook = show


def _exit_with_failure() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(1)
