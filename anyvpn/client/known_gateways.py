"""Trust on first use: which key each gateway showed when it was first met.

A text file, one line for each gateway: host, port, and the pin of its key.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anyvpn.errors import ConfigurationError

_HEAD = "# Gateways whose key was accepted when it was first seen: host, port, key.\n"


class KnownGateways:
    """Read anew at each question: several clients may share the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, host: str, port: int) -> str:
        """The pin of that gateway; empty when it was never met.

        Raises: ConfigurationError: the file cannot be read, or a line of it.
        """
        return self._read().get((host.lower(), port), "")

    def add(self, host: str, port: int, pin: str) -> None:
        """Remember a gateway. Raises: ConfigurationError: the file cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                known = self._read()
                known[host.lower(), port] = pin
                lines = [f"{name} {number} {each}\n" for (name, number), each in known.items()]
                with tempfile.NamedTemporaryFile(
                    "w", dir=self._path.parent, prefix=".", delete=False
                ) as file:
                    file.write(_HEAD + "".join(lines))
                Path(file.name).replace(self._path)
        except OSError as error:
            raise ConfigurationError(f"cannot write {self._path}: {error.strerror}") from None

    def _read(self) -> dict[tuple[str, int], str]:
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"cannot read {self._path}: {why}") from None
        known: dict[tuple[str, int], str] = {}
        for number, line in enumerate(lines, 1):
            parts = line.partition("#")[0].split()
            if not parts:
                continue
            if len(parts) != 3 or not parts[1].isdecimal():
                raise ConfigurationError(
                    f"{self._path}:{number}: a line is a host, a port and a pin-sha256"
                )
            known[parts[0].lower(), int(parts[1])] = parts[2]
        return known

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._path.with_name(f".{self._path.name}.lock")
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
