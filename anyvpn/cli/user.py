"""`anyvpn user`: the users of a password file, and the devices of one-time codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from anyvpn.cli.codes import devices, hotp, totp
from anyvpn.cli.passwords import PASSWORD_FILE, read_password
from anyvpn.cli.users import add_user, change_password, find_user_file, list_users, remove_user

Command = Callable[..., Any]


@click.group()
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
