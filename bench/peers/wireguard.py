"""wireguard-go at both ends: the strongest peer in user space."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.programs import Program, wait_until
from bench.processes import Processes
from bench.topology import CLIENT_ADDRESS, GATEWAY_ADDRESS, INSIDE_NETWORK, Topology, mtu_bytes
from bench.tunnel import Channel, OpenTunnel

PORT = 51820
CIPHER = "ChaCha20-Poly1305, it has no other"


@dataclass(frozen=True, slots=True)
class _End:
    """One end; its socket for `wg` is named after its device, so both devices have their own."""

    host: Namespace
    device: str
    inner_address: str
    outer_address: str
    allowed: str
    """What may come from the other end."""

    def is_gone(self) -> bool:
        """Whether the device of the last round is."""
        return self.device not in self.host.devices()


def why_not() -> str:
    """What is missing; empty when nothing is."""
    missing = [name for name in ("wireguard-go", "wg") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


class WireGuardPeer:
    """A process at each end; its tunnel is there as soon as both are."""

    def __init__(self, topology: Topology, directory: Path) -> None:
        self.channels = (Channel.DATAGRAMS,)
        self._directory = directory / "wireguard"
        self._directory.mkdir()
        self._gateway = _End(
            topology.gateway, "wggateway", "10.78.0.1", GATEWAY_ADDRESS, "10.78.0.2/32"
        )
        self._client = _End(
            topology.client, "wgclient", "10.78.0.2", CLIENT_ADDRESS, f"10.78.0.1,{INSIDE_NETWORK}"
        )
        self._programs: list[Program] = []

    def start(self) -> None:
        """Start both ends."""
        keys = {end: self._new_key(end) for end in (self._gateway, self._client)}
        for end, other in (self._gateway, self._client), (self._client, self._gateway):
            self._programs.append(
                Program("wireguard-go", end.host.command(["wireguard-go", "-f", end.device]))
            )
            self._configure(end, other, keys[other])
        self._client.host.add_route(INSIDE_NETWORK, "dev", self._client.device)

    def connect(self, channel: Channel) -> OpenTunnel:
        """The tunnel that is there."""
        host, device = self._client.host, self._client.device
        return OpenTunnel(
            host=host,
            device=device,
            channel=channel,
            cipher=CIPHER,
            mtu_bytes=mtu_bytes(host, device),
            gateway=Processes(self._programs[0].pid),
            send_signal=self._programs[1].send_signal,
            close=lambda: None,
        )

    def stop(self) -> None:
        """End both; stopping twice does no harm."""
        while self._programs:
            self._programs.pop().stop(signal.SIGTERM)
        for end in (self._gateway, self._client):
            wait_until(end.is_gone, f"{end.device} is gone")

    def _new_key(self, end: _End) -> str:
        """Gives the public key; the private one stays in a file."""
        key = end.host.run("wg", "genkey")
        self._key_file(end).write_text(key)
        return end.host.run("wg", "pubkey", stdin=key).strip()

    def _key_file(self, end: _End) -> Path:
        return self._directory / f"{end.device}.key"

    def _configure(self, end: _End, other: _End, other_key: str) -> None:
        wait_until(
            lambda: end.host.run("wg", "show", end.device, may_fail=True), f"{end.device} is there"
        )
        end.host.run(
            *("wg", "set", end.device, "listen-port", str(PORT)),
            *("private-key", str(self._key_file(end)), "peer", other_key),
            *("endpoint", f"{other.outer_address}:{PORT}", "allowed-ips", end.allowed),
        )
        end.host.add_addresses(end.device, f"{end.inner_address}/24")
        end.host.run("ip", "link", "set", end.device, "up")
