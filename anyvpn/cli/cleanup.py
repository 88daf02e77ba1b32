"""`anyvpn cleanup`: undo what crashed clients have left."""

from __future__ import annotations

from pathlib import Path

import click

from anyvpn.backends.adapter_linux_journal import DEFAULT_DIRECTORY, clean_up


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
    undone = clean_up(state_directory)
    for line in undone:
        click.echo(line)
    if not undone:
        click.echo("nothing to undo")
