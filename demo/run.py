"""`make run`: a gateway, Debian's openconnect and our own client, each in a network of its own.

Everything is thrown away at the end: configuration, processes, namespaces. Without root the
same happens inside a user namespace, in which we are root over our own network alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_interface
from json import loads
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from anyvpn.testing import transfer
from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.openconnect import EXECUTABLE, OpenConnect, write_script
from anyvpn.testing.programs import Program, UnmetExpectation
from anyvpn.testing.tunnel_client import TunnelClient, answered

REPOSITORY = Path(__file__).parents[1]
NAME = "vpn.example.com"
USER = "demo"
PASSWORD = "correct-horse"
GATEWAY_ADDRESS = "192.0.2.1"
TRANSFER_PORT = 7000
PINGS, PING_TIME_S = 10, 5
NEEDED = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openconnect": "openconnect",
    "ping": "iputils-ping",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
INSIDE = "--inside-user-namespace"

console = Console(highlight=False, soft_wrap=True)


def give_up(why: str) -> NoReturn:
    """One line, and exit status 1."""
    print(f"make run: {why}", file=sys.stderr)
    raise SystemExit(1)


def check_programs() -> None:
    """Everything that is run must be there."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    packages = {package for name, package in NEEDED.items() if not shutil.which(name, path=path)}
    if packages:
        give_up(f"please install: {' '.join(sorted(packages))}")


