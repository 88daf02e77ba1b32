"""The authenticators that come along, with openconnect and with our client."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.site import Site


@pytest.fixture(scope="module")
def gateway_changes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, object]:
    passwords = tmp_path_factory.mktemp("cred") / "passwords"
    passwords.write_text("carol:her pässword\n", encoding="utf-8")
    rules = tmp_path_factory.mktemp("pam")
    check = rules / "check"
    check.write_text("#!/bin/sh\ntest $(tr -d '\\000') = pam-pass\n")
    check.chmod(0o755)
    (rules / "anyvpn").write_text(
        f"auth required pam_exec.so expose_authtok quiet {check}\n"
        "auth required pam_stress.so\n"
        "account required pam_permit.so\n"
    )
    return {
        "authenticators": {
            "cred": {"backend": "cred", "checker": f"file:{passwords}"},
            "pam": {"backend": "pam", "directory": str(rules)},
        },
        "connection_profiles": [
            {"name": "staff"},
            *({"name": name, "authenticator": name} for name in ("cred", "pam")),
        ],
    }


class CredTests:
    OPTIONS = ("--authgroup", "cred")

    def test_openconnect_logs_in(self, site: Site) -> None:
        client = site.connect("carol", stdin=("her pässword",), options=self.OPTIONS)
        assert client.ping(site.gateway.inner_addresses[0])

    def test_our_client_logs_in(self, site: Site) -> None:
        client = site.connect_ours("carol", stdin=("her pässword",), options=self.OPTIONS)
        assert client.ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize("ours", [False, True])
    @pytest.mark.parametrize(("user", "password"), [("carol", "her"), ("alice", "her pässword")])
    def test_a_wrong_password_is_refused(
        self, site: Site, user: str, password: str, ours: bool
    ) -> None:
        since = site.gateway.program.position
        client = site.refused(user, ours=ours, stdin=(password,), options=self.OPTIONS)
        assert client.find("(?i)login failed")
        detail = "the checker accepts"
        site.gateway.wait_for_event("login_failed", user=user, detail=detail, since=since)


class PAMTests:
    """Rules with two questions, of which the second has words of its own."""

    OPTIONS = ("--authgroup", "pam")

    def test_openconnect_answers_both_questions(self, site: Site) -> None:
        client = site.connect("carol", stdin=("pam-pass", "stress"), options=self.OPTIONS)
        assert client.ping(site.gateway.inner_addresses[0])
        assert client.find("STRESS Password")

    def test_our_client_does_too(self, site: Site) -> None:
        entry = ("--form-entry", "challenge:answer=stress")
        client = site.connect_ours("carol", stdin=("pam-pass",), options=(*self.OPTIONS, *entry))
        assert client.ping(site.gateway.inner_addresses[0])

    @pytest.mark.parametrize("ours", [False, True])
    def test_a_wrong_password_is_refused(self, site: Site, ours: bool) -> None:
        since = site.gateway.program.position
        entry = ("--form-entry", "challenge:answer=stress")
        site.refused("carol", ours=ours, stdin=("wrong",), options=(*self.OPTIONS, *entry))
        site.gateway.wait_for_event("login_failed", user="carol", detail="PAM: ", since=since)
