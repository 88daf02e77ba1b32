"""Logins at a real identity provider, pysaml2's, by openconnect and by our client."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from anyvpn.testing.browser import browser_command
from anyvpn.testing.programs import wait_until
from anyvpn.testing.saml_provider import SAMLProvider
from tests.backends.certificates import issue
from tests.interop.client_service import ClientService
from tests.interop.gateway import NAME, PASSWORD, PORT
from tests.interop.network import GATEWAY_ADDRESS, Network
from tests.interop.site import Site

IDENTITY_ORIGIN = f"https://{NAME}:8446"
ORIGIN = f"https://{NAME}:{PORT}"
METADATA_PATH = "/+CSCOE+/saml/sp/metadata"
ACS_PATH = "/+CSCOE+/saml/sp/acs"
SHA1 = "http://www.w3.org/2000/09/xmldsig#"
USERS = {
    "alice": {
        "password": PASSWORD,
        "attributes": {"uid": ["alice"], "eduPersonAffiliation": ["staff", "vip"]},
        "answer": {"sign_response": True},
    },
    "locked": {"password": PASSWORD, "locked": True},
    "unsigned": {"password": PASSWORD, "answer": {"sign_assertion": False}},
    "sha1": {
        "password": PASSWORD,
        "answer": {"sign_alg": f"{SHA1}rsa-sha1", "digest_alg": f"{SHA1}sha1"},
    },
    "elsewhere": {"password": PASSWORD, "answer": {"destination": "https://other.test/acs"}},
    "another": {"password": PASSWORD, "answer": {"in_response_to": "_another"}},
}


def make_keys(directory: Path, name: str) -> tuple[Path, Path]:
    """The files of a key and its certificate."""
    holder = issue(None, f"CN={name}", key=rsa.generate_private_key(65537, 2048))
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    key.write_bytes(holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(holder.certificate.public_bytes(Encoding.PEM))
    return key, certificate


def body(certificate: Path) -> str:
    """What stands between the lines that begin and end it."""
    return "".join(certificate.read_text().split("-----")[2].split())


@pytest.fixture(scope="module")
def provider(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SAMLProvider]:
    """Not started yet: it must know its service first."""
    directory = tmp_path_factory.mktemp("saml")
    key, certificate = make_keys(directory, "idp")
    made = SAMLProvider(
        directory,
        USERS,
        origin=IDENTITY_ORIGIN,
        address=GATEWAY_ADDRESS,
        key=key,
        certificate=certificate,
        tls=directory / "tls.pem",
        namespace=network.gateway,
    )
    (directory / "idp.xml").write_text(made.metadata())
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gateway_changes(
    provider: SAMLProvider, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, object]:
    key, certificate = make_keys(tmp_path_factory.mktemp("keys"), "gateway")
    own = {
        "backend": "saml",
        "idp_metadata": str(provider.directory / "idp.xml"),
        "origin": ORIGIN,
        "signing_key": str(key),
        "signing_certificate": str(certificate),
    }
    return {
        "limits": {"login_tries": 1},
        "authenticators": {
            "company": {
                **own,
                "user_attribute": "uid",
                "groups_attribute": "eduPersonAffiliation",
                "force_authn": True,
            },
            "simple": own,
            "web": {**own, "browser": "embedded"},
        },
        "authorizer": {
            "policies": {"vip": {"banner": "Hello, VIP"}},
            "by_group": {"vip": "vip"},
        },
        "connection_profiles": [
            {"name": "staff"},
            *({"name": name, "authenticator": name} for name in ("company", "simple", "web")),
        ],
    }


@pytest.fixture(scope="module")
def idp(module_site: Site, provider: SAMLProvider) -> SAMLProvider:
    """The identity provider, which has read the gateway's metadata at its address."""
    gateway = module_site.gateway.directory
    tls = provider.directory / "tls.pem"
    tls.write_text((gateway / "server-key.pem").read_text() + (gateway / "server.pem").read_text())
    answer = subprocess.run(
        module_site.network.host(1).namespace.command(
            [
                *("curl", "-sSf", "--cacert", str(module_site.gateway.ca_file)),
                *("--resolve", f"{NAME}:{PORT}:{GATEWAY_ADDRESS}", ORIGIN + METADATA_PATH),
            ]
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    provider.start(answer.stdout)
    return provider


class Desktop:
    """A browser for one test, and what it has seen."""

    def __init__(self, site: Site, directory: Path) -> None:
        self._site = site
        self._directory = directory

    def browser(
        self, user: str = "alice", password: str = PASSWORD, *, repeats: tuple[str, ...] = ()
    ) -> str:
        command = browser_command(
            self._directory,
            ca_file=self._site.gateway.ca_file,
            address=GATEWAY_ADDRESS,
            answers={"user": user, "password": password},
            repeats=repeats,
        )
        return str(command)

    def options(self, group: str, user: str = "alice", password: str = PASSWORD) -> tuple[str, ...]:
        return ("--authgroup", group, "--external-browser", self.browser(user, password))

    @property
    def pages(self) -> str:
        return (self._directory / "pages").read_text()


@pytest.fixture
def desktop(site: Site, idp: SAMLProvider, tmp_path: Path) -> Desktop:
    return Desktop(site, tmp_path)


class ExternalTests:
    def test_openconnect_s_user_logs_in(self, site: Site, desktop: Desktop) -> None:
        client = site.connect("", stdin=(), options=desktop.options("company"))
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.environment()["CISCO_BANNER"] == "Hello, VIP"
        assert site.gateway.wait_for_event("login_succeeded", user="alice")
        assert "You are logged in" in desktop.pages

    def test_an_answer_that_comes_twice_is_taken_once(self, site: Site, desktop: Desktop) -> None:
        browser = desktop.browser(repeats=(ACS_PATH,))
        options = ("--authgroup", "company", "--external-browser", browser)
        assert site.connect("", stdin=(), options=options).ping(site.gateway.inner_addresses[0])
        assert desktop.pages.count("This login is over") == 1

    def test_our_client_s_user_logs_in(self, site: Site, desktop: Desktop) -> None:
        client = site.connect_ours("", stdin=(), options=desktop.options("simple"))
        assert client.ping(site.gateway.inner_addresses[0])
        assert "You are logged in" in desktop.pages


class EmbeddedTests:
    def test_a_command_is_the_browser_of_a_service(
        self, site: Site, desktop: Desktop, tmp_path: Path
    ) -> None:
        script = tmp_path / "login.py"
        script.write_text(
            "import json, subprocess, sys\n"
            "asked = json.load(sys.stdin)\n"
            f"subprocess.run(['{desktop.browser()}', asked['login_url']], check=True)\n"
            f"print(json.load(open('{tmp_path}/cookies.json'))[asked['token_cookie']])\n"
        )
        command = {"backend": "command", "command": [sys.executable, str(script)], "browser": True}
        service = site.started(
            ClientService(
                site.network.host(1).namespace,
                site.directory,
                site.gateway.ca_file,
                {"client": {"group": "web"}, "responders": [command]},
            )
        )
        service.wait_until_connected()
        assert service.ping(site.gateway.inner_addresses[0])


class DeniedTests:
    def denied(self, site: Site, options: tuple[str, ...]) -> str:
        """Why the gateway says no, in one line; the client is not told."""
        since = site.gateway.program.position
        client = site.ours("", stdin=(), options=options)
        assert client.wait_for_end() == 3
        found = site.gateway.program.wait_for(r"login_failed .*", since=since)[0]
        assert "answer" not in client.output()
        assert site.gateway.program.output().count(found) == 1
        return found

    @pytest.mark.parametrize(
        ("user", "why"),
        [
            ("locked", "lets the user not in: AuthnFailed: The account is locked"),
            ("unsigned", "neither the answer nor its assertion is signed"),
            ("sha1", "the answer is signed with rsa-sha1, which is not accepted"),
            ("elsewhere", "the answer is for the address https://other.test/acs, not https://vpn"),
            ("another", "the answer is to the request _another, not _"),
        ],
    )
    def test_an_answer_that_is_not_right(
        self, site: Site, desktop: Desktop, user: str, why: str
    ) -> None:
        assert why in self.denied(site, desktop.options("simple", user))
        failed = "The login has failed. Your VPN client can begin another"
        wait_until(lambda: desktop.pages.count(failed) == 2, "what the user reads in the end")

    def test_a_key_that_the_metadata_have_no_more(
        self, site: Site, desktop: Desktop, provider: SAMLProvider, tmp_path: Path
    ) -> None:
        file = provider.directory / "idp.xml"
        before = file.read_text()
        _, other = make_keys(tmp_path, "other")
        text = re.sub(r"(X509Certificate>)[^<]+", rf"\1{body(other)}", before)
        file.write_text(text)
        try:
            why = self.denied(site, desktop.options("simple"))
        finally:
            file.write_text(before)
        assert "the answer's signature fits no certificate of the identity provider" in why
        client = site.connect_ours("", stdin=(), options=desktop.options("simple"))
        assert client.ping(site.gateway.inner_addresses[0])
