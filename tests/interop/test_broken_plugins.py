"""Backends that break: each costs its own login, and the log names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.interop.gateway import Gateway
from tests.interop.network import Network
from tests.interop.site import Site

AUTHENTICATORS = ("dialogue", "silence", "rubbish", "rubbish-step")
USERS = ("raises", "silent", "rubbish")
LOGIN_TIME_S = 2.0
STAFF = ("--authgroup", "staff")


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", *USERS)


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "authenticators": {name: {"backend": "broken", "how": name} for name in AUTHENTICATORS},
        "authorizer": {"backend": "broken"},
        "connection_profiles": [
            {"name": "staff"},
            *({"name": name, "authenticator": name} for name in AUTHENTICATORS),
        ],
        "limits": {"login_time_s": LOGIN_TIME_S},
    }


@pytest.fixture
def trouble(site: Site) -> Site:
    """A site whose log may speak of what is tested here."""
    site.gateway.expected_trouble += ["failed here", "Traceback"]
    return site


class LoginTests:
    @pytest.mark.parametrize(
        ("profile", "said"),
        [
            ("dialogue", "ZeroDivisionError: in the middle"),
            ("rubbish", "the authenticator broken.Broken gave dict"),
            ("rubbish-step", "the authenticator asks str, which is no step"),
        ],
    )
    def test_an_authenticator_that_breaks_costs_its_login(
        self, trouble: Site, profile: str, said: str
    ) -> None:
        tunnel = trouble.connect("alice", options=STAFF)
        client = trouble.ours("alice", host=2, options=("--authgroup", profile))
        assert client.wait_for_end() != 0
        assert client.find("not available")
        trouble.gateway.program.wait_for(said)
        assert trouble.gateway.program.find(r"broken\.Broken")
        assert tunnel.ping(trouble.gateway.inner_addresses[0])

    @pytest.mark.parametrize("profile", ["staff", "silence"])
    def test_one_that_never_answers_costs_its_time(self, trouble: Site, profile: str) -> None:
        user = "silent" if profile == "staff" else "alice"
        client = trouble.ours(user, options=("--authgroup", profile))
        assert client.wait_for_end() != 0
        assert client.find("took too long")
        assert trouble.connect("alice", options=STAFF).ping(trouble.gateway.inner_addresses[0])

    @pytest.mark.parametrize(
        ("user", "said"),
        [
            ("raises", "ZeroDivisionError: no policy"),
            ("rubbish", "the authorizer gave str, which is no policy"),
        ],
    )
    def test_an_authorizer_that_breaks_costs_its_login(
        self, trouble: Site, user: str, said: str
    ) -> None:
        client = trouble.ours(user, options=STAFF)
        assert client.wait_for_end() != 0
        assert client.find("not available")
        trouble.gateway.program.wait_for(said)
        assert trouble.connect("alice", options=STAFF).ping(trouble.gateway.inner_addresses[0])


class StartTests:
    @pytest.mark.parametrize(
        ("table", "said"),
        [
            (
                {"backend": "broken", "how": "build"},
                'authenticator backend "broken" cannot be built: ZeroDivisionError: not today (',
            ),
            (
                {"backend": "broken", "how": "interface"},
                'the authenticator backend "broken" (broken) cannot be used: The object',
            ),
            (
                {"backend": "unimportable"},
                "cannot be imported: RuntimeError('out of order')",
            ),
        ],
    )
    def test_one_that_cannot_be_made_is_told_with_its_line(
        self, network: Network, tmp_path: Path, table: Mapping[str, object], said: str
    ) -> None:
        gateway = Gateway(
            network.gateway,
            tmp_path / "gateway",
            changes={"authenticators": {"own": table}},
        )
        program = gateway.launch()
        assert program.wait_for_end() != 0
        [line] = [each for each in program.output().splitlines() if said in each]
        assert f"{gateway.configuration_file}:" in line and "authenticators.own" in line
        assert "Traceback" not in program.output()
