"""`anyvpn connect` and `anyvpn authenticate`."""

from __future__ import annotations

import shlex
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from twisted.internet.error import CannotListenError

from anyvpn.backends import adapter_linux, adapter_namespace, adapter_script
from anyvpn.cli.background import Background, PidFile
from anyvpn.cli.client_run import (
    ENDED_WELL,
    connect_in_turn,
    current_reactor,
    follow_tunnel,
    read_cookie,
    run_client,
)
from anyvpn.cli.connect_options import (
    Options,
    connection_options,
    find_gateways,
    read_settings,
    verbosity_of,
)
from anyvpn.cli.progress import Progress
from anyvpn.cli.responders import make_responder
from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.login import Login
from anyvpn.client.profile_store import ProfileStore, default_directory
from anyvpn.client.socks_server import SocksServerFactory
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IAdapterBackend, IInnerNetwork


@click.command()
@click.argument("target", metavar="[URL|NAME]", default="")
@connection_options
@click.option("-C", "--cookie", metavar="TEXT", help="Session token instead of a login.")
@click.option("--cookie-on-stdin", is_flag=True, help="Read the session token from stdin.")
@click.option("-s", "--script", metavar="COMMAND", help="Let this vpnc-script set the host up.")
@click.option("-i", "--interface", metavar="NAME", help="Name of the tun device.")
@click.option(
    "--socks",
    metavar="HOST:PORT",
    help="Instead of setting up this host, serve the VPN as a SOCKS5 proxy there; no root needed.",
)
@click.option("--socks-password", metavar="TEXT", help="What clients of the proxy must know.")
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path),
    help="Where to note what has to be undone after a crash.  [default: /run/anyvpn]",
)
@click.option("--no-dns", is_flag=True, help="Leave the host's resolvers alone.")
@click.option("--resolv-conf", type=click.Path(path_type=Path), help="Instead of /etc/resolv.conf.")
@click.option("-b", "--background", is_flag=True, help="Go on in the background once connected.")
@click.option("--pid-file", type=click.Path(path_type=Path), help="File to write the pid to.")
@click.option("--list", "show_list", is_flag=True, help="List the gateways of stored profiles.")
def connect(target: str, **options: Any) -> None:
    """Connect to the gateway at URL, or to the one that a stored profile calls NAME.

    Ctrl-C disconnects. SIGHUP leaves without a goodbye, SIGUSR1 shows counters, SIGUSR2
    reconnects. Exit status: 0 ended as asked, 1 failed, 2 wrong option, 3 login failed.
    """
    if options["show_list"]:
        _show_list()
        return
    if not target:
        raise click.UsageError("the URL of a gateway, or the NAME of a known one, is missing")
    urls = find_gateways(target, options)
    settings = read_settings(options)
    pid_file = None if options["pid_file"] is None else PidFile(options["pid_file"])
    if pid_file is not None:
        pid_file.check()
    if options["socks"]:
        _socks_address(options)
    token = read_cookie() if options["cookie_on_stdin"] else options["cookie"]
    background = Background() if options["background"] else None
    progress = Progress(verbosity_of(options))

    async def work() -> int:
        reactor = current_reactor()
        responder = make_responder(options, reactor, progress.say)
        adapters = _adapters(options, reactor)

        def new_client(url: GatewayURL) -> VPNClient:
            return VPNClient(
                reactor, url, responder, adapters, settings, on_event=progress.event_happened
            )

        login = Login(urls[0], token) if token else None
        tunnel = await connect_in_turn(urls, new_client, progress, login)
        try:
            if pid_file is not None:
                pid_file.write()
            if options["socks"]:
                line = _serve_socks(options, tunnel, reactor)
                progress.say(line)
            if background is not None:
                background.detach()
            return await follow_tunnel(tunnel, progress, reactor)
        finally:
            await tunnel.disconnect()
            if pid_file is not None:
                pid_file.remove()

    sys.exit(run_client(work, progress, verbosity_of(options)))


