"""Looks after files with secrets."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from twisted.logger import Logger

log = Logger()


def warn_of_readers(path: Path) -> None:
    """Tell the operator, once, when others may read the file. Raises: OSError: there is none."""
    if path.stat().st_mode & 0o077:
        _warn(path)


@cache  # thousands of logins may read the same file
def _warn(path: Path) -> None:
    log.warn("{path} can be read by others: chmod 600 it", path=str(path))
