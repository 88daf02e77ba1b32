"""Logins at a real identity provider, idpyoidc's, by openconnect and by our client."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from anyvpn.testing.browser import browser_command
from anyvpn.testing.oidc_provider import OIDCProvider
from anyvpn.testing.programs import wait_until
from tests.interop.client_service import ClientService
from tests.interop.gateway import NAME, PASSWORD, PORT
from tests.interop.network import GATEWAY_ADDRESS, Network
from tests.interop.site import Site

ORIGIN = f"https://{NAME}:{PORT}"
PROVIDER_PORT = 8460
SECRET = "s3cret-" * 5
USERS = {
    "alice": {"password": PASSWORD, "preferred_username": "alice", "groups": ["vip", "all"]},
    "bob": {"password": "bob-pass", "preferred_username": "bob", "email": "bob@example.com"},
}
PROFILES = ("oidc", "post", "embedded", "wrong-secret", "strange-ca", "moved", "later", "two")


@pytest.fixture(scope="module")
def provider(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OIDCProvider]:
    directory = tmp_path_factory.mktemp("provider")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    tls = directory / "tls.pem"
    authority.issue_cert(GATEWAY_ADDRESS).private_key_and_cert_chain_pem.write_to_path(tls)
    made = OIDCProvider(
        directory,
        USERS,
        {
            "gateway": (SECRET, f"{ORIGIN}/sso/oidc"),
            "moved": (SECRET, "https://elsewhere.test/sso/oidc"),
        },
        origin=f"https://{GATEWAY_ADDRESS}:{PROVIDER_PORT}",
        address=GATEWAY_ADDRESS,
        tls=tls,
        namespace=network.gateway,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def provider_ca(provider: OIDCProvider) -> Path:
    return provider.directory / "ca.pem"


@pytest.fixture(scope="module")
def gateway_changes(provider: OIDCProvider, provider_ca: Path) -> Mapping[str, object]:
    secret = provider.directory / "secret"
    secret.write_text(f"{SECRET}\n")
    own = {
        "backend": "oidc",
        "issuer": provider.origin,
        "client_id": "gateway",
        "client_secret_file": str(secret),
        "user_claim": "preferred_username",
        "groups_claim": "groups",
        "ca_file": str(provider_ca),
        "time_s": 3.0,
    }
    without_secret = {name: each for name, each in own.items() if "secret" not in name}
    return {
        "authenticators": {
            "oidc": own,
            "post": {**own, "client_authentication": "post", "attributes": ["email"]},
            "embedded": {**own, "browser": "embedded"},
            "wrong-secret": {**without_secret, "client_secret": "something else"},
            "strange-ca": {**own, "ca_file": "ca.pem"},
            "moved": {**own, "client_id": "moved"},
            "later": own,
            "two": {"backend": "chain", "of": ["password", "oidc"]},
        },
        "authorizer": {
            "policies": {"vip": {"banner": "Hello, VIP"}},
            "by_group": {"vip": "vip"},
        },
        "connection_profiles": [
            {"name": "staff"},
            *({"name": name, "authenticator": name} for name in PROFILES),
        ],
    }


class Desktop:
    """A browser for one test, and what it has seen."""

    def __init__(self, site: Site, provider_ca: Path, directory: Path) -> None:
        self._directory = directory
        self._authorities = directory / "authorities.pem"
        self._authorities.write_text(site.gateway.ca_file.read_text() + provider_ca.read_text())

    def browser(self, user: str = "alice", password: str = PASSWORD) -> str:
        command = browser_command(
            self._directory,
            ca_file=self._authorities,
            address=GATEWAY_ADDRESS,
            answers={"user": user, "password": password},
        )
        return str(command)

    def options(self, group: str, user: str = "alice", password: str = PASSWORD) -> tuple[str, ...]:
        return ("--authgroup", group, "--external-browser", self.browser(user, password))

    @property
    def pages(self) -> str:
        file = self._directory / "pages"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def desktop(site: Site, provider_ca: Path, tmp_path: Path) -> Desktop:
    return Desktop(site, provider_ca, tmp_path)


class ExternalTests:
    @pytest.mark.parametrize("group", ["oidc", "post"])
    def test_openconnect_s_user_logs_in(self, site: Site, desktop: Desktop, group: str) -> None:
        client = site.connect("", stdin=(), options=desktop.options(group))
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.environment()["CISCO_BANNER"] == "Hello, VIP"
        assert site.gateway.wait_for_event("login_succeeded", user="alice")
        assert "You are logged in" in desktop.pages

    def test_our_client_s_user_logs_in(self, site: Site, desktop: Desktop) -> None:
        client = site.connect_ours("", stdin=(), options=desktop.options("oidc"))
        assert client.ping(site.gateway.inner_addresses[0])
        assert "You are logged in" in desktop.pages

    def test_a_password_and_then_the_provider(self, site: Site, desktop: Desktop) -> None:
        client = site.connect("alice", options=desktop.options("two"))
        assert client.ping(site.gateway.inner_addresses[0])

    def test_somebody_else_at_the_provider_is_not_let_in(
        self, site: Site, desktop: Desktop
    ) -> None:
        site.ours("alice", options=desktop.options("two", "bob", "bob-pass"))
        site.gateway.program.wait_for("login_failed.*alice was found first, and then bob")

    def test_a_wrong_password_is_between_browser_and_provider(
        self, site: Site, desktop: Desktop
    ) -> None:
        since = site.gateway.program.position
        site.ours("", stdin=(), options=desktop.options("oidc", password="wrong")).wait_for(
            "Log in with a browser"
        )
        wait_until(lambda: "403" in desktop.pages, "the provider says no")
        assert site.gateway.program.find("login_failed", since=since) is None


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
                {"client": {"group": "embedded"}, "responders": [command]},
            )
        )
        service.wait_until_connected()
        assert service.ping(site.gateway.inner_addresses[0])
        assert "You are logged in" in desktop.pages

    def test_who_has_no_browser_is_denied(self, site: Site) -> None:
        client = site.ours("", options=("--authgroup", "oidc"))
        assert client.wait_for_end() == 3
        site.gateway.program.wait_for('login_failed.*"the client cannot log in with a browser')


class TroubleTests:
    """The client learns that the service is not available, and the log why."""

    @pytest.fixture(autouse=True)
    def trouble(self, site: Site) -> None:
        site.gateway.expected_trouble = ["failed here"]

    def failure(self, site: Site, desktop: Desktop, group: str) -> str:
        """What the log says; our client says no more than it must."""
        since = site.gateway.program.position
        client = site.ours("", stdin=(), options=desktop.options(group))
        assert client.wait_for_end() == 3
        assert "The login service is not available" in client.output()
        wait_until(lambda: desktop.pages.count("The login has failed") > 1, "what the user reads")
        return site.gateway.program.wait_for("failed here: (.*)", since=since)[1]

    def test_a_secret_that_the_provider_does_not_know(self, site: Site, desktop: Desktop) -> None:
        said = self.failure(site, desktop, "wrong-secret")
        assert "/token answers with HTTP status 401 invalid_client" in said

    def test_a_certificate_that_is_not_trusted(self, site: Site, desktop: Desktop) -> None:
        since = site.gateway.program.position
        client = site.client("", stdin=(), options=desktop.options("strange-ca"))
        assert client.wait_for_end() != 0
        site.gateway.program.wait_for("no use: .*certificate verify failed", since=since)
        wait_until(lambda: "The login has failed" in desktop.pages, "what the user reads")

    def test_a_redirect_uri_that_is_not_registered(
        self, site: Site, desktop: Desktop, provider: OIDCProvider
    ) -> None:
        """The provider keeps the browser; nobody comes back."""
        site.ours("", stdin=(), options=desktop.options("moved")).wait_for("Log in with a browser")
        wait_until(lambda: f"400 {provider.origin}" in desktop.pages, "the provider says no")
        assert "/sso/oidc" not in desktop.pages

    def test_a_provider_that_dies_in_mid_login_and_comes_back(
        self, site: Site, desktop: Desktop, provider: OIDCProvider
    ) -> None:
        """With other keys, which whoever has not asked for the old ones does not mind."""
        provider.die_in_mid_login()
        assert "/token closed without an answer" in self.failure(site, desktop, "oidc")
        client = site.client("", stdin=(), options=desktop.options("later"))
        assert client.wait_for_end() != 0
        site.gateway.program.wait_for("no use: .* cannot be asked: .*refused")
        provider.start()
        client = site.connect("", stdin=(), options=desktop.options("later"))
        assert client.ping(site.gateway.inner_addresses[0])
