"""The `anyvpn` command: what an operator types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from anyvpn import __version__
from anyvpn.cli.backends import show_backends
from anyvpn.cli.bench import bench
from anyvpn.cli.check import check_file
from anyvpn.cli.cleanup import cleanup
from anyvpn.cli.codes import devices, hotp, totp
from anyvpn.cli.connect import authenticate, connect
from anyvpn.cli.explain import explain
from anyvpn.cli.init import make_plan, next_steps
from anyvpn.cli.init_files import check_nothing_is_there, write_set_up
from anyvpn.cli.passwords import read_password
from anyvpn.cli.run import run
from anyvpn.cli.status import status
from anyvpn.cli.users import add_user, change_password, find_user_file, list_users, remove_user
from anyvpn.errors import ConfigurationError

Command = Callable[..., Any]

PASSWORD_FILE = click.option(
    "--password-file",
    metavar="FILE|-",
    help="File whose first line is the password; - reads it from standard input. "
    "Without this option the password is asked for.",
)


class AnyvpnGroup(click.Group):
    """Says what is wrong in lines on stderr, with exit status 1 and no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            for line in error.problems:
                click.echo(f"anyvpn: {line}", err=True)
            ctx.exit(1)


@click.group(cls=AnyvpnGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="anyvpn", message="%(prog)s %(version)s")
def main() -> None:
    """AnyConnect-compatible SSL VPN: set up a gateway, or connect to one.

    `anyvpn init` makes a working set-up, `twistd anyvpn-gateway --config FILE` runs it;
    `anyvpn connect URL` connects to it, and to Cisco's gateways and ocserv.
    """


for _command in (connect, authenticate, run, bench, cleanup, explain, show_backends, status):
    main.add_command(_command)


@main.command()
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


@main.group()
def user() -> None:
    """Keep the users of a password file, and the devices of one-time codes.

    A running gateway notices changes by itself.
    """


for _command in (totp, hotp, devices):
    user.add_command(_command)


def _which_users(command: Command) -> Command:
    """The options that say which user file is meant."""
    for option in (
        click.option(
            "--authenticator",
            metavar="NAME",
            help="Which of the configuration's authenticators; needed if several have a user file.",
        ),
        click.option("--file", type=click.Path(path_type=Path), help="The user file itself."),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="The configuration that names the user file.  [default: gateway.toml]",
        ),
    ):
        command = option(command)
    return command


@user.command("add")
@click.argument("name")
@click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="A group; may be given several times."
)
@PASSWORD_FILE
@_which_users
def user_add(
    *,
    name: str,
    groups: tuple[str, ...],
    password_file: str | None,
    config: Path | None,
    file: Path | None,
    authenticator: str | None,
) -> None:
    """Add the user NAME."""
    users = find_user_file(config, file, authenticator)
    add_user(users, name, groups, lambda: read_password(password_file, name))
    click.echo(f"added {name} to {users.path}")


@user.command("remove")
@click.argument("name")
@_which_users
def user_remove(
    *, name: str, config: Path | None, file: Path | None, authenticator: str | None
) -> None:
    """Remove the user NAME; sessions that are open stay open."""
    users = find_user_file(config, file, authenticator)
    remove_user(users, name)
    click.echo(f"removed {name} from {users.path}")


@user.command("passwd")
@click.argument("name")
@PASSWORD_FILE
@_which_users
def user_passwd(
    *,
    name: str,
    password_file: str | None,
    config: Path | None,
    file: Path | None,
    authenticator: str | None,
) -> None:
    """Give the user NAME a new password."""
    users = find_user_file(config, file, authenticator)
    change_password(users, name, lambda: read_password(password_file, name))
    click.echo(f"changed the password of {name} in {users.path}")


@user.command("list")
@_which_users
def user_list(*, config: Path | None, file: Path | None, authenticator: str | None) -> None:
    """List the users, each with its groups."""
    for line in list_users(find_user_file(config, file, authenticator)):
        click.echo(line)


@main.command()
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


if __name__ == "__main__":
    main(prog_name="anyvpn")
