"""`anyvpn run`: one program with the VPN as its only network, without privileges."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from anyvpn.backends import adapter_namespace
from anyvpn.cli.client_run import FAILED, connect_in_turn, current_reactor, run_client
from anyvpn.cli.connect_options import (
    connection_options,
    find_gateways,
    read_settings,
    verbosity_of,
)
from anyvpn.cli.progress import Progress
from anyvpn.cli.responders import make_responder
from anyvpn.cli.terminal import terminal_kept
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import AnyvpnError, TunUnavailable
from anyvpn.interfaces import IInnerNetwork
from anyvpn.model.printable import printable


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("target", metavar="URL|NAME")
@connection_options
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...")
def run(target: str, command: tuple[str, ...], **options: Any) -> None:
    """Connect, and run COMMAND with the VPN as its only network, names included.

    No privileges are needed, and nothing of this host is changed. The exit status is that of the
    command, 128 and the signal's number when a signal ended it or came before it; 1 when there is
    no connection.
    """
    urls = find_gateways(target, options)
    settings = read_settings(options)
    progress = Progress(verbosity_of(options) - 1)

    async def work() -> int:
        reactor = current_reactor()
        responder = make_responder(options, reactor, progress.say)
        adapters = adapter_namespace.build(adapter_namespace.Settings(), reactor)

        def new_client(url: GatewayURL) -> VPNClient:
            return VPNClient(
                reactor, url, responder, adapters, settings, on_event=progress.event_happened
            )

        tunnel = await connect_in_turn(urls, new_client, progress)
        with terminal_kept():
            try:
                return await run_inside(tunnel, command, progress, reactor)
            finally:
                await tunnel.disconnect()

    sys.exit(run_client(work, progress, verbosity_of(options), lambda number: 128 + number))


async def run_inside(
    tunnel: VPNTunnel, command: tuple[str, ...], progress: Progress, reactor: ClientReactor
) -> int:
    """Run the command until it ends, the tunnel does, or a signal comes; gives the exit status.

    Raises: TunUnavailable: it cannot be started.
    """
    network = IInnerNetwork(tunnel.adapter)
    status: list[int] = []

    def end_with(exit_status: int) -> None:
        if not running.called:
            status.append(exit_status)
            running.cancel()

    try:
        with _signals_for(reactor, end_with):
            # Not before: the command may be quicker to the keyboard than we to the handlers
            running: Deferred[int] = ensureDeferred(network.run(command))
            return await running
    except CancelledError:
        if not status:
            raise
        return status[0]
    except TunUnavailable:
        if not tunnel.is_ending:
            raise
        why = await _why_ended(tunnel)
        progress.say(f"anyvpn: the connection ended before the command: {printable(why)}")
        return FAILED


async def _why_ended(tunnel: VPNTunnel) -> str:
    try:
        return await tunnel.wait_closed()
    except AnyvpnError as error:
        return str(error)


@contextmanager
def _signals_for(reactor: ClientReactor, end_with: Callable[[int], None]) -> Iterator[None]:
    """What the keyboard sends is for the command alone; who ends us ends the command."""

    def told(number: int, _: object) -> None:
        reactor.callFromThread(end_with, 128 + number)  # type: ignore[attr-defined]  # every reactor has it

    handlers: dict[signal.Signals, Any] = {
        signal.SIGINT: lambda *_: None,
        signal.SIGQUIT: lambda *_: None,
        signal.SIGTERM: told,
        signal.SIGHUP: told,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
