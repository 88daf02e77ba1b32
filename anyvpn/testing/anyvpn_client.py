"""Our own client, run by its command, as a peer for tests and demonstrations."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from json import loads
from pathlib import Path

import anyvpn
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.tunnel_client import TunnelClient

_PACKAGE_DIRECTORY = Path(anyvpn.__file__).parents[1]
"""So that the command is found where the package is not installed."""

_numbers = itertools.count(1)


class AnyvpnClient(TunnelClient):
    """One run of `anyvpn connect` in a namespace; its files are in `directory`.

    The gateway is named by `server` ("name:port") and reached at `address`. `at_terminal` lets it
    find a terminal, whose output is ours to read.
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
        at_terminal: bool = False,
    ) -> None:
        number = next(_numbers)
        device = f"av{number}"
        self.directory = directory / f"anyvpn{number}"
        self.directory.mkdir(parents=True)
        self.resolv_conf = self.directory / "resolv.conf"
        self.resolv_conf.write_text("nameserver 192.0.2.53\n")
        name = server.rpartition(":")[0]
        login = ("--user", user, "--passwd-on-stdin") if user else ()
        host = (
            *("--interface", device, "--resolv-conf", str(self.resolv_conf)),
            *("--state-directory", str(self.directory)),
        )
        words = [
            *(sys.executable, "-m", "anyvpn.cli.main", command),
            *("--cafile", str(ca_file), "--resolve", f"{name}:{address}"),
            *(host if command == "connect" else ()),
            *(*login, *options, f"https://{server}{path}"),
        ]
        if at_terminal:
            words = ["script", "-qefc", shlex.join(words), "/dev/null"]
        super().__init__(
            f"anyvpn client {number}",
            namespace,
            device,
            words,
            stdin=stdin,
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
