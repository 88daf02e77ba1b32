"""Tables on the terminal, or for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Ours
WIDTH_OF_PIPES = 160


def print_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    unbroken: Sequence[str] = (),
    dim: Callable[[Sequence[str]], bool] = lambda _: False,
) -> None:
    """Print each row on a line, or on as many as it takes; `unbroken` columns are never folded.

    Cells are shown as they are: to the library brackets are colours.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=title in unbroken, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row), style="dim" if dim(row) else "")
    # whoever reads a pipe wants a row on each line
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_PIPES)
    console.print(table)
