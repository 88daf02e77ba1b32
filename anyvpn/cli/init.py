"""`anyvpn init`: a complete working set-up in a directory."""

from __future__ import annotations

from pathlib import Path

import click

from anyvpn.cli.init_files import check_nothing_is_there, write_set_up
from anyvpn.cli.init_plan import make_plan, next_steps
from anyvpn.cli.passwords import PASSWORD_FILE


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--name", help="Host name or IP address by which clients reach the gateway.")
@click.option(
    "--listen",
    multiple=True,
    metavar="ENDPOINT",
    help="Where to listen, as a Twisted endpoint string; may be given several times. "
    "Without it: TCP port 443 at all addresses.",
)
@click.option("--user", help="Name of the first user.")
@PASSWORD_FILE
def init(
    *,
    directory: Path,
    name: str | None,
    listen: tuple[str, ...],
    user: str | None,
    password_file: str | None,
) -> None:
    """Make a complete working set-up in DIRECTORY.

    It gets a certificate authority, a server certificate, the configuration gateway.toml with
    every key explained, a user file and a client profile. Nothing is overwritten. What is not
    given is asked for when there is a terminal.
    """
    check_nothing_is_there(directory)
    plan = make_plan(directory, name, listen, user, password_file)
    write_set_up(plan)
    click.echo(next_steps(plan))
