"""The terminal, as it is to be left when a program that used it was made to end."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def terminal_kept() -> Iterator[None]:
    """Afterwards the terminal has the modes and the foreground job that it has now.

    A shell or an editor that is killed leaves it in a state that makes it useless.
    """
    try:
        descriptor = sys.stdin.fileno()
        modes = termios.tcgetattr(descriptor)
        job = os.tcgetpgrp(descriptor)
    except (OSError, ValueError, AttributeError, termios.error):  # there is none
        yield
        return
    try:
        yield
    finally:
        if job == os.getpgrp():
            with suppress(OSError, termios.error):
                _take_back(descriptor, job, modes)


def _take_back(descriptor: int, job: int, modes: list[Any]) -> None:
    current = os.tcgetpgrp(descriptor)
    if current != job and _is_alive(current):
        return  # the user has put us into the background
    # Who is not in the foreground is stopped for touching it, unless it ignores that
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(descriptor, job)
        termios.tcsetattr(descriptor, termios.TCSANOW, modes)
    finally:
        signal.signal(signal.SIGTTOU, before)


def _is_alive(job: int) -> bool:
    try:
        os.killpg(job, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
