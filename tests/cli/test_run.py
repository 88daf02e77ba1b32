"""What `anyvpn run` does with signals, however early they come."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from anyvpn.cli.progress import Progress
from anyvpn.cli.run import run_inside
from anyvpn.interfaces import IInnerNetwork


@implementer(IInnerNetwork)
class SignalledAtOnce:
    """A network whose command lets the keyboard interrupt it before anything else is done."""

    async def connect(self, host: str, port: int, timeout_s: float) -> int:
        raise NotImplementedError

    async def run(self, command: Sequence[str]) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGQUIT)
        return 9


class RunInsideTests(SynchronousTestCase):
    def test_a_command_that_is_interrupted_at_once_is_waited_for(self) -> None:
        interrupted: list[int] = []
        for number in (signal.SIGINT, signal.SIGQUIT):
            before = signal.signal(number, lambda number, _: interrupted.append(number))
            self.addCleanup(signal.signal, number, before)
        tunnel = cast(Any, SimpleNamespace(adapter=SignalledAtOnce()))
        running = run_inside(tunnel, ("true",), Progress(0), cast(Any, Clock()))
        with self.assertRaises(StopIteration) as ended:
            running.send(None)
        self.assertEqual((ended.exception.value, interrupted), (9, []))


class NotYetConnectedTests:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_command_that_never_ran_has_not_succeeded(self, number: signal.Signals) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            # Shells that start tests in the background have signals ignored, which is inherited
            program = subprocess.Popen(
                [
                    *("env", "--default-signal=INT", sys.executable, "-m", "anyvpn.cli.main"),
                    *("run", url, "--non-inter", "--", "echo", "ran"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            silent.settimeout(30)
            connected, _ = silent.accept()
            with connected:
                program.send_signal(number)
                said, complained = program.communicate(timeout=30)
        assert (program.returncode, said) == (128 + number, "")
        assert "Traceback" not in complained
