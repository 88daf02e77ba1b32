"""A terminal is left as it was found."""

from __future__ import annotations

import os
import pty
import sys
import termios
import time
import unittest
from collections.abc import Callable

from anyvpn.cli.terminal import terminal_kept

ECHO = 3
"""Where `termios.tcgetattr` has the local modes."""


def at_a_terminal(act: Callable[[], None]) -> int:
    """Do it in a process of its own, at a terminal of its own; gives its exit status."""
    process, terminal = pty.fork()
    if process == 0:
        try:
            # The test runner has put something else in its place
            with open(0, closefd=False) as sys.stdin:
                act()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    said = b""
    try:
        while chunk := os.read(terminal, 1000):
            said += chunk
    except OSError:
        pass  # the other end is closed
    finally:
        os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert not said, said
    return status


def in_the_foreground(act: Callable[[], None], *, ends: bool) -> int:
    """What a shell does for a job: its own group, which gets the terminal."""
    ready, told = os.pipe()
    job = os.fork()
    if job == 0:
        os.read(ready, 1)
        act()
        if not ends:
            time.sleep(30)
        os._exit(0)
    os.setpgid(job, job)
    os.tcsetpgrp(0, job)
    os.write(told, b"!")
    if ends:
        os.waitpid(job, 0)
    return job


def spoil_modes() -> None:
    modes = termios.tcgetattr(0)
    modes[ECHO] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, modes)


class TerminalTests(unittest.TestCase):
    def test_modes_and_foreground_are_taken_back_from_a_dead_job(self) -> None:
        def act() -> None:
            with terminal_kept():
                in_the_foreground(spoil_modes, ends=True)
                assert not termios.tcgetattr(0)[ECHO] & termios.ECHO
            assert os.tcgetpgrp(0) == os.getpgrp()
            assert termios.tcgetattr(0)[ECHO] & termios.ECHO

        self.assertEqual(at_a_terminal(act), 0)

    def test_a_terminal_that_somebody_else_uses_is_left_to_them(self) -> None:
        def act() -> None:
            with terminal_kept():
                other = in_the_foreground(lambda: None, ends=False)
            assert os.tcgetpgrp(0) == other
            os.kill(other, 9)

        self.assertEqual(at_a_terminal(act), 0)

    def test_without_a_terminal_nothing_happens(self) -> None:
        def act() -> None:
            ready, _ = os.pipe()
            with open(ready, closefd=False) as sys.stdin, terminal_kept():
                pass

        self.assertEqual(at_a_terminal(act), 0)
