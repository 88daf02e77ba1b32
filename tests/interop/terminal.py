"""A command at a terminal of its own, at which a test types."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TIME_S = 20.0


class Terminal:
    """The command runs in a session of its own, whose terminal this is."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        self._process, self._descriptor = pty.fork()
        if self._process == 0:
            os.chdir(directory)
            os.execvpe(command[0], list(command), dict(environment))
        self.shown = b""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: bytes) -> re.Match[bytes]:
        """What is found is taken away, so that the next wait is for something new."""
        ends_at_s = time.monotonic() + TIME_S
        while (found := re.search(pattern, self.shown)) is None:
            ready, _, _ = select.select([self._descriptor], [], [], ends_at_s - time.monotonic())
            assert ready, (pattern, self.shown)
            try:
                self.shown += os.read(self._descriptor, 1000)
            except OSError:  # everybody has closed it
                raise AssertionError((pattern, self.shown, self.wait_for_end())) from None
        self.shown = self.shown[found.end() :]
        return found

    def wait_for_end(self) -> int:
        """Gives the exit status."""
        ends_at_s = time.monotonic() + TIME_S
        while True:
            found, status = os.waitpid(self._process, os.WNOHANG)
            if found:
                os.close(self._descriptor)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < ends_at_s, self.shown
            if select.select([self._descriptor], [], [], 0.05)[0]:
                try:
                    self.shown += os.read(self._descriptor, 1000)
                except OSError:
                    time.sleep(0.05)  # everybody has closed it
