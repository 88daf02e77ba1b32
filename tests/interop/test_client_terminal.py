"""Our client asks its user at a terminal, who types right and wrong answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.interop.gateway import NAME, PASSWORD, PORT, environment
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import Site
from tests.interop.terminal import Terminal


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def gateway_changes(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, object]:
    ca_file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    return {
        "tls": {"client_ca": str(ca_file)},
        "authenticators": {"machine": {"backend": "certificate"}},
        "connection_profiles": [
            {"name": "staff", "alias": "Staff"},
            {"name": "guests", "alias": "Guests"},
            {"name": "machine", "alias": "Machines", "authenticator": "machine"},
        ],
    }


def client(site: Site, directory: Path, *options: str, command: str = "authenticate") -> Terminal:
    """Our client at a terminal."""
    words = [
        *(sys.executable, "-m", "anyvpn.cli.main", command, f"https://{NAME}:{PORT}"),
        *("--cafile", str(site.gateway.ca_file), "--resolve", f"{NAME}:{GATEWAY_ADDRESS}"),
        *options,
    ]
    namespace = site.network.host(1).namespace
    home = {"XDG_DATA_HOME": str(directory), "TERM": "xterm"}
    return Terminal(namespace.command(words), {**environment(), **home}, directory)


class QuestionTests:
    def test_group_user_and_password_are_asked(self, site: Site, tmp_path: Path) -> None:
        terminal = client(site, tmp_path)
        terminal.wait_for(rb"1  Staff\r\n  2  Guests")
        terminal.wait_for(rb"GROUP \[1\]: ")
        terminal.type("7\n")
        terminal.wait_for(rb"Type a number from 1 to 3, or a name")
        terminal.type("2\n")
        terminal.wait_for(rb"Username: ")
        terminal.type("alice\n")
        terminal.wait_for(rb"Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for(rb"COOKIE='")
        assert PASSWORD.encode() not in terminal.shown
        assert terminal.wait_for_end() == 0

    def test_a_wrong_password_is_asked_for_again(self, site: Site, tmp_path: Path) -> None:
        terminal = client(site, tmp_path, "--authgroup", "Staff", "--user", "alice")
        terminal.wait_for(rb"Password: ")
        terminal.type("wrong\n")
        terminal.wait_for(rb"Login failed")
        terminal.wait_for(rb"Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for(rb"COOKIE='")
        assert terminal.wait_for_end() == 0

    def test_nobody_is_asked_for_ever(self, site: Site, tmp_path: Path) -> None:
        terminal = client(site, tmp_path, "--authgroup", "Staff", "--user", "alice")
        for _ in range(3):
            terminal.wait_for(rb"Password: ")
            terminal.type("wrong\n")
        terminal.wait_for(rb"anyvpn: ")
        assert terminal.wait_for_end() == 3

    def test_ctrl_c_at_a_question_gives_the_terminal_back(self, site: Site, tmp_path: Path) -> None:
        script = (
            f"{sys.executable} -m anyvpn.cli.main authenticate https://{NAME}:{PORT}"
            f" --cafile {site.gateway.ca_file} --resolve {NAME}:{GATEWAY_ADDRESS}"
            " --authgroup Staff --user alice; echo status $?; stty -a"
        )
        namespace = site.network.host(1).namespace
        variables = {**environment(), "XDG_DATA_HOME": str(tmp_path), "TERM": "xterm"}
        terminal = Terminal(
            namespace.command(["bash", "-c", f"trap : INT; {script}"]), variables, tmp_path
        )
        terminal.wait_for(rb"Password: ")
        terminal.type("\x03")
        terminal.wait_for(rb"status 0")
        terminal.wait_for(rb"[^-]echo ")
        terminal.wait_for_end()

    def test_the_passphrase_of_a_key_is_asked_until_it_is_right(
        self, site: Site, tmp_path: Path, authority: trustme.CA
    ) -> None:
        issued = authority.issue_cert(common_name="laptop7")
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        path = tmp_path / "laptop7.pem"
        path.write_bytes(
            issued.cert_chain_pems[0].bytes()
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"open sesame"),
            )
        )
        path.chmod(0o600)
        options = ("--authgroup", "Machines", "--certificate", str(path))
        terminal = client(site, tmp_path, *options)
        terminal.wait_for(rb"Passphrase for \S+: ")
        terminal.type("wrong\n")
        terminal.wait_for(rb"Passphrase for \S+: ")
        terminal.type("open sesame\n")
        terminal.wait_for(rb"COOKIE='")
        assert terminal.wait_for_end() == 0
        again = client(site, tmp_path, *options, "--key-password", "open sesame", "--non-inter")
        again.wait_for(rb"COOKIE='")
        assert again.wait_for_end() == 0
