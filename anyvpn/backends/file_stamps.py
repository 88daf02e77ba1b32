"""Whether a file has become another one since somebody looked."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int | str, ...]


def stamp_of(path: Path) -> Stamp:
    """What changes whenever the file does; files that cannot be seen have one, too."""
    try:
        status = path.stat()
    except OSError as error:
        return (str(error),)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
