"""Ends a process that leads a group of its own, with all that it has started."""

from __future__ import annotations

import os
from contextlib import suppress
from signal import SIGKILL


def kill_group(leader: int) -> None:
    """Kill the group of this process, which may have ended before the others in it."""
    for kill in (os.kill, os.killpg):  # alone too, for it may not lead a group yet
        with suppress(ProcessLookupError, PermissionError):
            kill(leader, SIGKILL)
