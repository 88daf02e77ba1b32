"""The client's adapter on a real kernel: what a host has meanwhile, afterwards, after a crash."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program

DRIVER = """
import os, sys
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path
from twisted.internet import task
from anyvpn.backends.adapter_linux import Settings, build
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.tunnel_settings import Lease, TunnelSettings

async def main(reactor):
    folder = Path(sys.argv[1])
    settings = Settings(device="vpn7", resolv_conf=folder / "resolv.conf", state_directory=folder)
    granted = TunnelSettings(
        Lease(IPv4Interface("10.1.2.3/24"), IPv6Interface("fd00::3/128")),
        1400,
        dns=(ip_address("10.1.2.1"),),
        default_domain="corp.example",
    )
    wanted = AdapterSettings(granted, 1400, ip_address("203.0.113.5"))
    adapter = await build(settings, reactor).open(wanted)
    print("open", flush=True)
    for line in iter(sys.stdin.readline, ""):
        match line.strip():
            case "narrow":
                await adapter.apply(AdapterSettings(granted, 1300, ip_address("203.0.113.5")))
            case "tiny":
                await adapter.apply(AdapterSettings(granted, 1279, ip_address("203.0.113.5")))
            case "show":
                os.system("ip -brief address show dev vpn7; ip -6 route get 2001:db8:ffff::1 2>&1")
            case "routes":
                os.system("ip route; ip -6 route")
            case "again":
                await adapter._restore()
            case "roam":
                await adapter.prepare_reconnect()
            case "crash":
                os._exit(9)
        print("done", line.strip(), flush=True)
    await adapter.close()
    await adapter.close()

task.react(main)
"""


class Host:
    """A host with one way out, and what it has."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self.resolv_conf = directory / "resolv.conf"
        self.resolv_conf.write_text("nameserver 192.0.2.53\n")
        self.before = self.state()

    def state(self) -> str:
        shown = self.namespace.run("ip", "route") + self.namespace.run("ip", "-6", "route")
        return shown + self.resolv_conf.read_text()

    def adapter(self, *orders: str) -> Program:
        program = Program(
            "the adapter",
            self.namespace.command([sys.executable, "-c", DRIVER, str(self.directory)]),
            stdin="".join(f"{each}\n" for each in orders),
            environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        program.wait_for("open")
        return program


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Namespace("adapter host") as inside, Namespace("adapter router") as router:
        inside.join(router, "wan", "lan")
        inside.add_addresses("wan", "198.18.9.2/24", "2001:db8:9::2/64")
        router.add_addresses("lan", "198.18.9.1/24", "198.18.9.9/24", "2001:db8:9::1/64")
        inside.add_route("default", "via", "198.18.9.1")
        inside.add_route("default", "via", "2001:db8:9::1")
        yield Host(inside, tmp_path)


def test_a_host_is_as_before_when_it_is_closed(host: Host) -> None:
    program = host.adapter("narrow")
    program.wait_for("done narrow")
    assert program.wait_for_end() == 0, program.output()
    assert host.state() == host.before
    assert list(host.directory.glob("client-*")) == []


def test_a_device_too_narrow_for_ipv6_does_without_and_nothing_leaks(host: Host) -> None:
    program = host.adapter("tiny", "show", "narrow", "show")
    assert program.wait_for_end() == 0, program.output()
    tiny, _, narrow = program.output().partition("done narrow")
    assert "10.1.2.3/32" in tiny and "fd00::3" not in tiny
    assert "No route to host" in tiny
    assert "fd00::3/128" in narrow
    assert "dev vpn7" in narrow
    assert host.state() == host.before


def test_what_the_kernel_has_not_forgotten_stays_as_it_is(host: Host) -> None:
    """As when nobody knows what was missed of a link's news."""
    program = host.adapter("routes", "again", "routes")
    assert program.wait_for_end() == 0, program.output()
    before, _, after = program.output().partition("done again")
    routes = [
        [line for line in shown.splitlines() if "dev vpn7" in line] for shown in (before, after)
    ]
    assert routes[0]
    assert routes[0] == routes[1]


def test_everything_is_left_of_a_crash_and_undone_by_cleanup(host: Host) -> None:
    program = host.adapter("crash")
    assert program.wait_for_end() == 9
    assert "203.0.113.5 via 198.18.9.1" in host.state()
    assert "nameserver 10.1.2.1" in host.state()
    command = [sys.executable, "-m", "anyvpn.cli.main", "cleanup", "--state-directory"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    cleanup = Program(
        "cleanup",
        host.namespace.command([*command, str(host.directory)]),
        environment={**os.environ, **environment},
    )
    assert cleanup.wait_for_end() == 0
    assert cleanup.find("route to 203.0.113.5/32 deleted")
    assert host.state() == host.before


def test_a_new_start_cleans_up_as_well(host: Host) -> None:
    assert host.adapter("crash").wait_for_end() == 9
    program = host.adapter()
    assert program.wait_for_end() == 0
    assert host.state() == host.before


def test_routes_follow_the_hosts_way_out(host: Host) -> None:
    program = Program(
        "the adapter",
        host.namespace.command(
            [
                *("sh", "-c"),
                # Were `ip` the last command, its redirection would end the adapter's input
                "(sleep 5; ip route change default via 198.18.9.9; echo roam; sleep 2; "
                "ip route >&2; true) "
                f'| "{sys.executable}" -c "$DRIVER" {host.directory}',
            ]
        ),
        environment={
            **os.environ,
            "DRIVER": DRIVER,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    program.wait_for("done roam", limit_s=20)
    program.wait_for(r"203\.0\.113\.5 via 198\.18\.9\.9")
    assert program.wait_for_end() == 0
    assert "0.0.0.0/1 dev vpn7" in program.output()
