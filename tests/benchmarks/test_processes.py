"""What a family of processes costs."""

from __future__ import annotations

import os
import signal
import sys

from anyvpn.testing.programs import Program, wait_until
from bench.processes import Processes

BURN_S = 0.3
BURN = f"""
import os, time
def burn():
    end = time.process_time() + {BURN_S}
    while time.process_time() < end: pass
kept = bytearray(40 << 20)
if not os.fork():
    burn()
    if not os.fork():
        burn()
        time.sleep(60)
    os.wait()
burn()
if not os.fork():
    burn()
    os._exit(0)
os.wait()
print("burnt", flush=True)
time.sleep(60)
"""


class ProcessesTests:
    def test_children_their_children_and_dead_ones_count(self) -> None:
        program = Program("burner", [sys.executable, "-c", BURN])
        try:
            program.wait_for("burnt")
            processes = Processes(program.pid)
            wait_until(lambda: processes.cpu_s() >= 4 * BURN_S, "all four have burnt their share")
            assert processes.cpu_s() < 4 * BURN_S + 1.0
            assert processes.rss_bytes() > 3 * processes.pss_bytes() / 2, "three share 40 MB"
            assert processes.pss_bytes() > 40 << 20
        finally:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait_for_end()

    def test_others_do_not_count(self) -> None:
        program = Program("sleeper", ["sleep", "60"])
        try:
            assert Processes(program.pid).cpu_s() < 0.5
            assert Processes(os.getpid()).pss_bytes() > Processes(program.pid).pss_bytes()
        finally:
            program.kill()
