"""Our client as a service, run by `twistd anyvpn-client`, as an operator of a link does it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.tunnel_client import TunnelClient
from tests.interop import toml
from tests.interop.gateway import NAME, PORT, TWISTD, environment
from tests.interop.network import GATEWAY_ADDRESS

_numbers = itertools.count(1)


class ClientService(TunnelClient):
    """One run of it; `settings` are laid over a configuration that fits the tests' gateway."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        ca_file: Path,
        settings: Mapping[str, object],
    ) -> None:
        number = next(_numbers)
        device = f"avs{number}"
        self.directory = directory / f"service{number}"
        self.directory.mkdir(parents=True)
        resolv_conf = self.directory / "resolv.conf"
        resolv_conf.write_text("nameserver 192.0.2.53\n")
        base: Mapping[str, object] = {
            "client": {
                "url": f"https://{NAME}:{PORT}",
                "resolve": {NAME: GATEWAY_ADDRESS},
                "profile_directory": "profiles",
            },
            "trust": {"ca_file": str(ca_file)},
            "adapter": {
                "backend": "linux",
                "device": device,
                "resolv_conf": str(resolv_conf),
                "state_directory": "state",
            },
        }
        configuration = self.directory / "client.toml"
        configuration.write_text(toml.write(toml.merge(base, settings)))
        configuration.chmod(0o600)
        super().__init__(
            f"client service {number}",
            namespace,
            device,
            [
                *(TWISTD, "--nodaemon", "--pidfile="),
                *("anyvpn-client", "--config", str(configuration)),
            ],
            stdin=(),
            directory=self.directory,
            environment=environment(),
        )

    def wait_until_connected(self, *, since: int = 0) -> None:
        """The tunnel is there, and its device is set up."""
        self.wait_for(r"\bConnected: ", limit_s=20.0, since=since)