def become_root_of_own_network(arguments: Sequence[str]) -> None:
    """Without root: begin again inside a user namespace, when the system lets us."""
    if os.geteuid() == 0:
        return
    enter = ["unshare", "--user", "--map-root-user", "--net"]
    tried = subprocess.run([*enter, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        give_up(
            "this needs root, or a system that allows unprivileged user namespaces: "
            f"{tried.stderr.strip()}"
        )
    os.execvp(enter[0], [*enter, sys.executable, "-m", "demo.run", INSIDE, *arguments])


def check_tun() -> None:
    """Without the tun device nothing works, inside containers above all."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        give_up(f"/dev/net/tun: {error.strerror}; try `modprobe tun`, in a container --device")


def say(subject: str, text: str) -> None:
    """One line of the report."""
    console.print(f"  [bold]{subject:<22}[/] {text}")


def phase(number: int, text: str) -> None:
    """The head of a phase."""
    console.print(f"\n[bold green]Phase {number}[/]  [bold]{text}[/]")


class Demonstration:
    """The gateway, its network and its first client."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self._gateway_directory = directory / "gateway"
        self._serves = False
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        }
        os.environ["PATH"] = self._environment["PATH"]
        self._gateway_host = stack.enter_context(Namespace("gateway"))
        self._hosts = [stack.enter_context(Namespace(f"client {n}")) for n in (1, 2, 3)]

    def lay_network(self) -> None:
        """The gateway's host, with an address of its own, and a cable to each client's host."""
        self._gateway_host.add_addresses("lo", f"{GATEWAY_ADDRESS}/32")
        for number, host in enumerate(self._hosts, 1):
            host.join(self._gateway_host, "wan", f"client{number}")
            self._gateway_host.add_addresses(f"client{number}", f"198.18.{number}.1/24")
            host.add_addresses("wan", f"198.18.{number}.2/24")
            host.add_route("default", "via", f"198.18.{number}.1")

    def configure(self) -> None:
        """What an operator does once: `anyvpn init`."""
        command = [
            *(sys.executable, "-m", "anyvpn.cli.main", "init", str(self._gateway_directory)),
            *("--name", NAME, "--listen", "tcp:443", "--user", USER, "--password-file", "-"),
        ]
        done = subprocess.run(
            command,
            input=f"{PASSWORD}\n",
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        if done.returncode:
            give_up(f"anyvpn init failed: {done.stdout}{done.stderr}")

    def start_gateway(self) -> Program:
        """What an operator does from then on: `twistd`."""
        twistd = str(Path(sys.executable).with_name("twistd"))
        gateway = Program(
            "the gateway",
            self._gateway_host.command(
                [
                    *(twistd, "--nodaemon", "--pidfile=", "anyvpn-gateway"),
                    *("--config", str(self._gateway_directory / "gateway.toml")),
                ]
            ),
            environment=self._environment,
            directory=self._directory,
        )
        self._stack.callback(_end, gateway)
        gateway.wait_for(r"Gateway \S+ listens on ", limit_s=30)
        return gateway

    def connect(self, networks: Sequence[str]) -> OpenConnect:
        """The first client, by Debian's openconnect."""
        client = OpenConnect(
            self._hosts[0],
            self._directory,
            self.ca_file,
            server=f"{NAME}:443",
            address=GATEWAY_ADDRESS,
            user=USER,
            stdin=(PASSWORD,),
            networks=networks,
            options=("--xmlconfig", "profile.xml"),
        )
        self._stack.callback(_end, client)
        client.wait_until_configured()
        client.wait_for_dtls()
        return client

    def connect_ours(self) -> AnyvpnClient:
        """Another client, by `anyvpn connect`."""
        client = AnyvpnClient(
            self._hosts[2],
            self._directory,
            self.ca_file,
            server=f"{NAME}:443",
            address=GATEWAY_ADDRESS,
            user=USER,
            stdin=(PASSWORD,),
        )
        self._stack.callback(_end, client)
        client.wait_until_connected()
        client.wait_for_dtls()
        return client

    @property
    def ca_file(self) -> Path:
        """What clients trust."""
        return self._gateway_directory / "ca.pem"

    def inner_addresses(self) -> tuple[list[str], list[str]]:
        """The gateway's addresses in the tunnel network, and these networks."""
        found = loads(self._gateway_host.run("ip", "-json", "address", "show"))
        cables = {"lo", "client1", "client2", "client3"}
        addresses = [
            (each["local"], each["prefixlen"])
            for device in found
            if device["ifname"] not in cables
            for each in device["addr_info"]
            if each.get("scope") == "global"
        ]
        networks = [str(ip_interface(f"{a}/{length}").network) for a, length in addresses]
        return [local for local, _ in addresses], networks

    def measure(self, client: TunnelClient, inner: Sequence[str], megabytes: int) -> None:
        """Ping and transfers through the tunnel."""
        for address in inner:
            output = client.namespace.run(
                *("ping", "-n", "-c", str(PINGS), "-w", str(PING_TIME_S), "-i", "0.1"),
                *("-I", client.device, address),
                may_fail=True,
            )
            times = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", output)
            assert times is not None, output
            lost = len(set(range(1, PINGS + 1)) - answered(output))
            say(f"ping {address}", f"{times[2]} ms on average, {lost * 100 // PINGS} % lost")
        self._serve_transfers()
        for wanted in ("download", "upload"):
            before = client.moved_bytes()
            mover = Program(
                f"the {wanted}",
                client.namespace.command(
                    transfer.command(wanted, inner[0], str(TRANSFER_PORT), str(megabytes))
                ),
            )
            self._stack.callback(_end, mover)
            result = loads(mover.wait_for(r"^\{.*\}$", limit_s=300)[0])
            if not result["matches"]:
                raise UnmetExpectation(f"the {wanted} arrived with another hash")
            moved = client.moved_bytes() - before
            if moved < result["bytes"]:
                raise UnmetExpectation(f"the {wanted} did not go through the tunnel")
            say(
                f"{wanted}",
                f"{megabytes} MB in {result['seconds']:.1f} s, "
                f"{result['megabits_per_s']:.0f} Mbit/s, SHA-256 matches",
            )

    def _serve_transfers(self) -> None:
        """The other end of transfers, started once."""
        if self._serves:
            return
        self._serves = True
        server = Program(
            "the transfer server",
            self._gateway_host.command(transfer.command("serve", str(TRANSFER_PORT))),
        )
        self._stack.callback(server.kill)
        server.wait_for("serving")

    def command_for_another_client(self, networks: Sequence[str], inside: bool) -> str:
        """To be pasted into another terminal."""
        script = self._directory / "another-client" / "script"
        script.parent.mkdir()
        write_script(script, networks)
        host = self._hosts[1]
        own = "--user --preserve-credentials " if inside else ""
        prefix = "" if inside or os.environ.get("SUDO_UID") is None else "sudo "
        return (
            f"{prefix}nsenter --target {host.pid} {own}--net -- {EXECUTABLE} "
            f"--cafile {self.ca_file} --script {script} "
            f"--resolve {NAME}:{GATEWAY_ADDRESS} --user {USER} https://{NAME}"
        )


def show(demonstration: Demonstration, megabytes: int) -> Program:
    """All of it, phase by phase; gives the running gateway."""
    demonstration.lay_network()
    console.print("[bold]anyvpn[/]: a gateway, and two clients that connect to it")
    demonstration.configure()
    gateway = demonstration.start_gateway()
    say("gateway", f"{GATEWAY_ADDRESS}:443, set up by `anyvpn init`, run by `twistd`")
    inner, networks = demonstration.inner_addresses()
    client = demonstration.connect(networks)
    environment = client.environment()
    event = gateway.wait_for(r"\blogin_succeeded\b.*")[0]
    profile = re.search(r"profile=(\S+)", event)

    console.print("\n[bold green]Debian's openconnect[/]")
    phase(1, "TLS handshake")
    say("certificate", f"{NAME}, issued by {_issuer(demonstration.ca_file)}")
    tls = client.wait_for(r"Connected to HTTPS on .* with ciphersuite (.*)")[1]
    say("cipher of CSTP", tls)
    phase(2, "Group selection")
    say("connection profile", profile[1] if profile else "the only one")
    phase(3, "User authentication")
    say("user", USER)
    phase(4, "Downloads")
    kept = client.directory / "profile.xml"
    say("client profile", f"{kept.stat().st_size} bytes" if kept.exists() else "none asked for")
    phase(5, "Tunnel over TLS (CSTP)")
    for family in ("4", "6"):
        say(f"IPv{family} address", environment.get(f"INTERNAL_IP{family}_ADDRESS", "none"))
    say("MTU", f"{environment['INTERNAL_IP4_MTU']} bytes")
    phase(6, "Tunnel over UDP (DTLS)")
    say("cipher of DTLS", client.wait_for_dtls())
    console.print("\n[bold green]Traffic[/]  through the tunnel")
    demonstration.measure(client, inner, megabytes)

    console.print("\n[bold green]Our own client[/]  `anyvpn connect`, beside it")
    ours = demonstration.connect_ours()
    for line in ours.output().splitlines():
        print(f"  {line}")
    demonstration.measure(ours, inner, megabytes)
    return gateway


def show_command(demonstration: Demonstration, inside: bool) -> None:
    """How to connect another client."""
    inner, networks = demonstration.inner_addresses()
    console.print(
        "\n[bold]Another client[/], from another terminal "
        f"(password: [bold]{PASSWORD}[/]; in it, ping {inner[0]}):\n"
    )
    print(demonstration.command_for_another_client(networks, inside), flush=True)


def wait_for_interrupt(gateway: Program) -> None:
    """Stay until Ctrl-C, and say what the gateway says meanwhile."""
    console.print("\nCtrl-C ends it all. The gateway's log from here on:\n")
    shown = gateway.position
    pause = threading.Event()
    while gateway.is_running:
        pause.wait(0.5)
        news = gateway.output(shown)
        if news:
            shown += len(news.splitlines())
            print(news, flush=True)
    raise UnmetExpectation(f"the gateway has ended\n{gateway.output()[-2000:]}")


def _issuer(ca_file: Path) -> str:
    from cryptography import x509  # noqa: PLC0415 - the report's start should not wait for it

    certificate = x509.load_pem_x509_certificate(ca_file.read_bytes())
    return certificate.subject.rfc4514_string()


def _end(program: Program) -> None:
    program.stop()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Give 0 when everything was shown."""
    parser = argparse.ArgumentParser(prog="make run")
    parser.add_argument("--once", action="store_true", help="end after the report")
    parser.add_argument("--megabytes", type=int, default=100, help="size of a transfer")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    check_programs()
    become_root_of_own_network(sys.argv[1:])
    check_tun()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anyvpn-run-")))
        try:
            demonstration = Demonstration(stack, directory)
            gateway = show(demonstration, options.megabytes)
            if not options.once:
                show_command(demonstration, options.inside_user_namespace)
                wait_for_interrupt(gateway)
        except UnmetExpectation as problem:
            print(f"make run: {problem}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            console.print("\nCleaning up.")
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
