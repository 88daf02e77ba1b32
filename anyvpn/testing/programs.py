"""Other programs, driven by what they print: for tests and demonstrations."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

# Ours
LINES_SHOWN = 40
LOOK_AGAIN_AFTER_S = 0.02
STOP_TIME_S = 15.0


class UnmetExpectation(AssertionError):
    """What was waited for did not come in time; the text says what was there instead."""


def wait_until(look: Callable[[], Found], what: str, *, limit_s: float = 10.0) -> Found:
    """Look again and again until there is something true. Raises: UnmetExpectation."""
    ends_at_s = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > ends_at_s:
            raise UnmetExpectation(f"not within {limit_s:g} s: {what}; last seen: {found!r}")
        time.sleep(LOOK_AGAIN_AFTER_S)


class Program:
    """A running program whose output, both streams in one, is collected line by line.

    It is killed by the kernel when the program that started it ends in whatever way.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._silent = False
        self._process = subprocess.Popen(
            # Shells that start us in the background have signals ignored, and that is inherited
            ["setpriv", "--pdeathsig", "KILL", "--", "env", "--default-signal=INT,HUP", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            process_group=0,  # Ctrl-C on the terminal is for us: we end the others in order
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(stdin.encode())
            self._process.stdin.close()
        except BrokenPipeError:
            self._process.stdin = None

    @property
    def pid(self) -> int:
        """The process id, also after the end."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def position(self) -> int:
        """How many lines there are; to be given as `since` to what comes after."""
        with self._news:
            return len(self._lines)

    def output(self, since: int = 0) -> str:
        """What it has printed, from line `since` on."""
        with self._news:
            return "\n".join(self._lines[since:])

    def find(self, pattern: str, since: int = 0) -> re.Match[str] | None:
        """The first line from `since` on in which the pattern occurs."""
        with self._news:
            return self._find(re.compile(pattern), since)

    def wait_for(self, pattern: str, *, limit_s: float = 15.0, since: int = 0) -> re.Match[str]:
        """Wait for a line. Raises: UnmetExpectation: the time is up or the program has ended."""
        expression = re.compile(pattern)
        ends_at_s = time.monotonic() + limit_s
        with self._news:
            while (match := self._find(expression, since)) is None:
                left_s = ends_at_s - time.monotonic()
                if left_s <= 0 or self._silent:
                    why = f"{self.name} has ended" if self._silent else f"not within {limit_s:g} s"
                    raise UnmetExpectation(f"{why}: no line matches {pattern!r}\n{self._tail()}")
                self._news.wait(left_s)
        return match

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        self._process.send_signal(number)

    def wait_for_end(self, limit_s: float = STOP_TIME_S) -> int:
        """The exit status. Raises: UnmetExpectation: still running when the time is up."""
        try:
            status = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise UnmetExpectation(
                f"{self.name} still runs after {limit_s:g} s\n{self._tail()}"
            ) from None
        self._reader.join(limit_s)
        return status

    def stop(self, number: signal.Signals = signal.SIGINT, *, limit_s: float = STOP_TIME_S) -> int:
        """Ask it to end, by `number`, and wait; it is killed when it does not."""
        if self.is_running:
            self.send_signal(number)
        try:
            return self.wait_for_end(limit_s)
        except UnmetExpectation:
            self.kill()
            raise

    def kill(self) -> int:
        """End it at once."""
        self._process.kill()
        return self.wait_for_end()

    def _find(self, expression: re.Pattern[str], since: int) -> re.Match[str] | None:
        return next((m for m in map(expression.search, self._lines[since:]) if m), None)

    def _tail(self) -> str:
        lines = "\n".join(f"  {line}" for line in self._lines[-LINES_SHOWN:])
        return f"{self.name} ({' '.join(self.command)}) has printed:\n{lines}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                with self._news:
                    self._lines.append(text)
                    self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()
