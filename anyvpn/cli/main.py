"""The `anyvpn` command: what an operator types."""

from __future__ import annotations

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


class AnyvpnGroup(click.Group):
    """Says what is wrong in lines on stderr, with exit status 1 and no traceback."""

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


@click.group(cls=AnyvpnGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="anyvpn", message="%(prog)s %(version)s")
def main() -> None:
    """AnyConnect-compatible SSL VPN: set up a gateway, or connect to one.

    `anyvpn init` makes a working set-up, `twistd anyvpn-gateway --config FILE` runs it;
    `anyvpn connect URL` connects to it, and to Cisco's gateways and ocserv.
    """


if __name__ == "__main__":
    main(prog_name="anyvpn")
