"""The VPN without privileges, as nobody: a program in it, a SOCKS5 proxy, an endpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from anyvpn.testing.programs import Program, wait_until
from tests.interop.gateway import NAME, PASSWORD, PORT
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import Site

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
WEB_PORT = 8000
CHILD = "adapter_namespace_child"
SITE_PATH = Path(__file__).parents[2]

EMBEDDED = f"""
import sys
from pathlib import Path
from twisted.internet import task
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.defer import Deferred
from anyvpn.backends import adapter_namespace, responder_given
from anyvpn.client.endpoint import VPNClientEndpoint
from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import TrustSettings
from anyvpn.client.vpn_client import VPNClient

class Fetch(Protocol):
    def connectionMade(self):
        self.page, self.done = b"", Deferred()
        self.transport.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
    def dataReceived(self, data):
        self.page += data
    def connectionLost(self, reason):
        self.done.callback(self.page)

async def main(reactor):
    given = responder_given.build(responder_given.Settings("alice", "{PASSWORD}"), reactor)
    adapters = adapter_namespace.build(adapter_namespace.Settings(), reactor)
    trust = TrustSettings(ca_file=Path(sys.argv[1]))
    settings = ClientSettings(trust=trust, resolve={{"{NAME}": "{GATEWAY_ADDRESS}"}})
    tunnel = await VPNClient(reactor, "{NAME}:{PORT}", given, adapters, settings).connect()
    async def network():
        return tunnel.adapter
    endpoint = VPNClientEndpoint(reactor, network, sys.argv[2], {WEB_PORT})
    fetch = await endpoint.connect(Factory.forProtocol(Fetch))
    print((await fetch.done).split(b"\\r\\n")[0].decode())
    for host, port in ((sys.argv[2], 9), ("no.such.host", 80)):
        try:
            await VPNClientEndpoint(reactor, network, host, port).connect(None)
        except Exception as error:
            print(type(error).__name__)
    await tunnel.disconnect()

task.react(main)
"""


class AsNobody:
    """What an unprivileged user of a client's host can start."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self.namespace = site.network.host(4).namespace
        self.directory = directory
        self.inside = site.gateway.inner_addresses[0]
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(site.gateway.ca_file.read_bytes())
        self.environment = {
            **os.environ,
            "HOME": str(directory),
            "XDG_DATA_HOME": str(directory / "data"),
            "PYTHONPATH": str(SITE_PATH),
            "PYTHONUNBUFFERED": "1",
        }
        self.programs: list[Program] = []

    def start(self, name: str, command: Sequence[str], *, stdin: str = "") -> Program:
        program = Program(
            name,
            self.namespace.command([*NOBODY, *command]),
            stdin=stdin,
            directory=self.directory,
            environment=self.environment,
        )
        self.programs.append(program)
        return program

    def anyvpn(self, *arguments: str) -> Program:
        command, *rest = arguments
        return self.start(
            f"anyvpn {command}",
            [
                *(sys.executable, "-m", "anyvpn.cli.main", command, f"https://{NAME}:{PORT}"),
                *("--user", "alice", "--passwd-on-stdin", "--non-inter", "--cafile"),
                *(str(self.ca_file), "--resolve", f"{NAME}:{GATEWAY_ADDRESS}", *rest),
            ],
            stdin=f"{PASSWORD}\n",
        )


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"authorizer": {"policies": {"plain": {"dns": ["10.77.0.1"]}}, "default": "plain"}}


