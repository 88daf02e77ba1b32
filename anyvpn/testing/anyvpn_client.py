"""Our own client, run by its command, as a peer for tests and demonstrations."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from json import loads
from pathlib import Path

import anyvpn
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program

_PACKAGE_DIRECTORY = Path(anyvpn.__file__).parents[1]
"""So that the command is found where the package is not installed."""

_numbers = itertools.count(1)


class AnyvpnClient(Program):
    """One run of `anyvpn connect` in a namespace; its files are in `directory`.

    The gateway is named by `server` ("name:port") and reached at `address`.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        ca_file: Path,
        *,
        server: str,
        address: str,
        path: str = "",
        user: str = "",
        stdin: Sequence[str] = (),
        options: Sequence[str] = (),
        command: str = "connect",
    ) -> None:
        number = next(_numbers)
        self.namespace = namespace
        self.device = f"av{number}"
        self.directory = directory / f"anyvpn{number}"
        self.directory.mkdir(parents=True)
        self.resolv_conf = self.directory / "resolv.conf"
        self.resolv_conf.write_text("nameserver 192.0.2.53\n")
        name = server.rpartition(":")[0]
        login = ("--user", user, "--passwd-on-stdin") if user else ()
        device = ("--interface", self.device, "--resolv-conf", str(self.resolv_conf))
        super().__init__(
            f"anyvpn client {number}",
            namespace.command(
                [
                    *(sys.executable, "-m", "anyvpn.cli.main", command),
                    *("--cafile", str(ca_file), "--resolve", f"{name}:{address}"),
                    *(device if command == "connect" else ()),
                    *(*login, *options, f"https://{server}{path}"),
                ]
            ),
            stdin="".join(f"{line}\n" for line in stdin),
            directory=self.directory,
            environment={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": str(_PACKAGE_DIRECTORY),
                "XDG_DATA_HOME": str(self.directory / "data"),
            },
        )

    def wait_until_connected(self, *, limit_s: float = 20.0) -> None:
        """The tunnel is there, and its device is set up."""
        self.wait_for(r"^Connected: ", limit_s=limit_s)

    def wait_for_dtls(self, *, limit_s: float = 20.0, since: int = 0) -> str:
        """Data goes over DTLS; gives the cipher suite."""
        return self.wait_for(r"data goes over UDP \(DTLS (\S+)\)", limit_s=limit_s, since=since)[1]

    @property
    def inner_addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The addresses of the tunnel as the device has them."""
        shown = loads(self.namespace.run("ip", "-json", "address", "show", "dev", self.device))
        found = [ip_address(each["local"]) for each in shown[0]["addr_info"]]
        return tuple(each for each in found if not each.is_link_local)

    def mtu_bytes(self) -> int:
        """The device's MTU now."""
        shown = loads(self.namespace.run("ip", "-json", "link", "show", "dev", self.device))
        return int(shown[0]["mtu"])

    def moved_bytes(self) -> int:
        """What has gone through its device so far, in both directions."""
        shown = self.namespace.run("ip", "-json", "-stats", "link", "show", "dev", self.device)
        statistics = loads(shown)[0]["stats64"]
        return int(statistics["rx"]["bytes"]) + int(statistics["tx"]["bytes"])

    def ping(self, address: str, *, count: int = 2, size_bytes: int = 56) -> bool:
        """Whether every one of `count` pings through the tunnel is answered."""
        output = self.namespace.run(
            *("ping", "-n", "-c", str(count), "-i", "0.1", "-W", "3", "-s", str(size_bytes)),
            *("-I", self.device, address),
            may_fail=True,
        )
        return re.search(rf"\b{count} received", output) is not None
