"""Accounting of real sessions: by RADIUS, JSON lines, SQLite and scripts, all with one result."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anyvpn.testing.freeradius import SECRET, FreeRadius
from anyvpn.testing.openconnect import OpenConnect
from anyvpn.testing.programs import wait_until
from tests.interop.gateway import PASSWORD
from tests.interop.network import Network
from tests.interop.site import Site

ADDRESS = "127.0.0.1"
USERS = tuple(
    line
    for user in ("alice", "bob", "carol")
    for line in (f'{user} Cleartext-Password := "{PASSWORD}"', f'    Class = "{user}-class"')
)
SCRIPT = """#!/bin/sh
env | sort | tr '\\n' '|' >> {file}
echo >> {file}
echo "done with $USERNAME"
"""


class Accounts:
    """What each of the four has written down."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.json_file = directory / "events.jsonl"
        self.sqlite_file = directory / "accounting.sqlite"
        self.script_file = directory / "scripts.txt"
        self.radius: FreeRadius

    def lines(self, user: str, kind: str) -> list[dict[str, Any]]:
        """The JSON lines of a user and of an event."""
        text = self.json_file.read_text() if self.json_file.exists() else ""
        found = [json.loads(line) for line in text.splitlines()]
        return [each for each in found if each.get("user") == user and each["event"] == kind]

    def rows(self, user: str) -> list[dict[str, Any]]:
        """The rows of a user."""
        with closing(sqlite3.connect(self.sqlite_file)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute("SELECT * FROM sessions WHERE user = ?", (user,))
            return [dict(each) for each in found]

    def runs(self, user: str, reason: str) -> list[dict[str, str]]:
        """What the scripts were told, run by run."""
        text = self.script_file.read_text() if self.script_file.exists() else ""
        runs = [dict(_pairs(line.split("|"))) for line in text.splitlines()]
        return [each for each in runs if each.get("USERNAME") == user and each["REASON"] == reason]

    def requests(self, user: str, kind: str) -> list[dict[str, str]]:
        """What the RADIUS server was told, request by request."""
        blocks = self.radius.accounting.split("\n\n")
        found = [dict(_pairs(re.sub(r"\s*=\s*", "=", each).split("\n"))) for each in blocks]
        return [
            each
            for each in found
            if each.get("User-Name") == f'"{user}"' and each["Acct-Status-Type"] == kind
        ]

    def wait_for_end(self, user: str) -> dict[str, Any]:
        """The one line of a user's session that ended, once all four have it."""
        wait_until(lambda: self.requests(user, "Stop"), f"{user}'s session stops")
        wait_until(lambda: self.runs(user, "disconnect"), f"the script for {user} has run")
        [ended] = self.lines(user, "session_ended")
        return ended


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    for each in lines:
        key, equals, value = each.strip().partition("=")
        if equals:
            yield key, value


@pytest.fixture(scope="module")
def accounts(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    made = Accounts(tmp_path_factory.mktemp("accounting"))
    made.radius = FreeRadius(
        made.directory / "radius", USERS, address=ADDRESS, namespace=network.gateway
    )
    made.radius.start()
    (made.directory / "secret").write_text(SECRET)
    script = made.directory / "script"
    script.write_text(SCRIPT.format(file=made.script_file))
    script.chmod(0o755)
    yield made
    made.radius.stop()


@pytest.fixture(scope="module")
def gateway_changes(accounts: Accounts) -> Mapping[str, object]:
    servers = [{"host": ADDRESS, "secret_file": str(accounts.directory / "secret")}]
    script = str(accounts.directory / "script")
    return {
        "gateway": {"report_interval_s": 1},
        "authenticators": {"radius": {"backend": "radius", "servers": servers}},
        "connection_profiles": [{"name": "staff", "authenticator": "radius"}],
        "listeners": [
            {"backend": "log"},
            {"backend": "json_lines", "file": str(accounts.json_file)},
            {"backend": "sqlite", "file": str(accounts.sqlite_file)},
            {"backend": "script", "connect_script": script, "disconnect_script": script},
            {"backend": "radius", "servers": servers, "time_s": 1.0, "retry_after_s": 1.0},
        ],
    }


def goodbye(client: OpenConnect) -> None:
    client.send_signal(signal.SIGINT)
    client.wait_for_end()


class OneSessionTests:
    def test_all_four_tell_the_same(self, site: Site, accounts: Accounts) -> None:
        client = site.connect("alice")
        inside = site.gateway.inner_addresses[0]
        for _ in range(5):
            assert client.ping(inside)
        ipv4, _ = client.inner_addresses
        wait_until(lambda: accounts.requests("alice", "Interim-Update"), "there is a report")
        goodbye(client)
        ended = accounts.wait_for_end("alice")

        [started] = accounts.lines("alice", "session_started")
        assert accounts.lines("alice", "session_progress")
        assert started["accounting_id"] == ended["accounting_id"]
        assert ended["reason"] == "goodbye"
        assert ended["received_packets"] >= 5 and ended["sent_packets"] >= 5
        assert ipv4 in ended["addresses"]

        [row] = accounts.rows("alice")
        [run] = accounts.runs("alice", "disconnect")
        [stop] = accounts.requests("alice", "Stop")
        [start] = accounts.requests("alice", "Start")
        for name, script, radius in (
            ("received_bytes", "STATS_BYTES_IN", "Acct-Input-Octets"),
            ("sent_bytes", "STATS_BYTES_OUT", "Acct-Output-Octets"),
        ):
            assert {row[name], int(run[script]), int(stop[radius])} == {ended[name]}
        assert row["reason"] == "goodbye" and row["ended"] == ended["time"]
        assert stop["Acct-Terminate-Cause"] == "User-Request"
        for request in (start, stop):
            assert request["Acct-Session-Id"] == f'"{ended["accounting_id"]}"'
            assert request["Framed-IP-Address"] == ipv4
            assert bytes.fromhex(request["Class"].removeprefix("0x")) == b"alice-class"
            assert request["Calling-Station-Id"] == '"198.18.1.2"'
        [connect] = accounts.runs("alice", "connect")
        assert (connect["IP_REMOTE"], connect["IP_REAL"]) == (ipv4, "198.18.1.2")
        assert connect["DEVICE"] == "anyvpn0" and "HOME" not in connect
        site.gateway.program.wait_for("script for alice: done with alice")

    def test_a_session_that_comes_back_after_a_restart_is_one(
        self, site: Site, accounts: Accounts
    ) -> None:
        client = site.connect("bob")
        inside = site.gateway.inner_addresses[0]
        for _ in range(5):
            assert client.ping(inside)
        site.gateway.stop()
        before = len(accounts.json_file.read_bytes())
        accounts.json_file.rename(accounts.json_file.with_suffix(".1"))  # as logrotate does
        rotated = accounts.json_file.with_suffix(".1").read_text()
        site.gateway.start()
        wait_until(lambda: client.ping(inside), "the client is back", limit_s=40)
        for _ in range(5):
            assert client.ping(inside)
        goodbye(client)
        ended = accounts.wait_for_end("bob")
        assert before and '"event":"session_ended","user":"bob"' not in rotated
        assert ended["received_packets"] >= 11, "what went before the restart counts, too"
        assert accounts.lines("bob", "session_started") == []
        assert rotated.count('"event":"session_started","user":"bob"') == 1
        assert len(accounts.requests("bob", "Start")) == 1
        assert len(accounts.requests("bob", "Stop")) == 1
        assert len(accounts.runs("bob", "connect")) == 1
        [row] = accounts.rows("bob")
        assert row["received_bytes"] == ended["received_bytes"]

    def test_a_server_that_is_down_is_told_later(self, site: Site, accounts: Accounts) -> None:
        client = site.connect("carol")
        assert client.ping(site.gateway.inner_addresses[0])
        wait_until(lambda: accounts.requests("carol", "Start"), "the start is told")
        accounts.radius.kill()
        goodbye(client)
        site.gateway.program.wait_for("RADIUS accounting waits", limit_s=20)
        accounts.radius.start()
        accounts.wait_for_end("carol")
        [stop] = accounts.requests("carol", "Stop")
        assert int(stop["Acct-Delay-Time"]) >= 1
