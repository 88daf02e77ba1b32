"""What `anyvpn explain` says is what openconnect then gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.interop.gateway import run_anyvpn
from tests.interop.site import Site

OTHER_DAY = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[(date.today().weekday() + 3) % 7]

RULES = """
from ipaddress import ip_network
from anyvpn.model.group_policy import GroupPolicy

async def policy(identity, request):
    if request.profile == "denied":
        return None
    return {"name": "of-python", "split_include": (ip_network("10.44.0.0/16"),), "banner": "snake"}
"""


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", "bob")


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "authorizer": {
            "policies": {
                "all": {"dns": ["10.77.0.1"], "banner": "all", "default_domain": "example.com"},
                "lab": {"split_include": ["10.20.0.0/16", "fd20::/48"], "idle_timeout_s": 600},
                "alice": {"banner": "Hello, Alice", "ipv4_address": "10.77.0.99"},
                "other-day": {"access_hours": [f"{OTHER_DAY} 07:00-19:00"]},
            },
            "default": "all",
            "by_profile": {"lab": "lab", "other-day": "other-day"},
            "by_user": {"alice": "alice"},
        },
        "connection_profiles": [{"name": "staff"}, {"name": "lab"}, {"name": "other-day"}],
    }


def explained(site: Site, user: str, *words: str) -> dict[str, Any]:
    """Key to value, as the command tells programs."""
    file = str(site.gateway.configuration_file)
    done = run_anyvpn("explain", user, "--config", file, "--json", *words)
    assert done.returncode == 0, done.stderr
    return {key: each["value"] for key, each in json.loads(done.stdout)["values"].items()}


class ExplainTests:
    @pytest.mark.parametrize(("user", "profile"), [("alice", "lab"), ("bob", "staff")])
    def test_the_client_gets_what_was_explained(self, site: Site, user: str, profile: str) -> None:
        expected = explained(site, user, "--profile", profile)
        client = site.connect(user, options=("--authgroup", profile))
        given = client.environment()
        assert given["CISCO_BANNER"] == expected["banner"]
        assert given["INTERNAL_IP4_DNS"].split() == expected["dns"]
        assert given["CISCO_DEF_DOMAIN"] == expected["default_domain"]
        assert float(given.get("IDLE_TIMEOUT", 0)) == expected["idle_timeout_s"]
        count = int(given.get("CISCO_SPLIT_INC", 0))
        routes = [
            f"{given[f'CISCO_SPLIT_INC_{each}_ADDR']}/{given[f'CISCO_SPLIT_INC_{each}_MASKLEN']}"
            for each in range(count)
        ]
        assert routes == [each for each in expected["split_include"] if ":" not in each]
        if expected["ipv4_address"]:
            assert given["INTERNAL_IP4_ADDRESS"] == expected["ipv4_address"]
        assert client.ping(site.gateway.inner_addresses[0])

    def test_outside_of_its_hours_a_profile_lets_nobody_in(self, site: Site) -> None:
        client = site.ours("bob", options=("--authgroup", "other-day"))
        assert client.wait_for_end() == 3
        site.gateway.wait_for_event(
            "login_failed", user="bob", detail="outside of the access hours"
        )


class PythonTests:
    @pytest.fixture
    def rules(self, site: Site, tmp_path: Path) -> None:
        file = tmp_path / "rules.py"
        file.write_text(RULES)
        site.gateway.stop()
        site.gateway.settings["authorizer"] = {"backend": "python", "file": str(file)}
        site.gateway.change({"connection_profiles": [{"name": "staff"}, {"name": "denied"}]})
        site.gateway.start()

    def test_a_function_decides(self, site: Site, rules: None) -> None:
        expected = explained(site, "bob", "--profile", "staff")
        assert expected["banner"] == "snake"
        client = site.connect("bob", options=("--authgroup", "staff"))
        assert client.environment()["CISCO_SPLIT_INC_0_ADDR"] == "10.44.0.0"
        assert client.environment()["CISCO_BANNER"] == "snake"
        refused = site.ours("bob", host=2, options=("--authgroup", "denied"))
        assert refused.wait_for_end() == 3
        site.gateway.wait_for_event("login_failed", user="bob", detail="rules.py:policy")
