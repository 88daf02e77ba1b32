"""Who answers for the user: codes, commands and keyrings, against Debian's ocserv."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from anyvpn.testing.ocserv import PASSWORD
from anyvpn.testing.programs import Program, wait_until
from tests.interop.ocserv_site import OcservSite

SECRET = b"12345678901234567890"


@pytest.fixture(scope="module")
def ocserv_changes() -> Mapping[str, str | Sequence[str] | None]:
    return {"auth": "plain[passwd=./passwd,otp=./otp]"}


@pytest.fixture
def secret(ocserv: OcservSite) -> str:
    """The secret of alice's codes, of which she has used none."""
    file = ocserv.gateway.directory / "otp"
    file.write_text(f"HOTP/T30/6\talice\t-\t{SECRET.hex()}\n")
    return f"0x{SECRET.hex()}"


class CodeTests:
    def test_a_password_and_a_code_are_given_one_after_the_other(
        self, ocserv: OcservSite, secret: str
    ) -> None:
        client = ocserv.client(options=("--token-mode", "totp", "--token-secret", secret))
        client.wait_until_connected()
        assert client.ping(ocserv.gateway.gateway_address)

    def test_the_secret_may_be_in_a_file(
        self, ocserv: OcservSite, secret: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "secret"
        file.write_text(f"{secret}\n")
        file.chmod(0o600)
        client = ocserv.client(options=("--token-mode", "totp", "--token-secret", f"@{file}"))
        client.wait_until_connected()
        assert not client.find("can be read by others")

    @pytest.mark.usefixtures("secret")
    def test_wrong_codes_end_the_login(self, ocserv: OcservSite) -> None:
        other = f"0x{SECRET[::-1].hex()}"
        client = ocserv.client(options=("--token-mode", "totp", "--token-secret", other))
        assert client.wait_for_end() == 3
        assert client.find("denies the login: 401 Authentication failed")

    @pytest.mark.usefixtures("secret")
    def test_a_code_that_nobody_has_is_asked_for_by_name(self, ocserv: OcservSite) -> None:
        client = ocserv.client()
        assert client.wait_for_end() == 3
        assert client.find("nobody answers the gateway's question 'Password'.*OTP password")


class CommandTests:
    def test_a_command_says_who_and_with_which_password(
        self, ocserv: OcservSite, secret: str, tmp_path: Path
    ) -> None:
        script = tmp_path / "answer.py"
        script.write_text(
            "import json, sys\n"
            "asked = json.load(sys.stdin)\n"
            "known = {'username': 'alice', 'password': sys.argv[1]}\n"
            "print(json.dumps({f['name']: known[f['name']] for f in asked['fields']}))\n"
        )
        command = shlex.join([sys.executable, str(script), PASSWORD])
        code = ("--token-mode", "totp", "--token-secret", secret)
        options = ("--password-command", command, *code)
        client = ocserv.client("", stdin=(), options=options)
        client.wait_until_connected()
        assert client.ping(ocserv.gateway.gateway_address)

    def test_what_a_failing_command_says_is_shown(self, ocserv: OcservSite) -> None:
        command = "sh -c 'echo the safe is locked >&2; exit 7'"
        client = ocserv.client(
            "", stdin=(), options=("--user", "alice", "--password-command", command)
        )
        assert client.wait_for_end() == 3
        assert client.find("sh failed with status 7: the safe is locked")


def has_keyring() -> bool:
    question = ("org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets")
    command = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
    said = subprocess.run([*command, *question], capture_output=True, text=True, check=True)
    return "boolean true" in said.stdout


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """GNOME's keyring on a bus of its own, unlocked, with alice's password in it."""
    for name in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        directory = tmp_path / name
        directory.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(directory))
    address = f"unix:path={tmp_path}/bus"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    options = ("--session", "--nofork", "--print-address", f"--address={address}")
    bus = Program("the session bus", ["dbus-daemon", *options])
    daemon = None
    try:
        bus.wait_for("unix:path=")
        daemon = Program(
            "the keyring",
            ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
            stdin="unlock",
        )
        wait_until(has_keyring, "a keyring on the bus")
        command = [sys.executable, "-m", "keyring", "set", "work vpn", "alice"]
        subprocess.run(command, input=PASSWORD, text=True, check=True, timeout=20)
        yield
    finally:
        if daemon is not None:
            daemon.stop()
        bus.stop()


@pytest.mark.usefixtures("keyring")
class KeyringTests:
    def test_the_desktops_keyring_knows_the_password(self, ocserv: OcservSite, secret: str) -> None:
        code = ("--token-mode", "totp", "--token-secret", secret)
        options = ("--user", "alice", "--keyring", "work vpn", *code)
        client = ocserv.client("", stdin=(), options=options)
        client.wait_until_connected()
        assert client.ping(ocserv.gateway.gateway_address)

    def test_what_to_do_without_an_entry_is_said(self, ocserv: OcservSite) -> None:
        options = ("--user", "alice", "--keyring", "other")
        client = ocserv.client("", stdin=(), options=options)
        assert client.wait_for_end() == 3
        assert client.find("keyring set other alice")
        assert client.find("nobody answers the gateway's question 'Password'")
