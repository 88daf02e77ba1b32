"""A set-up as `anyvpn init` makes it, made once and copied for each test."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import unittest
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from twisted.internet.task import Clock

from anyvpn.cli.init_files import write_set_up
from anyvpn.cli.init_plan import Plan
from anyvpn.errors import ConfigurationError
from anyvpn.tap.config_build import LoadedGateway, load_gateway
from anyvpn.tap.listen_addresses import ListenAddress

PASSWORD = "correct horse"
NETWORKS = (IPv4Network("10.9.8.0/24"), IPv6Network("fd09:8::/64"))


@cache
def _made() -> Path:
    parent = Path(tempfile.mkdtemp(prefix="anyvpn-test-"))
    atexit.register(shutil.rmtree, parent)
    directory = parent / "gateway"
    write_set_up(
        Plan(
            directory=directory,
            name="vpn.test",
            listen=(ListenAddress("tcp:0:interface=127.0.0.1", "127.0.0.1", 0),),
            addresses=(),
            networks=NETWORKS,
            user="alice",
            password=PASSWORD,
        )
    )
    text = (directory / "gateway.toml").read_text()
    changed = text.replace("#port = 443", "port = 4433")
    assert changed != text
    (directory / "gateway.toml").write_text(changed)
    return directory


class SetUp:
    """A copy of it; `change` edits the configuration as an operator does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "gateway"
        shutil.copytree(_made(), self.directory)
        self.file = self.directory / "gateway.toml"

    def change(self, before: str, after: str) -> int:
        """Replace one line, or put more behind it; gives the line's number."""
        lines = self.file.read_text().splitlines()
        number = lines.index(before)
        lines[number] = after
        self.file.write_text("\n".join(lines) + "\n")
        return number + 1

    def load(self) -> LoadedGateway:
        """Everything that the configuration names."""
        return load_gateway(self.file, Reactor())

    def problems(self) -> list[str]:
        """What is wrong with it, without the directory; empty when nothing is."""
        try:
            self.load()
        except ConfigurationError as error:
            return [each.replace(f"{self.directory}/", "") for each in error.problems]
        return []


class ConfigurationCase(unittest.TestCase):
    """A test that edits a set-up of its own, and looks at what is wrong with it then."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.set_up = SetUp(Path(directory.name))

    def change(self, before: str, after: str) -> int:
        return self.set_up.change(before, after)

    def problems(self) -> list[str]:
        return self.set_up.problems()

    def only_problem(self) -> str:
        [problem] = self.problems()
        return problem


class Reactor(Clock):
    """A reactor that is told of threads to be ended, and never ends."""

    def addSystemEventTrigger(self, *_: object) -> None:
        """The tests end first."""
