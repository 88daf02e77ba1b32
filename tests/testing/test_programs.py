from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyvpn.testing.programs import Program, UnmetExpectation, wait_until


@pytest.fixture
def started() -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.kill()


class ProgramTests:
    def test_both_streams_are_collected_line_by_line(self, started: list[Program]) -> None:
        program = Program("it", ["sh", "-c", "echo one; echo two >&2; cat"], stdin="three\n")
        started.append(program)
        assert program.wait_for_end() == 0
        assert program.output().splitlines() == ["one", "two", "three"]
        assert program.output(since=2) == "three"
        assert program.position == 3

    def test_line_that_was_there_before_is_not_found_after_it(self, started: list[Program]) -> None:
        program = Program("it", ["sh", "-c", "echo one; echo two"])
        started.append(program)
        program.wait_for_end()
        assert program.find("one")
        assert not program.find("one", since=1)

    def test_wait_for_gives_the_match_and_does_not_wait_for_the_end(
        self, started: list[Program]
    ) -> None:
        program = Program("it", ["sh", "-c", "echo port=17; exec sleep 60"])
        started.append(program)
        assert program.wait_for(r"port=(\d+)")[1] == "17"
        assert program.is_running

    def test_wait_for_fails_at_once_when_the_program_has_ended(
        self, started: list[Program]
    ) -> None:
        program = Program("it", ["sh", "-c", "echo something else"])
        started.append(program)
        began_at_s = time.monotonic()
        with pytest.raises(UnmetExpectation, match=r"(?s)it has ended.*something else"):
            program.wait_for("never", limit_s=30)
        assert time.monotonic() - began_at_s < 10

    def test_wait_for_fails_when_the_time_is_up(self, started: list[Program]) -> None:
        program = Program("it", ["sleep", "60"])
        started.append(program)
        with pytest.raises(UnmetExpectation, match=re.escape("not within 0.1 s")):
            program.wait_for("never", limit_s=0.1)

    def test_stop_gives_the_exit_status(self, started: list[Program]) -> None:
        program = Program("it", ["sh", "-c", "trap 'exit 3' INT; echo ready; while :; do :; done"])
        started.append(program)
        program.wait_for("ready")
        assert program.stop(signal.SIGINT) == 3

    def test_program_that_does_not_stop_is_killed_and_reported(
        self, started: list[Program]
    ) -> None:
        program = Program("it", ["sh", "-c", "trap '' INT; echo ready; while :; do sleep 1; done"])
        started.append(program)
        program.wait_for("ready")
        with pytest.raises(UnmetExpectation, match="it still runs"):
            program.stop(signal.SIGINT, limit_s=0.2)
        assert not program.is_running

    def test_program_ends_with_the_one_that_started_it(self, started: list[Program]) -> None:
        code = (
            "import os, signal\n"
            "from anyvpn.testing.programs import Program\n"
            "child = Program('child', ['sh', '-c', 'echo runs; exec sleep 60'])\n"
            "child.wait_for('runs')\n"
            "print(child.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        parent = Program(
            "parent",
            [sys.executable, "-c", code],
            environment={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        )
        started.append(parent)
        child = int(parent.wait_for(r"^\d+$")[0])
        parent.wait_for_end()
        wait_until(lambda: not is_alive(child), "the child has ended")


class WaitTests:
    def test_wait_until_gives_what_was_found(self) -> None:
        found = iter(["", "", "it"])
        assert wait_until(lambda: next(found), "something") == "it"

    def test_wait_until_says_what_was_missed(self) -> None:
        with pytest.raises(UnmetExpectation, match="the moon; last seen: None"):
            wait_until(lambda: None, "the moon", limit_s=0.05)


def is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
