"""Where a gateway's time goes meanwhile: the functions that take most of it.

py-spy knows Python's functions and those that they call; perf knows the compiled engine's threads
and the kernel.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from anyvpn.testing.programs import UnmetExpectation

Profile = tuple[tuple[str, float], ...]
"""Functions with their share of the time in percent, the greatest first."""
Profiler = Literal["py-spy", "perf"]

# From py-spy: "thread (number): name", "name (file:line)"; from perf: "12.34%  [k] name"
_MAIN_THREAD = ": MainThread"
_FRAME = re.compile(r"(?P<name>.+) \((?P<file>[^:()]+)(?::\d+)?\)$")
_PERF_LINE = re.compile(r"^ +(?P<share>[\d.]+)% +\[(?P<kind>.)\] (?P<name>\S+)")

# Ours
SAMPLES_PER_S = 250
MOST_FUNCTIONS = 12
LEAST_SHARE = 1.0
_PYTHON_FILE = ".py"


def why_not(profiler: Profiler) -> str:
    """Why it cannot be had; empty when it can."""
    if profiler == "py-spy":
        return "" if _py_spy().exists() else "py-spy is not installed"
    return "" if shutil.which("perf") else "perf is not installed (Debian: linux-perf)"


def record(profiler: Profiler, pid: int, time_s: int) -> Profile:
    """Look at the process for that long. Raises: UnmetExpectation: the profiler fails."""
    with TemporaryDirectory(prefix="anyvpn-bench-") as directory:
        output = Path(directory) / "profile"
        if profiler == "py-spy":
            _run(
                *(str(_py_spy()), "record", "--native", "--threads", "--format", "raw"),
                *("--output", str(output), "--rate", str(SAMPLES_PER_S)),
                *("--duration", str(time_s), "--pid", str(pid)),
            )
            return read_py_spy(output.read_text())
        _run(
            *("perf", "record", "--event", "cpu-clock", "--freq", str(SAMPLES_PER_S * 4)),
            *("--output", str(output), "--pid", str(pid), "--", "sleep", str(time_s)),
        )
        report = ("perf", "report", "--input", str(output), "--sort", "symbol", "--stdio")
        return read_perf(_run(*report))


def read_py_spy(stacks: str) -> Profile:
    """The functions of collapsed stacks; what Python calls counts by its own name.

    All packets are moved in the reactor's thread, and all of a login but what is stored of it.
    Others, which wait for work nearly always, are taken for busy at times and left out.
    """
    counts: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *calls = stack.split(";")
        frames = [found for each in calls if (found := _FRAME.match(each))]
        python = [each for each in frames if each["file"].endswith(_PYTHON_FILE)]
        if not thread.endswith(_MAIN_THREAD) or not python:
            continue
        name = _name(python[-1])
        if frames[-1] is not python[-1] and not frames[-1]["name"].startswith("0x"):
            name = f"{name} → {frames[-1]['name']}"
        counts[name] += int(count)
    total = counts.total()
    shares = ((name, 100 * count / total) for name, count in counts.most_common(MOST_FUNCTIONS))
    return tuple((name, share) for name, share in shares if share >= LEAST_SHARE)


def read_perf(report: str) -> Profile:
    """The functions of perf's report; those of the kernel say so."""
    found = []
    for line in report.splitlines():
        match = _PERF_LINE.match(line)
        if match is not None and float(match["share"]) >= LEAST_SHARE:
            where = " (kernel)" if match["kind"] == "k" else ""
            found.append((f"{match['name']}{where}", float(match["share"])))
    return tuple(found[:MOST_FUNCTIONS])


def _name(frame: re.Match[str]) -> str:
    return f"{frame['name']} ({Path(frame['file']).name})"


def _py_spy() -> Path:
    return Path(sys.executable).with_name("py-spy")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise UnmetExpectation(f"{command[0]} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout
