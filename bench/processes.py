"""What a program with all of its processes and threads costs, as the kernel counts it.

Source: Linux, proc(5), Documentation/filesystems/proc.rst, Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# From Linux: places in /proc/PID/stat behind the name in brackets, which is field 2
_PARENT = 1
_TIMES_OF_CHILDREN = slice(13, 15)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Processes:
    """The process `pid` and all that came from it; ocserv has one for each client."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_s(self) -> float:
        """User and system time so far; processes that have ended count with their parent's.

        That of living threads is known to the nanosecond, that of dead children to a hundredth of
        a second.
        """
        total_s = 0.0
        for pid in self._family():
            with suppress(OSError):  # it has just ended
                total_s += sum(map(int, _stat(pid)[_TIMES_OF_CHILDREN])) / _TICKS_PER_S
                total_s += sum(map(_time_of_thread_s, Path(f"/proc/{pid}/task").iterdir()))
        return total_s

    def pss_bytes(self) -> int:
        """Memory, what several processes share divided by their number."""
        return self._sum("smaps_rollup", "Pss:")

    def rss_bytes(self) -> int:
        """Memory that is in RAM now."""
        return self._sum("status", "VmRSS:")

    def _sum(self, file: str, word: str) -> int:
        kilobytes = 0
        for pid in self._family():
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
                kilobytes += sum(int(each.split()[1]) for each in lines if each.startswith(word))
        return kilobytes * 1024

    def _family(self) -> Iterator[int]:
        parents: dict[int, int] = {}
        for directory in Path("/proc").iterdir():
            if directory.name.isdecimal():
                with suppress(OSError):
                    parents[int(directory.name)] = int(_stat(int(directory.name))[_PARENT])
        found = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        yield from found


def _time_of_thread_s(directory: Path) -> float:
    return int((directory / "schedstat").read_text().split()[0]) / 1e9


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()
