"""Going into the background once the tunnel is up, and the pid file of it."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from anyvpn.errors import ConfigurationError

_UP = b"up"


class PidFile:
    """Says which process has the tunnel; removed at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Raises: ConfigurationError: the process that it names is alive."""
        try:
            pid = int(self._path.read_text().strip())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return
        raise ConfigurationError(
            f"{self._path} names process {pid}, which is alive: end it, or choose another file"
        )

    def write(self) -> None:
        """Name this process. Raises: ConfigurationError."""
        try:
            self._path.write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise ConfigurationError(f"cannot write {self._path}: {error.strerror}") from None

    def remove(self) -> None:
        """Nobody has the tunnel any more."""
        with suppress(OSError):
            self._path.unlink()


class Background:
    """A child that keeps the terminal until the tunnel is up; the parent waits for that.

    The fork comes before the reactor, whose descriptors must not be shared.
    """

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        child = os.fork()
        if child:
            os.close(self._writing)
            raise SystemExit(_wait_for(child, reading))
        os.close(reading)

    def detach(self) -> None:
        """The tunnel is up: let the parent and the terminal go."""
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123 - a descriptor is wanted
            for number in range(3):
                os.dup2(nothing.fileno(), number)
        os.write(self._writing, _UP)
        os.close(self._writing)


def _wait_for(child: int, reading: int) -> int:
    """0 when the child says that it is up, else its own exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child has it too, and says goodbye
    with os.fdopen(reading, "rb") as pipe:
        if pipe.read(len(_UP)) == _UP:
            sys.stderr.write(f"Continuing in the background; pid {child}\n")
            return 0
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
