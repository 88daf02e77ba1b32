"""The authenticators that come along, with openconnect and with our client."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.site import Site


@pytest.fixture(scope="module")
def gateway_changes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, object]:
    passwords = tmp_path_factory.mktemp("cred") / "passwords"
    passwords.write_text("carol:her pässword\n", encoding="utf-8")
    return {
        "authenticators": {"cred": {"backend": "cred", "checker": f"file:{passwords}"}},
        "connection_profiles": [{"name": "staff"}, {"name": "cred", "authenticator": "cred"}],
    }


class CredTests:
    OPTIONS = ("--authgroup", "cred")

    def test_openconnect_logs_in(self, site: Site) -> None:
        client = site.connect("carol", stdin=("her pässword",), options=self.OPTIONS)
        assert client.ping(site.gateway.inner_addresses[0])

    def test_our_client_logs_in(self, site: Site) -> None:
        client = site.connect_ours("carol", stdin=("her pässword",), options=self.OPTIONS)
        assert client.ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize(("user", "password"), [("carol", "her"), ("alice", "her pässword")])
    def test_a_wrong_password_is_refused(self, site: Site, user: str, password: str) -> None:
        client = site.ours(user, stdin=(password,), options=self.OPTIONS)
        assert client.wait_for_end() == 3
        assert client.find("Login failed")
        site.gateway.wait_for_event("login_failed", user=user, detail="the checker accepts")
