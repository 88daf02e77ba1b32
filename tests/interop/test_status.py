"""`anyvpn status` of a gateway at work."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anyvpn.testing.programs import Program
from tests.interop.gateway import START_TIME_S, TWISTD, Gateway, environment, run_anyvpn
from tests.interop.site import Site

MEGABYTES = 20


def ask(gateway: Gateway, *options: str) -> str:
    done = run_anyvpn("status", "--config", str(gateway.configuration_file), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask_json(gateway: Gateway) -> Any:
    return json.loads(ask(gateway, "--json", "--sessions"))


def control_socket(gateway: Gateway) -> Path:
    return gateway.directory / "gateway.sock"


class StatusTests:
    @pytest.mark.extension
    def test_sessions_are_seen_with_their_channels_and_bytes(self, site: Site) -> None:
        site.connect(host=2, options=("--no-dtls",))
        client = site.connect()
        client.wait_for_dtls()
        address = site.gateway.inner_addresses[0]
        site.transfer(client.namespace, "download", address, megabytes=MEGABYTES)
        found = ask_json(site.gateway)
        assert (found["engine"]["name"], found["engine"]["threads"]) == ("compiled", 1)
        assert found["process_id"] == site.gateway.program.pid
        assert found["sessions"] == {"granted": 0, "connected": 2, "dormant": 0}
        over_tls, over_dtls = found["session_list"]
        assert (over_tls["user"], over_tls["channel"]) == ("alice", "cstp")
        assert over_tls["cipher"].startswith("TLSv1.")
        assert over_dtls["channel"] == "dtls"
        assert "AES_256_GCM" in over_dtls["cipher"]
        inner_address = client.environment()["INTERNAL_IP4_ADDRESS"]
        assert inner_address in over_dtls["addresses"]
        assert over_dtls["sent_bytes"] > MEGABYTES * 10**6
        said = ask(site.gateway, "--sessions")
        assert "compiled, threads of its own: 1" in said
        assert inner_address in said
        assert site.gateway.program.find("packet engine compiled")

    def test_any_program_may_ask_but_only_as_the_owner(self, site: Site) -> None:
        path = control_socket(site.gateway)
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        answer = subprocess.run(
            ["curl", "--silent", "--unix-socket", str(path), "http://gateway/status"],
            capture_output=True,
            check=True,
        )
        assert json.loads(answer.stdout)["name"] == "vpn.test"

    def test_whoever_hangs_keeps_nobody_out(self, site: Site) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as silent:
            silent.connect(str(control_socket(site.gateway)))
            silent.sendall(b"GET /sta")
            assert ask_json(site.gateway)["name"] == "vpn.test"

    def test_a_second_gateway_leaves_the_first_ones_socket_alone(self, site: Site) -> None:
        gateway = site.gateway
        command = (TWISTD, "--nodaemon", "--pidfile=", "anyvpn-gateway", "--config")
        second = Program(
            "a second gateway",
            site.network.host(3).namespace.command([*command, str(gateway.configuration_file)]),
            environment=environment(),
            directory=gateway.directory,
        )
        assert second.wait_for_end(START_TIME_S) == 1, second.output()
        assert f"{control_socket(gateway)}: another process listens there" in second.output()
        assert "Traceback" not in second.output()
        assert ask_json(gateway)["process_id"] == gateway.program.pid


class EngineTests:
    def test_the_other_engine_is_shown_and_a_killed_gateways_socket_replaced(
        self, site: Site
    ) -> None:
        gateway = site.gateway
        gateway.kill()
        assert control_socket(gateway).is_socket()
        done = run_anyvpn("status", "--config", str(gateway.configuration_file))
        assert done.returncode == 1
        assert "is it running?" in done.stderr
        gateway.change({"gateway": {"engine": "python"}})
        gateway.start()
        site.connect()
        found = ask_json(gateway)
        assert (found["engine"]["name"], found["engine"]["threads"]) == ("python", 0)
        assert found["sessions"]["connected"] == 1
        assert gateway.program.find("packet engine python")
        gateway.stop()
        assert not control_socket(gateway).exists()
