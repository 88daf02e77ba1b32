"""Logins beyond passwords, at a gateway whose authenticators are the tests' own.

A password and a code, two certificates of which one signs, a certificate alone, and a page in the
user's browser: by our client, and by openconnect, which shows that the gateway asks as the protocol
says.
"""

from __future__ import annotations

import signal
import sys
import time
from base64 import b32encode
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from anyvpn.backends.one_time_codes import CodeMaker
from tests.interop.client_service import ClientService
from tests.interop.gateway import NAME, PASSWORD, run_anyvpn
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import MANY_FAILURES, Site

IDENTITY_PORTS = {"browser": 8443, "embedded": 8444, "spoiled": 8445}
SECRETS = {
    user: (user.encode() * 7)[:20] for user in ("alice", "bob", "carol", "dora", "erin", "frank")
}
BROWSER_PORT = 29786


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's, a user's and a stranger's certificate with their keys, and the authorities."""
    directory = tmp_path_factory.mktemp("certificates")
    machines, users, strangers = (
        trustme.CA(organization_name=name) for name in ("Machines", "Users", "Strangers")
    )
    machines.cert_pem.write_to_path(directory / "machines.pem")
    users.cert_pem.write_to_path(directory / "users.pem")
    for authority, name in ((machines, "laptop7"), (users, "alice"), (strangers, "mallory")):
        issued = authority.issue_cert(common_name=name)
        issued.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}.pem")
    return directory


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return tuple(SECRETS)


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the users' devices, as an operator fills it."""
    file = tmp_path_factory.mktemp("codes") / "codes.sqlite"
    for user, secret in SECRETS.items():
        kind = "hotp" if user == "frank" else "totp"
        done = run_anyvpn(
            *("user", kind, user, "--file", str(file), "--secret-file", "-"),
            stdin=b32encode(secret).decode(),
        )
        assert done.returncode == 0, done.stderr
    return file


@pytest.fixture(scope="module")
def gateway_changes(certificates: Path, codes: Path) -> Mapping[str, object]:
    both = {
        "backend": "certificate_pair",
        "user_ca": str(certificates / "users.pem"),
        "machine": "machine",
    }
    page = {
        "backend": "identity-page",
        "address": GATEWAY_ADDRESS,
        "name": NAME,
        "certificate": "server.pem",
        "key": "server-key.pem",
        "passwords": {"alice": PASSWORD},
    }
    return {
        "tls": {"client_ca": str(certificates / "machines.pem")},
        "limits": MANY_FAILURES,
        "authenticators": {
            "both": both,
            "sha384": {**both, "hash_algorithms": ["sha384"]},
            "machine": {"backend": "certificate"},
            "code": {"backend": "chain", "of": ["password", "phone"]},
            "phone": {"backend": "totp", "file": str(codes)},
            "together": {"backend": "totp", "file": str(codes), "inside": "password"},
            "button": {"backend": "hotp", "file": str(codes), "inside": "password"},
            "browser": {**page, "port": IDENTITY_PORTS["browser"]},
            "embedded": {**page, "port": IDENTITY_PORTS["embedded"], "external": False},
            "spoiled": {**page, "port": IDENTITY_PORTS["spoiled"], "spoils": True},
        },
        "connection_profiles": [
            {"name": "staff"},
            *(
                {"name": name, "authenticator": name}
                for name in (
                    "code",
                    "together",
                    "button",
                    "both",
                    "sha384",
                    "machine",
                    "browser",
                    "embedded",
                    "spoiled",
                )
            ),
        ],
    }


def logged_in(site: Site, user: str) -> bool:
    """The gateway knows who it was."""
    return bool(site.gateway.wait_for_event("login_succeeded", user=user))


