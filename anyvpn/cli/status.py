"""`anyvpn status`: what a running gateway is and does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from anyvpn.cli.tables import print_table
from anyvpn.control.client import ask_sessions, ask_status
from anyvpn.control.status import GatewayStatus, SessionStatus
from anyvpn.errors import ConfigurationError, ControlFailed
from anyvpn.model.printable import printable
from anyvpn.tap.config import read_table
from anyvpn.tap.config_tables import ControlTable

# Ours
DEFAULT_CONFIGURATION = Path("gateway.toml")
_UNITS = ("B", "kB", "MB", "GB", "TB")


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIGURATION,
    help="The configuration of the gateway.  [default: gateway.toml]",
)
@click.option("--sessions", "with_sessions", is_flag=True, help="List its sessions as well.")
@click.option("--json", "as_json", is_flag=True, help="Print it for programs.")
def status(*, config: Path, with_sessions: bool, as_json: bool) -> None:
    """Say what a running gateway is and does.

    It is asked by its control socket, which the configuration names in [control].
    """
    control = read_table(config, "control", ControlTable)
    if not control.enabled:
        raise ConfigurationError(
            f"{config}: the gateway cannot be asked, since [control] says enabled = false"
        )
    path = control.path(config)
    try:
        found = ask_status(path)
        sessions = ask_sessions(path) if with_sessions else ()
    except ControlFailed as error:
        raise ConfigurationError(str(error)) from error
    if as_json:
        content: dict[str, Any] = asdict(found)
        if with_sessions:
            content["session_list"] = [asdict(each) for each in sessions]
        click.echo(json.dumps(content, indent=2))
        return
    print_table(("gateway", printable(found.name)), _gateway_rows(found), unbroken=("gateway",))
    if with_sessions:
        click.echo()
        titles = ("user", "inner addresses", "in", "out", "connection")
        print_table(titles, map(_session_row, sessions), unbroken=("in", "out"))


def _gateway_rows(found: GatewayStatus) -> Iterator[tuple[str, str]]:
    engine, device = found.engine, found.device
    threads = f", threads of its own: {engine.threads}" if engine.threads else ""
    states = ", ".join(f"{count} {state}" for state, count in found.sessions.items())
    yield "version", f"{found.version}, process {found.process_id}"
    yield "started", f"{_moment(found.started_at_s)}, up {_duration(found.uptime_s)}"
    yield "packet engine", f"{engine.name}{threads}, AES-GCM by {engine.cipher_library}"
    yield "listens on", ", ".join(found.listen)
    yield "DTLS", f"UDP port {found.dtls_port}" if found.dtls_port else "off"
    offloads = "yes" if device.has_offloads else "no"
    yield "tun device", f"{device.name}, MTU {device.mtu_bytes}, offloads {offloads}"
    yield "sessions", states
    yield "logins", f"{found.logins_in_progress} in progress"
    yield "packets for nobody", str(engine.unroutable_packets)
    yield "events dropped", str(engine.dropped_events)


def _session_row(found: SessionStatus) -> tuple[str, ...]:
    addresses = " ".join(found.addresses)
    moved = _bytes(found.received_bytes), _bytes(found.sent_bytes)
    return tuple(map(printable, (found.user, addresses, *moved, ", ".join(_connection(found)))))


def _connection(found: SessionStatus) -> Iterator[str]:
    yield f"{found.channel.upper() or found.state} from {found.peer}"
    if found.connected_at_s:
        yield f"since {_moment(found.connected_at_s)}"
    yield f"profile {found.profile}"
    if found.cipher:
        yield found.cipher
    for reason, count in found.drops.items():
        if count:
            yield f"{count} dropped ({reason.replace('_', ' ')})"


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _duration(time_s: float) -> str:
    minutes, seconds = divmod(int(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    shown = f"{hours}:{minutes:02}:{seconds:02}"
    return f"{days} days {shown}" if days else shown


def _bytes(count: int) -> str:
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