@click.command()
@click.argument("target", metavar="URL|NAME")
@connection_options
def authenticate(target: str, **options: Any) -> None:
    """Log in and print the session token, in openconnect's format, for `eval` in a shell."""
    urls = find_gateways(target, options)
    settings = read_settings(options)
    progress = Progress(verbosity_of(options))

    logins: list[Login] = []

    async def work() -> int:
        reactor = current_reactor()
        client = VPNClient(
            reactor,
            urls[0],
            make_responder(options, reactor, progress.say),
            settings=settings,
            on_event=progress.event_happened,
        )
        logins.append(await client.authenticate())
        client.close()
        return ENDED_WELL

    status = run_client(work, progress, verbosity_of(options))
    for login in logins:
        click.echo(describe_login(login))
    sys.exit(status)


def describe_login(login: Login) -> str:
    """What openconnect prints with --authenticate: a line for each variable."""
    host = f"[{login.address}]" if ":" in login.address else login.address
    variables = {
        "COOKIE": login.token,
        "HOST": f"{host or login.url.host}:{login.url.port}",
        "CONNECT_URL": str(login.url),
        "FINGERPRINT": "" if login.certificate is None else login.certificate.pin,
        "RESOLVE": f"{login.url.host}:{login.address}" if login.address else "",
    }
    return "\n".join(f"{name}={_quoted(text)}" for name, text in variables.items() if text)


def _quoted(text: str) -> str:
    """Always in quotes, as scripts expect it."""
    quoted = shlex.quote(text)
    return quoted if quoted.startswith("'") else f"'{text}'"


def _show_list() -> None:
    servers = ProfileStore(default_directory()).servers()
    for server in servers:
        group = f"/{server.user_group}" if server.user_group else ""
        click.echo(f"{server.name}\thttps://{server.address}{group}")
    if not servers:
        click.echo("No profile names a gateway yet; profiles come with the first connection.")


def _socks_address(options: Options) -> tuple[str, int]:
    """Raises: ConfigurationError."""
    host, _, port = str(options["socks"]).rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdecimal() or not 0 <= int(port) <= 0xFFFF:
        raise ConfigurationError(f"--socks {options['socks']!r} is not HOST:PORT")
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        raise ConfigurationError(f"--socks: {host!r} is no address") from None
    if not is_local and not options["socks_password"]:
        raise ConfigurationError(
            f"--socks {options['socks']}: everybody who reaches this address could use the VPN; "
            "give a --socks-password"
        )
    return host, int(port)


def _serve_socks(options: Options, tunnel: VPNTunnel, reactor: ClientReactor) -> str:
    """Listen for SOCKS clients; gives what to tell. Raises: ConfigurationError."""
    host, port = _socks_address(options)
    network = IInnerNetwork(tunnel.adapter)
    factory = SocksServerFactory(reactor, network, options["socks_password"] or "")  # type: ignore[arg-type]  # the reactor has it all
    try:
        listening = reactor.listenTCP(port, factory, interface=host)  # type: ignore[attr-defined]  # likewise
    except CannotListenError as error:
        raise ConfigurationError(f"--socks: {error}") from None
    return f"SOCKS5 proxy at {host}:{listening.getHost().port}"


def _adapters(options: Options, reactor: ClientReactor) -> IAdapterBackend:
    if options["socks"]:
        return adapter_namespace.build(adapter_namespace.Settings(), reactor)
    if options["script"]:
        chosen = {"script": options["script"]}
        if options["interface"]:
            chosen["device"] = options["interface"]
        try:
            return adapter_script.build(adapter_script.Settings(**chosen), reactor)  # type: ignore[arg-type]  # the reactor has it all
        except ValueError as error:
            raise ConfigurationError(f"--script: {error}") from None
    settings: dict[str, Any] = {"dns": not options["no_dns"]}
    if options["interface"]:
        settings["device"] = options["interface"]
    if options["state_directory"]:
        settings["state_directory"] = options["state_directory"]
    if options["resolv_conf"]:
        settings["resolv_conf"] = options["resolv_conf"]
    try:
        return adapter_linux.build(adapter_linux.Settings(**settings), reactor)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
