"""The page about backends of one's own: copied out, built, installed, tested and logged in with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.interop import toml
from tests.interop.gateway import REPOSITORY, TWISTD, Gateway
from tests.interop.network import Network
from tests.interop.site import BASE, Site

PAGE = REPOSITORY / "docs" / "backends" / "write-your-own.md"
_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


def run(*command: str, directory: Path) -> str:
    """Run a command with nothing of ours in its way; gives what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page."""
    directory = tmp_path_factory.mktemp("package") / "anyvpn-word"
    for name, text in _FILE.findall(PAGE.read_text()):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


@pytest.fixture(scope="module")
def python(package: Path) -> str:
    """The interpreter of a new environment in which the package's wheel is installed.

    What the package needs comes from the environment of the tests, which saves its download.
    """
    own = package.parent / "environment"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", ".", "-w", "dist", directory=package)
    [wheel] = (package / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", str(own), directory=package.parent)
    interpreter = str(own / "bin" / "python")
    shown = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(interpreter, "-c", shown, directory=package.parent).strip())
    lent = f"{REPOSITORY}\n{sysconfig.get_path('purelib')}\n"
    (site / "lent.pth").write_text(lent)
    run(
        *(*pip, "--python", interpreter, "install", "--no-deps", "--no-index", str(wheel)),
        directory=package.parent,
    )
    return interpreter


class PackageTests:
    def test_its_own_tests_pass(self, package: Path, python: str) -> None:
        tests = package / "test_anyvpn_word.py"
        said = run(python, "-m", "pytest", "-q", str(tests), directory=package.parent)
        assert " passed" in said and "skipped" not in said

    def test_it_is_listed_with_its_settings(self, package: Path, python: str) -> None:
        listed = run(
            *(python, "-m", "anyvpn.cli.main", "backends", "authenticator", "word"),
            directory=package.parent,
        )
        assert "authenticator word: the word of the day" in listed
        assert "from anyvpn-word 1.0, module anyvpn_word" in listed
        assert "File with the word, in its first line." in listed

    def test_openconnect_logs_in_with_it(
        self, network: Network, package: Path, python: str
    ) -> None:
        [example] = re.findall(r"```toml\n(\[authenticators.*?)```", PAGE.read_text(), re.DOTALL)
        gateway = Gateway(
            network.gateway, package.parent / "gateway", changes=BASE, twistd=(python, TWISTD)
        )
        (gateway.directory / "word-of-the-day").write_text("swordfish\n")
        configuration = gateway.configuration_file
        configuration.write_text(f"{toml.write(gateway.settings)}\n{example}")
        site = Site(network, gateway, package.parent / "site")
        try:
            gateway.start()
            client = site.connect("alice", stdin=("swordfish",), options=("--authgroup", "word"))
            assert client.ping(gateway.inner_addresses[0])
            wrong = site.ours("alice", stdin=("salmon",), options=("--authgroup", "word"))
            assert wrong.wait_for_end() == 3
            gateway.wait_for_event("login_failed", user="alice", detail="it is another word today")
        finally:
            site.close()
