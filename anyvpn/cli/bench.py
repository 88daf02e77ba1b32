"""`anyvpn bench`: many sessions of one process at a gateway, to size its machine."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater

from anyvpn.backends.responder_terminal import TerminalResponder
from anyvpn.cli.client_run import ENDED_WELL, FAILED, current_reactor, run_client
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
from anyvpn.client.settings import ClientSettings
from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IResponder
from anyvpn.load.generator import Load, LoadGenerator, NumberedUser, Worker
from anyvpn.load.no_device import NoDevices
from anyvpn.load.tally import Tally
from anyvpn.model.client_events import CertificateWarning, ChannelChanged, ClientEvent
from anyvpn.tap.client_config import read_client_config

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

# Ours
OTHER_FILES = 64
SECONDS_PER_LINE = 5
"""Where there is no terminal for a line that changes."""

ANSWERING = (
    *("certificate", "external_browser", "form_entry", "keyring", "password_command"),
    *("password_file", "token_mode"),
)
"""Options with which a login may need nobody at the terminal."""

SetUp = tuple[GatewayURL, ClientSettings, Callable[[], IResponder]]


@click.command()
@click.argument("target", metavar="[URL]", default="")
@connection_options
@click.option(
    "--config", type=click.Path(path_type=Path), help="Client's configuration, instead of a URL."
)
@click.option(
    "-n", "--sessions", type=click.IntRange(1), default=100, show_default=True, help="How many."
)
@click.option(
    "--rate",
    type=click.FloatRange(0.01),
    default=50.0,
    show_default=True,
    metavar="N",
    help="Begin no more logins than N in a second.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    metavar="N",
    help="Have no more logins under way than N.",
)
@click.option(
    "--hold",
    type=click.FloatRange(0),
    metavar="S",
    help="Say goodbye S seconds after the last login; without it: at Ctrl-C.",
)
@click.option("--ping", metavar="ADDRESS", help="Inner IPv4 address for each session to ping.")
@click.option(
    "--ping-every",
    type=click.FloatRange(0.01),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two pings of one session.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
def bench(target: str, **options: Any) -> None:
    """Open many sessions at the gateway at URL and hold them, with probes and keepalives.

    There are no devices: the host's network stays as it is, and no root is needed. %d in --user
    is replaced by the session's number. Ctrl-C says goodbye for all. Exit status: 0 all sessions
    came and stayed, 1 some did not, 2 wrong option.
    """
    url, settings, new_responder = _set_up(target, options)
    load = Load(
        sessions=options["sessions"],
        logins_per_s=options["rate"],
        logins_at_once=options["at_once"],
        ping=_ping_address(options["ping"]),
        ping_every_s=options["ping_every"],
    )
    progress = Progress(verbosity_of(options))
    _raise_file_limit(load.sessions, settings)
    _warn_of_few_ports(load.sessions, progress)
    tally = Tally(load.sessions)

    async def work() -> int:
        reactor = current_reactor()
        generator: LoadGenerator
        warned: set[str] = set()

        def event_happened(event: ClientEvent) -> None:
            if isinstance(event, ChannelChanged):
                generator.channel_changed(event.channel)
            elif isinstance(event, CertificateWarning) and event.reason not in warned:
                warned.add(event.reason)
                progress.event_happened(event)

        def new_worker() -> Worker:
            user = NumberedUser(new_responder())
            client = VPNClient(reactor, url, user, NoDevices(), settings, on_event=event_happened)
            return Worker(client, user)

        generator = LoadGenerator(reactor, load, new_worker, tally)
        report = await _open_and_hold(generator, tally, progress, reactor, options["hold"])
        if options["as_json"]:
            click.echo(json.dumps(report, indent=2))
        return ENDED_WELL if tally.succeeded == tally.asked and not tally.lost else FAILED

    sys.exit(run_client(work, progress, verbosity_of(options)))


async def _open_and_hold(
    generator: LoadGenerator,
    tally: Tally,
    progress: Progress,
    reactor: ClientReactor,
    hold_s: float | None,
) -> dict[str, Any]:
    """From the first login to the last goodbye, which an interruption leads to as well.

    Gives the report on what there was before the goodbyes.
    """
    lines = 0

    def look() -> None:
        nonlocal lines
        if not progress.show(tally.line()) and lines % SECONDS_PER_LINE == 0:
            progress.say(tally.line())
        lines += 1

    looking = LoopingCall(look)
    looking.clock = reactor
    looking.start(1.0, now=False)
    try:
        await generator.open_all()
        progress.say(f"Opened: {tally.line()}")
        await (Deferred() if hold_s is None else deferLater(reactor, hold_s))
    except CancelledError:
        progress.say("Saying goodbye")
    finally:
        looking.stop()
        progress.end_status()
        await generator.finish_pings()
        progress.say(f"At the end: {tally.line()}")
        for what, reasons in (("failed", tally.failed), ("lost", tally.lost)):
            for reason, count in reasons.most_common():
                progress.say(f"  {count} {what}: {reason}")
        report = tally.report()
        await generator.close_all()
    return report


def _set_up(target: str, options: Options) -> SetUp:
    """Where to, how, and who answers. Raises: ConfigurationError."""
    if bool(target) == bool(options["config"]):
        raise click.UsageError("give the URL of a gateway, or --config")
    if options["config"]:
        file = options["config"]
        made = read_client_config(file, current_reactor())
        url, settings = made.url, made.settings
        if options["sessions"] > 1 and made.responder.has(TerminalResponder):
            raise ConfigurationError(f"{file}: the terminal cannot answer for several sessions")

        def new_responder() -> IResponder:
            return read_client_config(file, current_reactor()).responder
    else:
        url, settings = find_gateways(target, options)[0], read_settings(options)
        _read_password_once(options)
        if options["sessions"] > 1:
            _ask_once(options)

        def new_responder() -> IResponder:
            return make_responder(options, current_reactor(), lambda _: None)

    # What is lost is to be seen, and goodbyes on the channel are enough
    return url, replace(settings, reconnect_time_s=0.0, logout=False), new_responder


def _read_password_once(options: Options) -> None:
    """Every worker needs it, and standard input has it once."""
    if options["passwd_on_stdin"]:
        options["passwd_on_stdin"] = False
        password = sys.stdin.readline().rstrip("\r\n")
        options["form_entry"] = (*options["form_entry"], f"password={password}")


def _ask_once(options: Options) -> None:
    """One answer for all sessions: none of their logins asks at the terminal."""
    if not options["non_inter"] and not any(options[each] for each in ANSWERING):
        options["user"] = options["user"] or click.prompt("Username", err=True)
        password = click.prompt("Password", hide_input=True, err=True)
        options["form_entry"] = (f"password={password}",)
    options["non_inter"] = True


def _ping_address(text: str | None) -> IPv4Address | None:
    try:
        return None if text is None else IPv4Address(text)
    except AddressValueError:
        raise ConfigurationError(f"--ping {text!r} is no IPv4 address") from None


def _raise_file_limit(sessions: int, settings: ClientSettings) -> None:
    """Raises: ConfigurationError: the system does not allow that many sockets."""
    wanted = sessions * (2 if settings.dtls.enabled else 1) + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (OSError, ValueError):
        raise ConfigurationError(
            f"{sessions} sessions take {wanted} open files, the system allows {hard}: raise the "
            "hard limit (ulimit -Hn), or run several of these with fewer sessions"
        ) from None


def _warn_of_few_ports(sessions: int, progress: Progress) -> None:
    try:
        first, last = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return  # not Linux: the connections will tell
    if last - first + 1 < sessions:
        progress.say(
            f"anyvpn: {last - first + 1} local ports (net.ipv4.ip_local_port_range) are fewer than "
            f"{sessions} sessions"
        )
