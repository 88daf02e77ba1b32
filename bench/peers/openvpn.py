"""OpenVPN at both ends: UDP, AES-256-GCM, everything else as it is by default."""

from __future__ import annotations

import shutil

from anyvpn.testing.programs import Program
from bench.peers.certificates import Certificates
from bench.processes import Processes
from bench.topology import CLIENT_ADDRESS, GATEWAY_ADDRESS, INSIDE_NETWORK, Topology, mtu_bytes
from bench.tunnel import Channel, OpenTunnel

PORT = 1194
CIPHER = "AES-256-GCM"
_GATEWAY_DEVICE, _CLIENT_DEVICE = "ovgateway", "ovclient"
_READY = "Initialization Sequence Completed"
_START_TIME_S = 30.0


def why_not() -> str:
    """What is missing; empty when nothing is."""
    return "" if shutil.which("openvpn") else "openvpn not installed"


class OpenVPNPeer:
    """A process at each end, as point-to-point over TLS."""

    def __init__(self, topology: Topology, certificates: Certificates) -> None:
        self.channels = (Channel.DATAGRAMS,)
        self._topology = topology
        self._certificates = certificates
        self._gateway: Program | None = None
        self._client: Program | None = None

    def start(self) -> None:
        """Start the gateway's end, which is ready when a client has come."""
        made = self._certificates
        self._gateway = Program(
            "OpenVPN of the gateway",
            self._topology.gateway.command(
                [
                    *self._common(_GATEWAY_DEVICE, "10.79.0.1", "10.79.0.2"),
                    *("--tls-server", "--dh", "none"),
                    *("--cert", str(made.server), "--key", str(made.server_key)),
                    *("--local", GATEWAY_ADDRESS, "--lport", str(PORT)),
                    *("--remote", CLIENT_ADDRESS, str(PORT)),
                ]
            ),
        )

    def connect(self, channel: Channel) -> OpenTunnel:
        """Start the client's end. Raises: UnmetExpectation."""
        host, made = self._topology.client, self._certificates
        assert self._gateway is not None, "not started"
        self._client = Program(
            "OpenVPN of the client",
            host.command(
                [
                    *self._common(_CLIENT_DEVICE, "10.79.0.2", "10.79.0.1"),
                    "--tls-client",
                    *("--cert", str(made.user), "--key", str(made.user_key)),
                    *("--local", CLIENT_ADDRESS, "--lport", str(PORT)),
                    *("--remote", GATEWAY_ADDRESS, str(PORT)),
                ]
            ),
        )
        for program in (self._client, self._gateway):
            program.wait_for(_READY, limit_s=_START_TIME_S)
        host.add_route(INSIDE_NETWORK, "dev", _CLIENT_DEVICE)
        return OpenTunnel(
            host=host,
            device=_CLIENT_DEVICE,
            channel=channel,
            cipher=self._client.wait_for(rf"Data Channel: cipher '({CIPHER})'")[1],
            mtu_bytes=mtu_bytes(host, _CLIENT_DEVICE),
            gateway=Processes(self._gateway.pid),
            send_signal=self._client.send_signal,
            close=self._client.kill,
        )

    def stop(self) -> None:
        """End both; stopping twice does no harm."""
        for program in (self._client, self._gateway):
            if program is not None:
                program.kill()
        self._client = self._gateway = None

    def _common(self, device: str, own: str, other: str) -> list[str]:
        return [
            *("openvpn", "--proto", "udp", "--dev-type", "tun", "--dev", device),
            *("--ifconfig", own, other, "--ca", str(self._certificates.ca)),
            *("--data-ciphers", CIPHER, "--cipher", CIPHER, "--verb", "4"),
        ]
