"""The `anyvpn` command: what an operator types."""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from anyvpn import __version__
from anyvpn.errors import ConfigurationError

COMMANDS = {
    "authenticate": "anyvpn.cli.connect:authenticate",
    "backends": "anyvpn.cli.backends:show_backends",
    "bench": "anyvpn.cli.bench:bench",
    "check": "anyvpn.cli.check:check",
    "cleanup": "anyvpn.cli.cleanup:cleanup",
    "connect": "anyvpn.cli.connect:connect",
    "explain": "anyvpn.cli.explain:explain",
    "init": "anyvpn.cli.init:init",
    "run": "anyvpn.cli.run:run",
    "status": "anyvpn.cli.status:status",
    "user": "anyvpn.cli.user:user",
}
"""Where each is: only the one that is typed is imported, since all of them take a second."""


# From Linux
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What writing to an output fails with, besides the broken pipe, which the library knows."""


class AnyvpnGroup(click.Group):
    """Says what is wrong in lines on stderr, with exit status 1 and no traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run it; of a broken pipe nothing is said."""
        _open_closed_streams()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            # Or Python would try to write the rest when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"anyvpn: the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - from click
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - from click
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            for line in error.problems:
                click.echo(f"anyvpn: {line}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:  # perhaps while the command was still imported
            ctx.exit(128 + signal.SIGINT)


def _open_closed_streams() -> None:
    """Whoever starts us may have closed them: nothing is read then, and writing fails."""
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


@click.group(cls=AnyvpnGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="anyvpn", message="%(prog)s %(version)s")
def main() -> None:
    """AnyConnect-compatible SSL VPN: set up a gateway, or connect to one.

    `anyvpn init` makes a working set-up, `twistd anyvpn-gateway --config FILE` runs it;
    `anyvpn connect URL` connects to it, and to Cisco's gateways and ocserv.
    """


if __name__ == "__main__":
    main(prog_name="anyvpn")
