"""`anyvpn run`: one program with nothing but the VPN as its network, and no root needed."""

from __future__ import annotations

import sys
from typing import Any

import click

from anyvpn.backends import adapter_namespace
from anyvpn.cli.client_run import connect_in_turn, current_reactor, run_client
from anyvpn.cli.connect_options import (
    connection_options,
    find_gateways,
    make_responder,
    read_settings,
    verbosity_of,
)
from anyvpn.cli.progress import Progress
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import AnyvpnError, GatewayUnreachable, TunUnavailable
from anyvpn.interfaces import IInnerNetwork


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("target", metavar="URL|NAME")
@connection_options
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...")
def run(target: str, command: tuple[str, ...], **options: Any) -> None:
    """Connect, and run COMMAND with the VPN as its only network, names included.

    No privileges are needed, and nothing of this host is changed. The exit status is that of the
    command; 1 when there is no connection.
    """
    urls = find_gateways(target, options)
    settings = read_settings(options)
    progress = Progress(verbosity_of(options) - 1)

    async def work() -> int:
        reactor = current_reactor()
        responder = make_responder(options, reactor)
        adapters = adapter_namespace.build(adapter_namespace.Settings(), reactor)

        def new_client(url: GatewayURL) -> VPNClient:
            return VPNClient(
                reactor, url, responder, adapters, settings, on_event=progress.event_happened
            )

        tunnel = await connect_in_turn(urls, new_client, progress)
        try:
            return await _run_inside(tunnel, command)
        finally:
            await tunnel.disconnect()

    sys.exit(run_client(work, progress, verbosity_of(options)))


async def _run_inside(tunnel: VPNTunnel, command: tuple[str, ...]) -> int:
    """Run the command until it ends. Raises: ClientError: the tunnel ended before it."""
    try:
        return await IInnerNetwork(tunnel.adapter).run(command)
    except TunUnavailable:
        if not tunnel.is_ending:
            raise
    try:
        reason = await tunnel.wait_closed()
    except AnyvpnError as error:
        reason = str(error)
    raise GatewayUnreachable(f"the connection ended before the command: {reason}")
