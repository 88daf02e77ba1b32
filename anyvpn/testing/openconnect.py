"""The openconnect of the system, as a peer for tests and demonstrations."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import wait_until
from anyvpn.testing.tunnel_client import TunnelClient

EXECUTABLE = shutil.which("openconnect", path="/usr/sbin:/usr/bin:/sbin:/bin") or "openconnect"

SCRIPT = """#!/bin/sh
set -eu
printf 'begin\\0' >> "{directory}/environment"
env -0 >> "{directory}/environment"
case "$reason" in
connect)
    ip link set dev "$TUNDEV" mtu "$INTERNAL_IP4_MTU" up
    [ -z "${{INTERNAL_IP4_ADDRESS:-}}" ] ||
        ip address replace "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
    [ -z "${{INTERNAL_IP6_ADDRESS:-}}" ] ||
        ip address replace "$INTERNAL_IP6_ADDRESS/128" dev "$TUNDEV" nodad
    # a metric of its own lets several clients on one host have the same routes
    for network in {networks}; do
        case "$network" in
        *:*) [ -n "${{INTERNAL_IP6_ADDRESS:-}}" ] || continue ;;
        *) [ -n "${{INTERNAL_IP4_ADDRESS:-}}" ] || continue ;;
        esac
        ip route replace "$network" dev "$TUNDEV" metric "${{TUNDEV##*[a-z]}}"
    done
    ;;
reconnect)
    ip link set dev "$TUNDEV" mtu "$INTERNAL_IP4_MTU"
    ;;
esac
printf 'done\\0' >> "{directory}/environment"
"""

_numbers = itertools.count(1)


def write_script(file: Path, networks: Sequence[str]) -> None:
    """A script for openconnect: sets address, MTU and the routes to `networks`.

    Beside vpnc-script it leaves the rest of the system alone, its name servers above all; the
    environment that it was given is kept in a file beside it.
    """
    file.write_text(SCRIPT.format(directory=file.parent, networks=" ".join(networks)))
    file.chmod(0o755)


class OpenConnect(TunnelClient):
    """One run of openconnect in a namespace; its files are in `directory`.

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
        networks: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        number = next(_numbers)
        device = f"oc{number}"
        self.directory = directory / f"openconnect{number}"
        self.directory.mkdir(parents=True)
        script = self.directory / "script"
        write_script(script, networks)
        login = ("--user", user, "--passwd-on-stdin") if user else ()
        name = server.rpartition(":")[0]
        super().__init__(
            f"openconnect {number}",
            namespace,
            device,
            [
                *(EXECUTABLE, "-v", "--cafile", str(ca_file), "--interface", device),
                *("--script", str(script), "--resolve", f"{name}:{address}"),
                *(*login, *options, f"https://{server}{path}"),
            ],
            stdin=stdin,
            directory=self.directory,
        )

    def wait_until_configured(self, *, limit_s: float = 20.0) -> None:
        """The tunnel is there, and the script has set up its device."""
        self.wait_for("Configured as ", limit_s=limit_s)
        self.environment()

    def wait_for_dtls(self, *, limit_s: float = 20.0, since: int = 0) -> str:
        """DTLS is up; gives what openconnect says about its cipher suite."""
        pattern = r"Established DTLS connection \(using GnuTLS\)\. Ciphersuite (.*?)\.?$"
        return self.wait_for(pattern, limit_s=limit_s, since=since)[1]

    def environments(self) -> list[dict[str, str]]:
        """What the script was given, run by run; the runs that have ended."""
        kept = self.directory / "environment"
        content = kept.read_text() if kept.exists() else ""
        runs = [run for run in content.split("begin\0") if run.endswith("done\0")]
        return [dict(line.split("=", 1) for line in run.split("\0") if "=" in line) for run in runs]

    def environment(self, reason: str = "connect", *, limit_s: float = 10.0) -> dict[str, str]:
        """What the script was given on the last run with that reason, which is waited for."""
        return wait_until(
            lambda: next((e for e in reversed(self.environments()) if e["reason"] == reason), {}),
            f"the script of {self.name} has run with reason={reason}",
            limit_s=limit_s,
        )

    @property
    def inner_addresses(self) -> tuple[str, str]:
        """The IPv4 and the IPv6 address of the tunnel; empty when there is none."""
        environment = self.environment()
        return (
            environment.get("INTERNAL_IP4_ADDRESS", ""),
            environment.get("INTERNAL_IP6_ADDRESS", ""),
        )
