"""`anyvpn check`: everything that is wrong with a configuration, or what it says."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from anyvpn.errors import ConfigurationError
from anyvpn.tap.config_build import LoadedGateway, load_gateway
from anyvpn.tap.listen_addresses import Reactor


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def check(context: click.Context, file: Path) -> None:
    """Look for errors in the configuration FILE, and show all of them.

    Certificates, users and client profiles are looked at too; nothing is opened or changed.
    """
    try:
        click.echo(check_file(file))
    except ConfigurationError as error:
        click.echo("\n".join(error.problems), err=True)  # editors find the line by FILE:LINE
        context.exit(1)


def check_file(file: Path) -> str:
    """A short summary. Raises: ConfigurationError: everything that is wrong."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    loaded = load_gateway(file, cast(Reactor, reactor))
    return "\n".join([f"{file}: correct", *(f"  {line}" for line in _summary(loaded))])


def _summary(loaded: LoadedGateway) -> list[str]:
    settings, dtls = loaded.settings, loaded.settings.dtls
    udp = f"UDP port {dtls.port}" if dtls.enabled else "no DTLS"
    profiles = ", ".join(
        each.profile.name
        + ("" if each.profile.listed else " (not listed)")
        + (" (default)" if each.profile.name == settings.default_profile else "")
        for each in settings.profiles
    )
    names = ", ".join(f"{key}: {name}" for key, name in loaded.backend_names.items())
    inner = ", ".join(str(each.network) for each in settings.addresses.gateway_addresses)
    return [
        f"gateway              {settings.name}",
        f"listens on           {', '.join(each.text for each in loaded.listen)}; {udp}",
        f"connection profiles  {profiles}",
        f"inner networks       {inner}",
        f"backends             {names}",
    ]
