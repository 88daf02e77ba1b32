"""Network namespaces that live no longer than the program that made them."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from anyvpn.testing.programs import UnmetExpectation

# From Linux: include/uapi/linux/sched.h
CLONE_NEWNET = 0x40000000

# Ours
COMMAND_TIME_S = 30.0


class Namespace:
    """An own network stack, with nothing in it but a loopback device.

    It is held by a process that ends when our end of its input closes, so a namespace is gone,
    with every device in it, even when the program that made it is killed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C on the terminal must not take the network away first
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().decode("utf-8", "replace").strip()
        if said != "ready":
            self.close()
            raise UnmetExpectation(f"no network namespace for {name}: {said or 'no answer'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """A process that is in it for as long as it lives."""
        return self._holder.pid

    def close(self) -> None:
        """Let it go; programs that still run in it keep it alive until they end."""
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait(COMMAND_TIME_S)

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in here."""
        return ["nsenter", "--target", str(self.pid), "--net", "--", *command]

    def run(self, *command: str, stdin: str = "", may_fail: bool = False) -> str:
        """Run a short program in here; gives its output. Raises: UnmetExpectation: it failed."""
        done = subprocess.run(
            self.command(command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIME_S,
            check=False,
        )
        if done.returncode and not may_fail:
            raise UnmetExpectation(
                f"{' '.join(command)} in {self.name} ended with {done.returncode}: "
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout

    def join(self, other: Namespace, own_device: str, other_device: str) -> None:
        """Lay a cable: a pair of Ethernet devices, one end here, one there."""
        self.run(
            *("ip", "link", "add", own_device, "type", "veth"),
            *("peer", "name", other_device, "netns", str(other.pid)),
        )
        self.run("ip", "link", "set", own_device, "up")
        other.run("ip", "link", "set", other_device, "up")

    def add_addresses(self, device: str, *addresses: str) -> None:
        """Give a device addresses with prefix length; IPv6 ones are usable at once."""
        for address in addresses:
            late = ("nodad",) if ":" in address else ()
            self.run("ip", "address", "add", address, "dev", device, *late)

    def add_route(self, destination: str, *via: str) -> None:
        """Add or replace a route; `via` as iproute2 writes it."""
        family = "-6" if ":" in " ".join((destination, *via)) else "-4"
        self.run("ip", family, "route", "replace", destination, *via)

    def forward(self) -> None:
        """Make a router of it, for IPv4 and IPv6."""
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.run("sh", "-c", f"echo 1 > /proc/sys/net/{key}")

    def filter(self, rules: str) -> None:
        """Replace every nftables rule in here by these."""
        self.run("nft", "-f", "-", stdin=f"flush ruleset\n{rules}\n")

    def devices(self) -> tuple[str, ...]:
        """The names of all network devices in here."""
        lines = self.run("ip", "-o", "link", "show").splitlines()
        return tuple(line.split(": ")[1].partition("@")[0] for line in lines)

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket that belongs to this namespace for all its life.

        A thread of its own enters the namespace to make it, so the caller stays where it is.
        """
        made: list[socket.socket | OSError] = []

        def enter_and_make() -> None:
            try:
                _enter_network_of(self.pid)
                made.append(socket.socket(family, kind))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=enter_and_make, name=f"socket in {self.name}")
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]


def _enter_network_of(pid: int) -> None:
    descriptor = os.open(Path(f"/proc/{pid}/ns/net"), os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
