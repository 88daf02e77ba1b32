"""`anyvpn explain`: as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FILE = """
[authorizer]
attribute_map = { vpnAddress = "ipv4_address" }
[authorizer.policies.staff]
dns = ["10.0.0.1"]
split_include = ["10.0.0.0/8"]
[authorizer.policies.odd]
banner = "[/] and [red]"
[authorizer.policies.guests]
banner = "Hello"
[authorizer.by_group]
staff = "staff"
left = "deny"
"[b]odd[/]" = "odd"
[authorizer.by_profile]
guests = "guests"
"""
PROFILES = """
[[connection_profiles]]
name = "staff"
authenticator = "passwords"
[[connection_profiles]]
name = "guests"
alias = "Everybody"
authenticator = "passwords"
[gateway]
name = "vpn"
default_profile = "guests"
"""


def typed(tmp_path: Path, *words: str, more: str = "") -> subprocess.CompletedProcess[str]:
    file = tmp_path / "gateway.toml"
    file.write_text(FILE + more)
    return subprocess.run(
        [sys.executable, "-m", "anyvpn.cli.main", "explain", "--config", str(file), *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "100"},
    )


class ExplainTests:
    def test_each_value_has_its_rule(self, tmp_path: Path) -> None:
        words = ("--group", "staff", "--attribute", "vpnAddress=10.0.0.9", "--profile", "x")
        said = json.loads(typed(tmp_path, "alice", *words, "--json").stdout)
        assert said["policy"] == "staff"
        assert said["values"]["dns"] == {
            "value": ["10.0.0.1"],
            "rule": "by_group of staff: policy staff",
        }
        assert said["values"]["ipv4_address"] == {
            "value": "10.0.0.9",
            "rule": "attribute vpnAddress",
        }
        assert said["values"]["dpd_s"] == {"value": 30.0, "rule": "default of every policy"}
        shown = typed(tmp_path, "alice", *words).stdout
        assert "policy staff" in shown
        [line] = [each for each in shown.splitlines() if each.startswith("split_include")]
        assert line.split() == [
            *("split_include", "10.0.0.0/8", "by_group", "of", "staff:", "policy", "staff")
        ]

    def test_whoever_is_denied_is_told_by_which_rule(self, tmp_path: Path) -> None:
        done = typed(tmp_path, "alice", "--group", "left")
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "denied: alice is denied by by_group of left\n"

    def test_texts_are_shown_as_they_are(self, tmp_path: Path) -> None:
        """And not taken for colours and the like, which is what brackets mean to `rich`."""
        said = typed(tmp_path, "alice", "--group", "[b]odd[/]").stdout
        assert "[/] and [red]" in said
        assert "by_group of [b]odd[/]: policy odd" in said

    def test_whoever_chooses_no_profile_has_the_default_one(self, tmp_path: Path) -> None:
        for words in ((), ("--profile", "Everybody")):
            said = json.loads(typed(tmp_path, "alice", "--json", *words, more=PROFILES).stdout)
            assert said["values"]["banner"]["rule"] == "by_profile of guests: policy guests"
        done = typed(tmp_path, "alice", "--profile", "guest", more=PROFILES)
        assert done.returncode == 1
        assert 'no connection profile "guest", did you mean "guests"?' in done.stderr

    def test_mistakes_are_told_in_a_line(self, tmp_path: Path) -> None:
        done = typed(tmp_path, "alice", "--attribute", "nonsense")
        assert done.returncode == 2
        assert '"nonsense" is not KEY=VALUE' in done.stderr
        done = typed(tmp_path, "a\nb")
        assert done.returncode == 2
        assert "control characters" in done.stderr and "Traceback" not in done.stderr
