"""How a gateway starts, or says why it cannot, and with whose rights it runs."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from anyvpn.testing.programs import Program, wait_until
from tests.interop.gateway import PORT, TWISTD, Gateway, environment
from tests.interop.network import Network
from tests.interop.site import BASE, Site

START_TIME_S = 20.0
NOBODY = 65534


@pytest.fixture
def gateway(network: Network, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(network.gateway, tmp_path / "gateway", changes=BASE)
    yield gateway
    gateway.stop()


def refusal(gateway: Gateway, before: Sequence[str] = ()) -> str:
    """What a gateway that cannot start has said; its exit status is 1."""
    command = [
        *before,
        *(TWISTD, "--nodaemon", "--pidfile=", "anyvpn-gateway"),
        *("--config", str(gateway.configuration_file)),
    ]
    program = Program(
        "the gateway",
        gateway.namespace.command(command),
        environment=environment(),
        directory=gateway.directory,
    )
    status = program.wait_for_end(START_TIME_S)
    assert status == 1, program.output()
    assert "Traceback" not in program.output()
    assert "Unhandled" not in program.output()
    return program.output()


class RefusalTests:
    def test_port_that_is_taken_is_named(self, gateway: Gateway) -> None:
        with gateway.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("0.0.0.0", PORT))
            taken.listen()
            said = refusal(gateway)
        assert str(PORT) in said
        assert "in use" in said.casefold() or "another program" in said.casefold()
        assert set(gateway.namespace.devices()) == {"lo", "wan"}

    def test_missing_right_to_make_a_tun_device_is_named(self, gateway: Gateway) -> None:
        said = refusal(gateway, ("setpriv", "--bounding-set", "-net_admin", "--"))
        assert "CAP_NET_ADMIN" in said

    def test_certificate_that_does_not_fit_the_key_is_named(self, gateway: Gateway) -> None:
        tls = gateway.settings["tls"]
        certificate = gateway.directory / str(tls["certificate"])
        shutil.copy(gateway.ca_file, certificate)
        said = refusal(gateway)
        assert "does not fit the key" in said
        assert certificate.name in said

    def test_every_error_of_a_wrong_file_is_shown_with_its_line(self, gateway: Gateway) -> None:
        with gateway.configuration_file.open("a") as file:
            file.write('[limits]\nhandshake_time_s = "soon"\nno_such_key = 1\n')
        said = refusal(gateway)
        lines = gateway.configuration_file.read_text().splitlines()
        assert f"gateway.toml:{lines.index('no_such_key = 1') + 1}" in said
        assert "no_such_key" in said
        assert "handshake_time_s" in said

    def test_missing_file_is_named(self, gateway: Gateway) -> None:
        gateway.configuration_file.unlink()
        assert "gateway.toml" in refusal(gateway)


class RightsTests:
    def test_gateway_serves_without_rights_after_its_start(
        self, network: Network, tmp_path: Path
    ) -> None:
        # Not below pytest's own: each session that begins on this machine closes that to others
        directory = tempfile.TemporaryDirectory(prefix="nobody-")
        Path(directory.name).chmod(0o755)
        with directory:
            self.serve_without_rights(network, Path(directory.name) / "gateway", tmp_path)

    @staticmethod
    def serve_without_rights(network: Network, directory: Path, clients: Path) -> None:
        gateway = Gateway(
            network.gateway,
            directory,
            changes=BASE,
            twistd_options=("--uid", str(NOBODY), "--gid", str(NOBODY)),
        )
        for path in (gateway.directory, *gateway.directory.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        site = Site(network, gateway, clients)
        gateway.start()
        try:
            status = Path(f"/proc/{gateway.program.pid}/status").read_text()
            for kind in ("Uid", "Gid"):
                line = next(each for each in status.splitlines() if each.startswith(f"{kind}:"))
                assert set(line.split()[1:]) == {str(NOBODY)}
            assert "CapEff:\t0000000000000000" in status
            control_socket = gateway.directory / "gateway.sock"
            assert control_socket.stat().st_uid == NOBODY
            client = site.connect()
            client.wait_for_dtls()
            assert client.ping(gateway.inner_addresses[0])
        finally:
            site.close()
        assert set(gateway.namespace.devices()) == {"lo", "wan"}
        assert not control_socket.exists()

    def test_daemon_writes_its_pid_and_its_log(self, network: Network, tmp_path: Path) -> None:
        gateway = Gateway(network.gateway, tmp_path / "gateway", changes=BASE)
        pid_file, log_file = tmp_path / "gateway.pid", tmp_path / "gateway.log"
        started = Program(
            "twistd",
            gateway.namespace.command(
                [
                    *(TWISTD, "--pidfile", str(pid_file), "--logfile", str(log_file)),
                    *("anyvpn-gateway", "--config", str(gateway.configuration_file)),
                ]
            ),
            environment=environment(),
            directory=tmp_path,
        )
        assert started.wait_for_end(START_TIME_S) == 0, started.output()
        pid = int(pid_file.read_text())
        site = Site(network, gateway, tmp_path)
        try:
            client = site.connect()
            assert client.ping(gateway.inner_addresses[0])
        finally:
            site.close_clients()
            os.kill(pid, 15)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon has ended")
        assert "session_ended" in log_file.read_text()
        assert "Traceback" not in log_file.read_text()
        assert not pid_file.exists()
