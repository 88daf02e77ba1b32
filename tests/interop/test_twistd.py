"""The gateway under twistd's own options: as a daemon, with other reactors, and at its end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from anyvpn.testing.programs import Program, wait_until
from tests.interop.gateway import PORT, TWISTD, Gateway, environment
from tests.interop.network import Network
from tests.interop.site import BASE

START_TIME_S = 20.0


@pytest.fixture
def gateway(network: Network, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(network.gateway, tmp_path / "gateway", changes=BASE)
    yield gateway
    assert set(gateway.namespace.devices()) == {"lo", "wan"}


def run_twistd(gateway: Gateway, options: Sequence[str], directory: Path) -> Program:
    return Program(
        "twistd",
        gateway.namespace.command(
            [TWISTD, *options, "anyvpn-gateway", "--config", str(gateway.configuration_file)]
        ),
        environment=environment(),
        directory=directory,
    )


class DaemonTests:
    def test_daemon_that_cannot_start_says_why_and_leaves_no_pid(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        pid_file, log_file = tmp_path / "gateway.pid", tmp_path / "gateway.log"
        options = ("--pidfile", str(pid_file), "--logfile", str(log_file))
        with gateway.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("0.0.0.0", PORT))
            taken.listen()
            program = run_twistd(gateway, options, tmp_path)
            assert program.wait_for_end(START_TIME_S) == 1, program.output()
        reason = f"cannot listen on TCP 0.0.0.0:{PORT}: another program listens on it"
        assert f"anyvpn-gateway: {reason}" in program.output().splitlines()
        assert "Traceback" not in program.output()
        wait_until(lambda: f"cannot start: {reason}" in log_file.read_text(), "the log says so")
        assert "Traceback" not in log_file.read_text()
        wait_until(lambda: not pid_file.exists(), "the pid file is gone")

    def test_wrong_configuration_is_shown_before_the_daemon_begins(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        gateway.change({"dtls": {"port": 0}, "tun": {"mtu_bytes": 1}})
        program = run_twistd(gateway, ("--pidfile", "x.pid", "--logfile", "x.log"), tmp_path)
        assert program.wait_for_end(START_TIME_S) == 1, program.output()
        lines = program.output().splitlines()
        assert [each.split(": ")[1] for each in lines] == ["dtls.port", "tun.mtu_bytes"]
        assert not list(tmp_path.glob("x.*"))


class EndTests:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
    @pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
    def test_gateway_ends_cleanly_with_every_reactor(
        self, gateway: Gateway, tmp_path: Path, reactor: str, number: signal.Signals
    ) -> None:
        program = run_twistd(
            gateway, ("--nodaemon", "--pidfile", "x.pid", "--reactor", reactor), tmp_path
        )
        said = program.wait_for("Gateway vpn.test listens on .*", limit_s=START_TIME_S)[0]
        assert f"UDP port {PORT}" in said
        assert (tmp_path / "x.pid").read_text() == str(program.pid)
        assert program.stop(number) == 0, program.output()
        gateway.check_log(program)
        assert not (tmp_path / "x.pid").exists()
