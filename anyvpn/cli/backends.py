"""`anyvpn backends`: what a configuration can name."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from anyvpn.plugins import backends

# Ours
WIDTH_OF_PIPES = 160


def show_backends() -> None:
    """A table of all installed backends."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for each in backends():
        table.add_row(each.kind, each.name, each.summary)
    # whoever reads a pipe wants a backend on each line
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_PIPES)
    console.print(table)
