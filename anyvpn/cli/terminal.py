"""The terminal, as it is to be left when a program that used it was made to end."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress


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
            # Who is not in the foreground is stopped for touching it, unless it ignores that
            before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            with suppress(OSError, termios.error):
                os.tcsetpgrp(descriptor, job)
                termios.tcsetattr(descriptor, termios.TCSADRAIN, modes)
            signal.signal(signal.SIGTTOU, before)