class CodeTests:
    """Each test has a user of its own: a code is good once."""

    @staticmethod
    def options(group: str, secret: bytes, mode: str = "totp") -> tuple[str, ...]:
        token = f"0x{secret.hex()}" + (",0" if mode == "hotp" else "")
        return ("--authgroup", group, "--token-mode", mode, "--token-secret", token)

    @pytest.mark.parametrize(("group", "user"), [("code", "alice"), ("together", "bob")])
    def test_our_client_gives_the_code_of_the_moment(
        self, site: Site, group: str, user: str
    ) -> None:
        client = site.connect_ours(user, options=self.options(group, SECRETS[user]))
        assert client.ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize(("group", "user"), [("code", "carol"), ("together", "dora")])
    def test_openconnect_gives_the_same(self, site: Site, group: str, user: str) -> None:
        client = site.connect(user, options=self.options(group, SECRETS[user]))
        assert client.ping(site.gateway.inner_addresses[0])

    def test_openconnect_counts(self, site: Site) -> None:
        client = site.connect("frank", options=self.options("button", SECRETS["frank"], "hotp"))
        assert client.ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize("ours", [False, True])
    @pytest.mark.parametrize("group", ["code", "together", "button"])
    def test_wrong_codes_are_refused(self, site: Site, group: str, ours: bool) -> None:
        since = site.gateway.program.position
        user = "frank" if group == "button" else "erin"
        form, field = ("challenge", "answer") if group == "code" else ("main", "secondary_password")
        entries = (f"{form}:{field}=123456", "challenge:answer=123456")  # a button is asked twice
        options = [part for each in entries for part in ("--form-entry", each)]
        site.refused(user, ours=ours, options=("--authgroup", group, *options))
        detail = "the code is wrong"
        site.gateway.wait_for_event("login_failed", user=user, detail=detail, since=since)

    def test_a_code_that_was_used_is_not_good_again(self, site: Site) -> None:
        device = CodeMaker("erin", "totp", SECRETS["erin"])
        code = device.code(int(time.time() // 30) + 1)
        entered = ("--form-entry", f"main:secondary_password={code}", "--authgroup", "together")
        assert site.connect("erin", options=entered).ping(site.gateway.inner_addresses[0])
        site.client("erin", host=2, options=entered)
        site.gateway.wait_for_event("login_failed", user="erin", detail="was used before")


class MachineAndUserTests:
    @pytest.mark.parametrize("group", ["both", "sha384"])
    def test_the_user_signs_beside_the_machine(
        self, site: Site, certificates: Path, group: str
    ) -> None:
        client = site.ours(
            "",
            stdin=(),
            options=(
                *("--authgroup", group, "--certificate", str(certificates / "laptop7.pem")),
                *("--mca-certificate", str(certificates / "alice.pem")),
            ),
        )
        client.wait_until_connected()
        assert client.ping(site.gateway.inner_addresses[0])
        assert logged_in(site, "alice")

    def test_openconnect_signs_the_same(self, site: Site, certificates: Path) -> None:
        client = site.connect(
            "",
            stdin=(),
            options=(
                *("--authgroup", "both", "--certificate", str(certificates / "laptop7.pem")),
                *("--mca-certificate", str(certificates / "alice.pem")),
                *("--mca-key", str(certificates / "alice.pem")),
            ),
        )
        assert client.ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize("ours", [False, True])
    def test_who_has_no_certificate_for_the_user_is_denied(
        self, site: Site, certificates: Path, ours: bool
    ) -> None:
        since = site.gateway.program.position
        machine = str(certificates / "laptop7.pem")
        options = ("--authgroup", "both", "--certificate", machine)
        site.refused("", ours=ours, stdin=(), options=options)
        why = "the client cannot show several certificates"
        site.gateway.program.wait_for(why, since=since)

    @pytest.mark.parametrize("ours", [False, True])
    def test_a_stranger_signs_in_vain(self, site: Site, certificates: Path, ours: bool) -> None:
        since = site.gateway.program.position
        options = (
            *("--authgroup", "both", "--certificate", str(certificates / "laptop7.pem")),
            *("--mca-certificate", str(certificates / "mallory.pem")),
            *(() if ours else ("--mca-key", str(certificates / "mallory.pem"))),
        )
        site.refused("", ours=ours, stdin=(), options=options)
        site.gateway.program.wait_for("user's certificate is not accepted", since=since)


class MachineTests:
    def test_a_certificate_is_enough(self, site: Site, certificates: Path) -> None:
        machine = str(certificates / "laptop7.pem")
        options = ("--authgroup", "machine", "--certificate", machine)
        client = site.ours("", stdin=(), options=options)
        client.wait_until_connected()
        assert client.ping(site.gateway.inner_addresses[0])
        assert logged_in(site, "laptop7")

    def test_openconnect_shows_the_same(self, site: Site, certificates: Path) -> None:
        machine = str(certificates / "laptop7.pem")
        options = ("--authgroup", "machine", "--certificate", machine)
        assert site.connect("", stdin=(), options=options).ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize("names", [("mallory", "laptop7"), ("laptop7", "mallory", "alice")])
    def test_of_several_the_gateways_authorities_choose(
        self, site: Site, certificates: Path, names: tuple[str, ...]
    ) -> None:
        files = [part for name in names for part in ("-c", str(certificates / f"{name}.pem"))]
        client = site.ours("", stdin=(), options=("--authgroup", "machine", *files))
        client.wait_until_connected()
        assert client.ping(site.gateway.inner_addresses[0])
        assert logged_in(site, "laptop7")

    def test_several_of_which_none_fits(self, site: Site, certificates: Path) -> None:
        files = [
            part
            for name in ("mallory", "alice")
            for part in ("-c", str(certificates / f"{name}.pem"))
        ]
        client = site.ours("", stdin=(), options=("--authgroup", "machine", *files))
        assert client.wait_for_end() == 3
        assert client.find("wants a client certificate"), client.output()

    def test_who_has_none_is_told(self, site: Site) -> None:
        client = site.ours("", stdin=(), options=("--authgroup", "machine"))
        assert client.wait_for_end() == 3
        assert client.find("wants a client certificate|denies the login")

    def test_another_authoritys_is_not_accepted(self, site: Site, certificates: Path) -> None:
        stranger = str(certificates / "mallory.pem")
        client = site.ours(
            "", stdin=(), options=("--authgroup", "machine", "--certificate", stranger)
        )
        assert client.wait_for_end() == 3
        assert client.find("wants a client certificate|denies the login")


class BrowserTests:
    """The browser is curl, which knows user and password, and follows where it is sent."""

    @staticmethod
    def browser(site: Site, directory: Path, port: int, password: str = PASSWORD) -> str:
        script = directory / "browser"
        script.write_text(
            "#!/bin/sh\n"
            f"exec curl -sSfL --cacert {site.gateway.ca_file}"
            f" --resolve {NAME}:{port}:{GATEWAY_ADDRESS}"
            f" -d user=alice -d password={password} -o {directory}/page"
            f' -c {directory}/cookies "$@"\n'
        )
        script.chmod(0o755)
        return str(script)

    def test_the_users_browser_logs_in(self, site: Site, tmp_path: Path) -> None:
        browser = self.browser(site, tmp_path, IDENTITY_PORTS["browser"])
        client = site.ours(
            "", stdin=(), options=("--authgroup", "browser", "--external-browser", browser)
        )
        client.wait_until_connected()
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.find(f"https://{NAME}:{IDENTITY_PORTS['browser']}/login")
        assert (tmp_path / "page").read_text() == "You are in.\n"
        assert f":{BROWSER_PORT}" not in client.namespace.run("ss", "-Hltn")
        assert logged_in(site, "alice")

    def test_openconnects_browser_logs_in(self, site: Site, tmp_path: Path) -> None:
        browser = self.browser(site, tmp_path, IDENTITY_PORTS["browser"])
        options = ("--authgroup", "browser", "--external-browser", browser)
        client = site.connect("", stdin=(), options=options)
        assert client.ping(site.gateway.inner_addresses[0])

    def test_a_token_for_somebody_else_is_not_taken(self, site: Site, tmp_path: Path) -> None:
        browser = self.browser(site, tmp_path, IDENTITY_PORTS["spoiled"])
        client = site.ours(
            "", stdin=(), options=("--authgroup", "spoiled", "--external-browser", browser)
        )
        assert client.wait_for_end() in (1, 3)
        assert client.find("the browser's token is of another version")

    def test_who_is_not_known_there_can_give_up(self, site: Site, tmp_path: Path) -> None:
        browser = self.browser(site, tmp_path, IDENTITY_PORTS["browser"], "wrong")
        client = site.ours(
            "", stdin=(), options=("--authgroup", "browser", "--external-browser", browser)
        )
        client.wait_for("could not open the browser")
        listening = client.namespace.run("ss", "-Hltn")
        assert f"127.0.0.1:{BROWSER_PORT}" in listening
        client.send_signal(signal.SIGINT)
        client.wait_for_end()
        assert f":{BROWSER_PORT}" not in client.namespace.run("ss", "-Hltn")

    def test_a_command_is_the_embedded_browser_of_a_service(
        self, site: Site, tmp_path: Path
    ) -> None:
        browser = self.browser(site, tmp_path, IDENTITY_PORTS["embedded"])
        script = tmp_path / "login.py"
        script.write_text(
            "import json, subprocess, sys\n"
            "asked = json.load(sys.stdin)\n"
            "assert asked['kind'] == 'browser', asked\n"
            f"subprocess.run(['{browser}', asked['login_url']], check=True)\n"
            f"for line in open('{tmp_path}/cookies'):\n"
            "    if asked['token_cookie'] in line:\n"
            "        print(line.split()[-1])\n"
        )
        service = site.started(
            ClientService(
                site.network.host(1).namespace,
                site.directory,
                site.gateway.ca_file,
                {
                    "client": {"group": "embedded"},
                    "responders": [
                        {
                            "backend": "command",
                            "command": [sys.executable, str(script)],
                            "browser": True,
                        }
                    ],
                },
            )
        )
        service.wait_until_connected()
        assert service.ping(site.gateway.inner_addresses[0])

    def test_a_client_without_a_browser_is_denied(self, site: Site) -> None:
        client = site.ours("", stdin=(), options=("--authgroup", "browser"))
        assert client.wait_for_end() == 3
        assert client.find("denies the login")
