"""`make run`, as root and inside a user namespace."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program, wait_until
from tests.interop.gateway import REPOSITORY, environment

OWN_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
SHOWN_IN_S = 120.0


class DemonstrationTests:
    @pytest.mark.parametrize("as_root", [True, False], ids=["as root", "in a user namespace"])
    def test_every_phase_is_shown_and_nothing_is_left(self, tmp_path: Path, as_root: bool) -> None:
        command = [sys.executable, "-m", "demo.run", "--once", "--megabytes", "20"]
        if not as_root:
            command = [*OWN_USER_NAMESPACE, *command, "--inside-user-namespace"]
        program = Program(
            "make run",
            command,
            environment={**environment(), "TMPDIR": str(tmp_path)},
            directory=REPOSITORY,
        )
        assert program.wait_for_end(SHOWN_IN_S) == 0, program.output()
        for shown in (
            *(f"Phase {number}" for number in range(1, 7)),
            r"certificate +vpn\.example\.com",
            r"cipher of CSTP +\(TLS1\.3\)",
            r"cipher of DTLS +\(DTLS1\.2\)-\(PSK\)-\(AES-256-GCM\)",
            r"MTU +\d+ bytes",
            r"ping \S+ +[\d.]+ ms on average, 0 % lost",
            r"download +20 MB .* SHA-256 matches",
            r"upload +20 MB .* SHA-256 matches",
        ):
            assert program.find(shown), f"{shown}\n{program.output()}"
        since = program.output().splitlines().index("Our own client  `anyvpn connect`, beside it")
        for shown in (
            "Connected: ",
            r"data goes over UDP \(DTLS TLS_PSK_WITH_AES_256_GCM_SHA384\)",
            r"ping \S+ +[\d.]+ ms on average, 0 % lost",
            r"download +20 MB .* SHA-256 matches",
            r"upload +20 MB .* SHA-256 matches",
        ):
            assert program.find(shown, since), f"{shown}\n{program.output()}"
        assert list(tmp_path.iterdir()) == []

    def test_printed_command_connects_another_client(self, tmp_path: Path) -> None:
        program = Program(
            "make run",
            [sys.executable, "-m", "demo.run", "--megabytes", "1"],
            environment={**environment(), "TMPDIR": str(tmp_path)},
            directory=REPOSITORY,
        )
        try:
            program.wait_for("Ctrl-C", limit_s=SHOWN_IN_S)
            pasted = program.wait_for("^(?:sudo )?nsenter --target .*")[0]
            shown = program.wait_for(r"password: (\w\S*);")
            client = Program(
                "another client", ["sh", "-c", f"exec {pasted}"], stdin=f"{shown[1]}\n"
            )
            client.wait_for("Configured as ")
            client.stop()
        finally:
            program.stop(signal.SIGINT)
        assert list(tmp_path.iterdir()) == []


class NamespaceTests:
    def test_namespace_of_a_killed_program_is_gone(self) -> None:
        code = (
            "from anyvpn.testing.namespaces import Namespace\n"
            "import os, signal\n"
            "print(Namespace('left behind').pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        program = Program("the killed one", [sys.executable, "-c", code], environment=environment())
        pid = int(program.wait_for(r"^\d+$")[0])
        program.wait_for_end()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the holder has ended")

    def test_namespace_has_nothing_but_a_loopback_device(self) -> None:
        with Namespace("empty") as namespace:
            assert namespace.devices() == ("lo",)
