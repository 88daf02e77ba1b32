"""Runs a client for a command: reactor, log, signals, exit status."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogBeginner,
)
from twisted.python.failure import Failure

from anyvpn.cli.progress import Progress
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.login import Login
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import (
    AnyvpnError,
    GatewayUnreachable,
    GatewayUntrusted,
    LoginAborted,
    LoginDenied,
    TokenRejected,
    TunUnavailable,
)
from anyvpn.model.printable import printable

# Exit statuses, besides click's 2 for a wrong option
ENDED_WELL = 0
FAILED = 1
LOGIN_FAILED = 3

# Ours
STATUS_EVERY_S = 1.0
PROBE_EVERY_STATUS = 5

log = Logger()

Work = Callable[[], Coroutine[Deferred[Any], Any, int]]


def run_client(
    work: Work,
    progress: Progress,
    verbosity: int,
    status_of_signal: Callable[[int], int] = lambda _: ENDED_WELL,
) -> int:
    """Run the reactor until `work` is done or a signal interrupts it; gives the exit status."""
    from twisted.internet import reactor  # noqa: PLC0415 - a fork comes before it

    _begin_log(progress, verbosity)
    outcome: list[int] = []

    def done(status: int) -> None:
        outcome.append(status)
        reactor.stop()

    def broken(failure: Failure) -> int:
        log.failure("anyvpn breaks down", failure)
        return FAILED

    def start() -> None:
        tasks: list[Deferred[int]] = []
        heard: list[int] = []

        def when_cancelled() -> int:
            return status_of_signal(heard[0]) if heard else ENDED_WELL

        interrupted = _interrupter(tasks, heard)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupted)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # until there is a tunnel to ask
        tasks.append(ensureDeferred(_guarded(work, progress, when_cancelled)))
        tasks[0].addErrback(broken).addCallback(done)

    # Once it runs, with handlers of its own, which ours replace
    reactor.callWhenRunning(reactor.callLater, 0, start)
    reactor.run()
    return outcome[0] if outcome else FAILED


async def connect_in_turn(
    urls: Sequence[GatewayURL],
    new_client: Callable[[GatewayURL], VPNClient],
    progress: Progress,
    login: Login | None = None,
) -> VPNTunnel:
    """The first gateway that can be reached. Raises: what `VPNClient.connect` raises."""
    for url in urls[:-1]:
        try:
            return await new_client(url).connect(login)
        except GatewayUnreachable as error:
            progress.say(f"-  {printable(str(error))}; trying the next gateway")
    return await new_client(urls[-1]).connect(login)


async def follow_tunnel(tunnel: VPNTunnel, progress: Progress, reactor: ClientReactor) -> int:
    """Wait for the tunnel's end; signals steer it meanwhile.

    SIGINT and SIGTERM say goodbye, SIGHUP leaves the session at the gateway, SIGUSR1 shows what
    has moved, SIGUSR2 takes a new link.
    """

    def on(number: signal.Signals, act: Callable[[], object]) -> None:
        signal.signal(number, lambda *_: reactor.callFromThread(act))  # type: ignore[attr-defined]

    for number in (signal.SIGINT, signal.SIGTERM):
        on(number, lambda: ensureDeferred(tunnel.disconnect()))
    on(signal.SIGHUP, lambda: ensureDeferred(tunnel.detach()))
    on(signal.SIGUSR1, lambda: progress.say(_statistics(tunnel)))
    on(signal.SIGUSR2, tunnel.reconnect_now)
    looks = 0

    def look() -> None:
        nonlocal looks
        # Not at once: the tunnel may still change its channel
        if looks % PROBE_EVERY_STATUS == 1 and sys.stderr.isatty():
            tunnel.probe()
        looks += 1
        progress.show_status(tunnel, reactor.seconds())

    status = LoopingCall(look)
    status.clock = reactor
    status.start(STATUS_EVERY_S)
    try:
        await tunnel.wait_closed()
    finally:
        status.stop()
        progress.end_status()
    return ENDED_WELL


async def _guarded(work: Work, progress: Progress, when_cancelled: Callable[[], int]) -> int:
    """Errors become a line or two that say what to do, and an exit status."""
    try:
        return await work()
    except CancelledError:
        return when_cancelled()
    except GatewayUntrusted as error:
        _complain(progress, str(error))
        if error.pin:
            progress.say(f"If you know this key: --servercert {shlex.quote(error.pin)}")
        return FAILED
    except (LoginDenied, LoginAborted, TokenRejected) as error:
        _complain(progress, str(error))
        return LOGIN_FAILED
    except TunUnavailable as error:
        _complain(progress, str(error))
        if os.geteuid():
            progress.say("Without root there are `anyvpn run URL -- COMMAND` and --socks HOST:PORT")
        return FAILED
    except AnyvpnError as error:
        _complain(progress, str(error))
        return FAILED


def _complain(progress: Progress, text: str) -> None:
    for line in printable(text, lines=True).split("\n"):
        progress.say(f"anyvpn: {line}")


def _interrupter(tasks: list[Deferred[int]], heard: list[int]) -> Callable[..., None]:
    """A signal handler that cancels what is in the list by the time it is heard."""

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    def interrupted(number: int, _: object) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - it is running by now

        heard.append(number)
        reactor.callFromThread(cancel)  # type: ignore[attr-defined]

    return interrupted


def _statistics(tunnel: VPNTunnel) -> str:
    counters = tunnel.status().counters
    return (
        f"   in {counters.received_packets} packets, {counters.received_bytes} bytes; "
        f"out {counters.sent_packets} packets, {counters.sent_bytes} bytes"
    )


def _begin_log(progress: Progress, verbosity: int) -> None:
    level = {0: LogLevel.warn, 1: LogLevel.info}.get(max(verbosity, 0), LogLevel.debug)

    def observe(event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=verbosity > 1)
        progress.say(f"   {printable(text, lines=True)}")

    predicate = LogLevelFilterPredicate(defaultLogLevel=level)
    observer = FilteringLogObserver(observe, [predicate])  # type: ignore[arg-type]  # callable
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)


def current_reactor() -> ClientReactor:
    """The reactor, imported late: a fork comes before it."""
    from twisted.internet import reactor  # noqa: PLC0415

    return reactor  # type: ignore[return-value]  # the module's real face


def read_cookie() -> str:
    """A session token, from standard input. Raises: click.UsageError."""
    token = sys.stdin.readline().strip()
    if not token:
        raise click.UsageError("no cookie came on standard input")
    return token
