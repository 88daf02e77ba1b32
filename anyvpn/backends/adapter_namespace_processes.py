"""The processes that live in a network namespace, and their end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# Ours
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What a terminal sends to all of its job: they are for the programs that run inside."""
END_TIME_S = 3.0
"""What a process has to tidy up, for each of the two signals that ask it to end."""
_LOOK_AGAIN_AFTER_S = 0.02
_IN_ORDER = (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)


def network_of(process: int | str) -> str:
    """The network namespace that a process is in, as a name; empty for one that may not be seen."""
    try:
        return str(Path(f"/proc/{process}/ns/net").readlink())
    except OSError:
        return ""


def processes_in(network: str) -> list[int]:
    """The processes in that network namespace, without this one."""
    own = os.getpid()
    numbers = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return [each for each in numbers if each != own and network_of(each) == network]


def end_processes_in(network: str, signals: Sequence[signal.Signals] = _IN_ORDER) -> None:
    """End them all, children of children too: asked first, killed in the end. Blocking."""
    for number in signals:
        for process in processes_in(network):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)
                os.kill(process, signal.SIGCONT)  # one that is stopped hears nothing
        ends_at_s = time.monotonic() + END_TIME_S
        while processes_in(network):
            if time.monotonic() > ends_at_s:
                break
            time.sleep(_LOOK_AGAIN_AFTER_S)
        else:
            return
