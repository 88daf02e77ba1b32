"""Our gateway, set up by `anyvpn init` and run by `twistd`, as an operator does it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from pathlib import Path

import pytest

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program
from tests.interop import toml

REPOSITORY = Path(__file__).parents[2]
PLUGINS = Path(__file__).with_name("plugins")
TWISTD = str(Path(sys.executable).with_name("twistd"))
ANYVPN = (sys.executable, "-m", "anyvpn.cli.main")
NAME = "vpn.test"
PORT = 4443
PASSWORD = "test-pass"
STARTED = r"Gateway \S+ listens on "
START_TIME_S = 30.0
ENGINES = (pytest.param("compiled", marks=pytest.mark.extension), "python")
"""For fixtures of modules that are run with both of them."""
TROUBLE = re.compile(r"Traceback|Unhandled|\[.*#(error|critical)\]")


def environment() -> dict[str, str]:
    """Lets the commands find the package in this tree, and the backends of these tests."""
    path = f"{REPOSITORY}:{PLUGINS}"
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def run_anyvpn(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the `anyvpn` command."""
    return subprocess.run(
        [*ANYVPN, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )


class Gateway:
    """A gateway's directory, and its process, which may be started again and again.

    What it prints is looked through when it is stopped: a traceback fails the test.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        *,
        users: Sequence[str] = ("alice",),
        changes: Mapping[str, object] | None = None,
        twistd_options: Sequence[str] = (),
        twistd: Sequence[str] = (TWISTD,),
    ) -> None:
        self.namespace = namespace
        self.directory = directory
        self._twistd = (*twistd, "--nodaemon", "--pidfile=", *twistd_options)
        self._program: Program | None = None
        self.expected_trouble: list[str] = []
        """What error lines of its log a test wants to see, as patterns."""
        done = run_anyvpn(
            *("init", str(directory), "--name", NAME),
            *("--listen", f"tcp:{PORT}", "--listen", rf"tcp:{PORT}:interface=\:\:"),
            *("--user", users[0], "--password-file", "-"),
            stdin=f"{PASSWORD}\n",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.settings = tomllib.loads(self.configuration_file.read_text())
        for user in users[1:]:
            self.add_user(user)
        self.change(changes or {})

    @property
    def configuration_file(self) -> Path:
        """The one file of an operator."""
        return self.directory / "gateway.toml"

    @property
    def ca_file(self) -> Path:
        """What clients trust."""
        return self.directory / "ca.pem"

    @property
    def program(self) -> Program:
        """The running process."""
        assert self._program is not None, "not started"
        return self._program

    @property
    def inner_addresses(self) -> tuple[str, str]:
        """Its own addresses in the tunnel network, IPv4 and IPv6."""
        found = [ip_interface(address) for address in self._tun_addresses()]
        return (
            next(str(each.ip) for each in found if each.version == 4),
            next(str(each.ip) for each in found if each.version == 6),
        )

    @property
    def inner_networks(self) -> tuple[str, ...]:
        """The networks that clients have their addresses from."""
        return tuple(str(ip_interface(address).network) for address in self._tun_addresses())

    def change(self, changes: Mapping[str, object]) -> None:
        """Lay changes over the configuration file; connection profiles keep its authenticator."""
        self.settings = toml.merge(self.settings, changes)
        authenticator = next(iter(self.settings["authenticators"]))
        for profile in self.settings["connection_profiles"]:
            profile.setdefault("authenticator", authenticator)
        self.configuration_file.write_text(toml.write(self.settings))

    def add_user(self, user: str, *groups: str) -> None:
        """Add a user whose password is `PASSWORD`."""
        group_options = [part for group in groups for part in ("--group", group)]
        done = run_anyvpn(
            *("user", "add", user, "--config", str(self.configuration_file)),
            *(*group_options, "--password-file", "-"),
            stdin=f"{PASSWORD}\n",
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def launch(self) -> Program:
        """Start the process without waiting for it."""
        self._program = Program(
            "the gateway",
            self.namespace.command(
                [
                    *self._twistd,
                    *("anyvpn-gateway", "--config", str(self.configuration_file)),
                ]
            ),
            environment=environment(),
            directory=self.directory,
        )
        return self._program

    def start(self) -> None:
        """Start the process and wait until it serves."""
        self.launch().wait_for(STARTED, limit_s=START_TIME_S)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it as an operator does, and look through what it has printed."""
        if self._program is None:
            return
        program, self._program = self._program, None
        status = program.stop(number)
        self.check_log(program)
        assert status == 0, f"the gateway ended with {status}\n{program.output()[-3000:]}"

    def kill(self) -> None:
        """End it as a power cut does."""
        program, self._program = self.program, None
        program.kill()
        self.check_log(program)

    def check_log(self, program: Program) -> None:
        """No traceback, nothing unhandled, no error."""
        lines = program.output().splitlines()
        for number, line in enumerate(lines):
            if any(re.search(each, line) for each in self.expected_trouble):
                continue
            if TROUBLE.search(line):
                trouble = "\n".join(lines[max(0, number - 5) : number + 40])
                raise AssertionError(f"trouble in the gateway's log:\n{trouble}")

    def wait_for_event(
        self, kind: str, *, user: str = "", detail: str = "", limit_s: float = 10.0, since: int = 0
    ) -> str:
        """Wait for the log line of an event; gives the line."""
        pattern = rf"\b{kind}\b.*user={re.escape(user)}\b.*{detail}.*"
        return self.program.wait_for(pattern, limit_s=limit_s, since=since)[0]

    def _tun_addresses(self) -> list[str]:
        pools = self.settings["addresses"]["pools"]
        addresses = []
        for pool in pools:
            network = ip_interface(pool["network"])
            gateway = pool.get("gateway") or str(network.network[1])
            addresses.append(f"{gateway}/{network.network.prefixlen}")
        return addresses