@pytest.fixture
def nobody(site: Site) -> Iterator[AsNobody]:
    # Not below pytest's own: each session that begins on this machine closes that to others
    with tempfile.TemporaryDirectory(prefix="nobody-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        os.chown(directory, 65534, 65534)
        yield from _at_home(site, directory)


def _at_home(site: Site, directory: Path) -> Iterator[AsNobody]:
    user = AsNobody(site, directory)
    web = Program(
        "the web server",
        site.gateway.namespace.command(
            [sys.executable, "-m", "http.server", str(WEB_PORT), "--directory", str(directory)]
        ),
    )
    wait_until(
        lambda: str(WEB_PORT) in site.gateway.namespace.run("ss", "-ltn"), "the web server listens"
    )
    yield user
    for program in user.programs:
        program.stop()
    web.kill()


class RunTests:
    def test_a_program_has_nothing_but_the_vpn(self, nobody: AsNobody) -> None:
        script = (
            "id -u; ip -o -4 address show scope global; ip route; cat /etc/resolv.conf; "
            f"ping -c 1 -W 3 {nobody.inside} >/dev/null && echo reached; exit 7"
        )
        program = nobody.anyvpn("run", "--", "sh", "-c", script)
        assert program.wait_for_end(20) == 7
        shown = program.output()
        assert "65534" in shown
        assert "reached" in shown
        assert "nameserver 10.77.0.1" in shown
        assert "wan" not in shown
        assert shown.count("inet ") == 1

    def test_a_signal_is_told_as_shells_do(self, nobody: AsNobody) -> None:
        program = nobody.anyvpn("run", "--", "sh", "-c", "kill -TERM $$")
        assert program.wait_for_end(20) == 128 + signal.SIGTERM

    def test_a_command_that_is_not_there(self, nobody: AsNobody) -> None:
        program = nobody.anyvpn("run", "--", "no-such-command")
        assert program.wait_for_end(20) in (126, 127)  # the search path may hold closed folders
        assert program.find("no-such-command")

    def test_nothing_is_left_when_the_client_is_killed(self, nobody: AsNobody) -> None:
        program = nobody.anyvpn("run", "--", "sleep", "4242")
        wait_until(lambda: _processes("sleep 4242"), "the command runs", limit_s=60)
        # Its own: others may run beside this test
        child = _processes(".*adapter_namespace_child [0-9]*", "-P", str(program.pid)).strip()
        assert child
        program.kill()
        wait_until(
            lambda: not _processes("sleep 4242") and not Path(f"/proc/{child}").exists(),
            "everything inside has ended",
        )

    def test_the_command_is_told_when_the_vpn_ends(self, nobody: AsNobody) -> None:
        program = nobody.anyvpn("run", "--reconnect-timeout", "1", "--", "sleep", "4243")
        wait_until(lambda: _processes("sleep 4243"), "the command runs", limit_s=60)
        nobody.site.gateway.stop()
        try:
            program.wait_for("the connection ended before the command", limit_s=30)
            program.wait_for_end(20)
            assert not _processes("sleep 4243")
        finally:
            nobody.site.gateway.start()


class ConnectTests:
    def test_who_may_make_no_device_is_told_what_needs_none(self, nobody: AsNobody) -> None:
        program = nobody.anyvpn("connect")
        assert program.wait_for_end(20) == 1
        assert program.find("root or CAP_NET_ADMIN is needed")
        assert program.find("anyvpn run URL")


class SocksTests:
    def test_a_host_is_reached_through_the_proxy(self, nobody: AsNobody) -> None:
        proxy = nobody.anyvpn("connect", "--socks", "127.0.0.1:1080")
        proxy.wait_for("SOCKS5 proxy at 127.0.0.1:1080", limit_s=20)
        (nobody.directory / "page").write_bytes(os.urandom(3_000_000))
        page = nobody.directory / "fetched"
        fetch = ["curl", "-s", "-o", str(page), "--socks5-hostname", "127.0.0.1:1080"]
        nobody.namespace.run(*fetch, f"http://{nobody.inside}:{WEB_PORT}/page")
        assert page.read_bytes() == (nobody.directory / "page").read_bytes()
        refused = nobody.namespace.command([*fetch, f"http://{nobody.inside}:9/"])
        assert subprocess.run(refused, check=False, timeout=20).returncode == 97

    def test_strangers_need_a_password(self, nobody: AsNobody) -> None:
        refused = nobody.anyvpn("connect", "--socks", "0.0.0.0:1080")
        assert refused.wait_for_end(20) == 1
        assert refused.find("give a --socks-password")


class EndpointTests:
    def test_a_twisted_program_reaches_a_host(self, nobody: AsNobody) -> None:
        program = nobody.start(
            "the program",
            [sys.executable, "-c", EMBEDDED, str(nobody.ca_file), nobody.inside],
        )
        assert program.wait_for_end(30) == 0, program.output()
        assert program.output().splitlines()[-3:] == [
            "HTTP/1.0 200 OK",
            "ConnectionRefusedError",
            "DNSLookupError",
        ]


def _processes(command: str, *options: str) -> str:
    """Those with this command line, a pattern."""
    done = subprocess.run(
        ["pgrep", *options, "-f", "-x", command], capture_output=True, text=True, check=False
    )
    return done.stdout
