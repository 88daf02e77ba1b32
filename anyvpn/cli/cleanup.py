"""`anyvpn cleanup`: undo what crashed clients have left."""

from __future__ import annotations

from pathlib import Path

import click

from anyvpn.backends.adapter_linux_journal import DEFAULT_DIRECTORY, clean_up
from anyvpn.errors import ConfigurationError


@click.command()
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Where clients note what they change.",
)
def cleanup(state_directory: Path) -> None:
    """Undo what clients have left that did not end as they should: routes and resolvers.

    Clients that are alive keep what they have.
    """
    if state_directory != DEFAULT_DIRECTORY:  # which is there when a client has been
        try:
            list(state_directory.iterdir())
        except OSError as error:
            raise ConfigurationError(
                f"{state_directory}: cannot be read: {error.strerror}"
            ) from None
    undone = clean_up(state_directory)
    for line in undone:
        click.echo(line)
    if not undone:
        click.echo("nothing to undo")
