"""`anyvpn status`, and what it says when there is nobody to ask."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.console import Console

from anyvpn.cli import status, tables
from anyvpn.control.status import DeviceStatus, EngineStatus, GatewayStatus, SessionStatus
from tests.cli.test_main import CommandCase
from tests.tap.set_up import SetUp

GATEWAY = GatewayStatus(
    name="vpn.example.com",
    version="1.2",
    process_id=4711,
    started_at_s=1_700_000_000.0,
    uptime_s=2 * 86400 + 3 * 3600 + 62,
    engine=EngineStatus("compiled", "libcrypto", 2, 5, 6),
    listen=("tcp:443", r"tcp:443:interface=\:\:"),
    dtls_port=443,
    device=DeviceStatus("anyvpn0", 1500, True),
    sessions={"granted": 1, "connected": 2, "dormant": 3},
    logins_in_progress=4,
)
ALICE = SessionStatus(
    session_id=7,
    user="alice",
    profile="default",
    policy="default",
    state="connected",
    addresses=("10.77.0.2", "fd77::2"),
    peer="192.0.2.1",
    hostname="laptop",
    channel="dtls",
    cipher="TLS_PSK_WITH_AES_256_GCM_SHA384",
    connected_at_s=1_700_000_000.0,
    received_bytes=1_234_567,
    sent_bytes=999,
    drops={"spoofed": 0},
)
BOB = replace(
    ALICE,
    user="b\x1b[31mob",
    state="dormant",
    channel="",
    cipher="",
    connected_at_s=0.0,
    drops={"spoofed": 3, "queue_full": 1, "filtered": 0},
)


class StatusTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_up = SetUp(self.directory)
        for name, answer in (("ask_status", GATEWAY), ("ask_sessions", (ALICE, BOB))):
            patched = patch.object(status, name, return_value=answer)
            self.addCleanup(patched.stop)
            asked = patched.start()
            if name == "ask_status":
                self.asked = asked

    def status(self, *options: str) -> str:
        return self.succeed("status", "--config", self.set_up.file, *options)

    def test_it_says_what_the_gateway_is(self) -> None:
        said = " ".join(self.status().split())
        for words in (
            "gateway vpn.example.com",
            "version 1.2, process 4711",
            "up 2 days 3:01:02",
            "packet engine compiled, threads of its own: 2, AES-GCM by libcrypto",
            r"listens on tcp:443, tcp:443:interface=\:\:",
            "DTLS UDP port 443",
            "tun device anyvpn0, MTU 1500, offloads yes",
            "sessions 1 granted, 2 connected, 3 dormant",
            "logins 4 in progress",
            "packets for nobody 5",
            "events dropped 6",
        ):
            assert words in said
        assert "alice" not in said

    def test_sessions_are_listed_when_asked_for(self) -> None:
        lines = self.status("--sessions").splitlines()
        alice = next(line for line in lines if line.startswith("alice"))
        for words in (
            *("10.77.0.2 fd77::2", "1.2 MB", "999 B", "DTLS from 192.0.2.1", "profile default"),
            ALICE.cipher,
        ):
            assert words in alice
        bob = next(line for line in lines if "dormant" in line and "ob" in line)
        assert "\x1b" not in bob
        assert "3 dropped (spoofed), 1 dropped (queue full)" in bob

    def test_a_terminal_of_80_columns_holds_it(self) -> None:
        output = StringIO()
        narrow = Console(file=output, width=80)
        with patch.object(tables, "Console", lambda **_: narrow):
            self.status("--sessions")
        lines = output.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        for words in ("10.77.0.2 fd77::2", "1.2 MB", "DTLS from 192.0.2.1", ALICE.cipher):
            assert words in output.getvalue()

    def test_programs_get_json(self) -> None:
        found = json.loads(self.status("--json"))
        assert found["engine"] == {
            "name": "compiled",
            "cipher_library": "libcrypto",
            "threads": 2,
            "unroutable_packets": 5,
            "dropped_events": 6,
        }
        assert "session_list" not in found
        listed = json.loads(self.status("--json", "--sessions"))["session_list"]
        assert [each["user"] for each in listed] == [ALICE.user, BOB.user]

    def test_the_socket_stands_beside_the_configuration_or_where_that_says(self) -> None:
        self.status()
        self.asked.assert_called_with(self.set_up.directory / "gateway.sock")
        self.set_up.change("#[control]", '[control]\nsocket = "x/y.sock"')
        self.status()
        self.asked.assert_called_with(self.set_up.directory / "x" / "y.sock")

    def test_other_tables_may_have_errors(self) -> None:
        self.set_up.change('#default_profile = ""', "default_profile = 1")
        self.status()


class RefusalTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.set_up = SetUp(self.directory)

    def test_a_gateway_that_does_not_run_is_said_in_one_line(self) -> None:
        said = self.fail_with("status", "--config", self.set_up.file)
        assert said == (
            f"anyvpn: no gateway listens at {self.set_up.directory}/gateway.sock: is it running?"
        )

    def test_one_that_cannot_be_asked_is_said_so(self) -> None:
        number = self.set_up.change("#[control]", "[control]\nenabled = false")
        assert number
        said = self.fail_with("status", "--config", self.set_up.file)
        assert "cannot be asked, since [control] says enabled = false" in said

    def test_a_wrong_key_is_named_with_its_line(self) -> None:
        number = self.set_up.change("#[control]", "[control]\nsockets = 1") + 1
        said = self.fail_with("status", "--config", self.set_up.file)
        assert said.startswith(f"anyvpn: {self.set_up.file}:{number}: control.sockets: unknown key")

    def test_a_configuration_that_is_not_there_is_named(self) -> None:
        assert "cannot be read" in self.fail_with("status", "--config", "/nowhere/gateway.toml")

    def test_the_configuration_of_this_directory_is_meant_by_default(self) -> None:
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.set_up.directory)
        assert "gateway.sock: is it running?" in self.fail_with("status")


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10**9, "1.0 GB"), (10**16, "10000.0 TB")],
)
def test_bytes_have_units(count: int, shown: str) -> None:
    assert status._bytes(count) == shown
