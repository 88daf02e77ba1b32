"""Every adapter that comes along keeps the contract of adapters, on a real kernel."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program
from tests.interop.gateway import REPOSITORY


def test_adapters_keep_their_contract(tmp_path: Path) -> None:
    """Threads of theirs must be in the namespace as well, so all of the process is."""
    with Namespace("adapters") as host:
        command = [sys.executable, "-m", "twisted.trial", "tests.interop.adapters_inside"]
        program = Program(
            "trial",
            host.command(command),
            environment={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            directory=tmp_path,
        )
        assert program.wait_for_end(120) == 0, program.output()
        ran = re.search(r"^Ran (\d+) tests", program.output(), re.MULTILINE)
        assert ran is not None and int(ran[1]) == 4 * 12, program.output()
        assert host.devices() == ("lo",)
