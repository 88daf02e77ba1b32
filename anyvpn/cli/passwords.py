"""Gets a new password: from a file, from standard input, or from whoever sits at the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from anyvpn.errors import ConfigurationError

# Ours
LONGEST_LINE = 4096
FROM_STDIN = "-"

PASSWORD_FILE = click.option(
    "--password-file",
    metavar="FILE|-",
    help="File whose first line is the password; - reads it from standard input. "
    "Without this option the password is asked for.",
)


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def read_password(source: str | None, user: str) -> str:
    """The password for `user`: the first line of the file `source`, or asked for twice.

    Raises: ConfigurationError: there is none, and nobody to ask.
    """
    if source is None:
        if not at_terminal():
            raise ConfigurationError(
                "a password is needed: give --password-file FILE, or - for standard input"
            )
        asked: str = click.prompt(
            f"Password for {user}", hide_input=True, confirmation_prompt="The same again", err=True
        )
        return asked
    return read_first_line(source, "password")


def read_first_line(source: str, what: str) -> str:
    """The first line of the file `source`. Raises: ConfigurationError: there is no such text."""
    if source == FROM_STDIN:
        line = sys.stdin.buffer.readline(LONGEST_LINE + 1)
    else:
        try:
            with Path(source).open("rb") as file:
                line = file.readline(LONGEST_LINE + 1)
        except OSError as error:
            raise ConfigurationError(f"{source}: cannot be read: {error.strerror}") from error
    name = "standard input" if source == FROM_STDIN else source
    if len(line) > LONGEST_LINE:
        raise ConfigurationError(f"{name}: the first line is too long for a {what}")
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}: the {what} is not UTF-8 text") from None
    if not text:
        raise ConfigurationError(f"{name}: has no {what} in its first line")
    return text
