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
[authorizer.by_group]
staff = "staff"
left = "deny"
"""


def typed(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "gateway.toml"
    file.write_text(FILE)
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

    def test_mistakes_are_told_in_a_line(self, tmp_path: Path) -> None:
        done = typed(tmp_path, "alice", "--attribute", "nonsense")
        assert done.returncode == 2
        assert '"nonsense" is not KEY=VALUE' in done.stderr
