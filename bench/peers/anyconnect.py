"""Clients of the AnyConnect protocol: Debian's openconnect, and our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.openconnect import OpenConnect
from anyvpn.testing.programs import UnmetExpectation
from bench.peers.gateway import Gateway
from bench.topology import GATEWAY_ADDRESS, INSIDE_NETWORK, Topology, mtu_bytes
from bench.tunnel import Channel, OpenTunnel

CIPHER = "AES-256-GCM"
CONNECT_TIME_S = 60.0


class AnyConnectPeer:
    """A gateway, and the client that `connect` runs."""

    def __init__(self, gateway: Gateway, connect: Callable[[Channel], OpenTunnel]) -> None:
        self.gateway = gateway
        self.start = gateway.start
        self.connect = connect
        self.stop = gateway.stop
        self.channels = (Channel.DATAGRAMS, Channel.STREAM)


def connect_openconnect(
    topology: Topology, gateway: Gateway, directory: Path, channel: Channel
) -> OpenTunnel:
    """A tunnel of Debian's openconnect. Raises: UnmetExpectation: not by this channel."""
    certificates = gateway.certificates
    options = [] if channel is Channel.DATAGRAMS else ["--no-dtls"]
    client = OpenConnect(
        topology.client,
        directory,
        certificates.ca,
        server=gateway.server,
        address=GATEWAY_ADDRESS,
        networks=(INSIDE_NETWORK,),
        options=(
            *("--certificate", str(certificates.user), "--sslkey", str(certificates.user_key)),
            *options,
        ),
    )
    try:
        client.wait_until_configured(limit_s=CONNECT_TIME_S)
        if channel is Channel.DATAGRAMS:
            cipher = client.wait_for_dtls()
        else:
            cipher = client.wait_for(r"Connected to HTTPS on .* with ciphersuite (.*)")[1]
        return _opened(topology, gateway, channel, client, cipher)
    except BaseException:
        client.kill()
        raise


def connect_anyvpn(
    topology: Topology, gateway: Gateway, directory: Path, channel: Channel
) -> OpenTunnel:
    """A tunnel of our own client. Raises: UnmetExpectation: not by this channel."""
    certificates = gateway.certificates
    options = [] if channel is Channel.DATAGRAMS else ["--no-dtls"]
    client = AnyvpnClient(
        topology.client,
        directory,
        certificates.ca,
        server=gateway.server,
        address=GATEWAY_ADDRESS,
        options=(
            *("--certificate", str(certificates.user), "--sslkey", str(certificates.user_key)),
            *("--non-inter", "--engine", gateway.engine, *options),
        ),
    )
    try:
        client.wait_until_connected(limit_s=CONNECT_TIME_S)
        if channel is Channel.DATAGRAMS:
            cipher = client.wait_for_dtls()
        else:
            cipher = client.wait_for(r"^Connected: .*MTU \d+, (.*)")[1]
        return _opened(topology, gateway, channel, client, cipher)
    except BaseException:
        client.kill()
        raise


def _opened(
    topology: Topology,
    gateway: Gateway,
    channel: Channel,
    client: OpenConnect | AnyvpnClient,
    cipher: str,
) -> OpenTunnel:
    if CIPHER not in cipher.replace("_", "-"):
        raise UnmetExpectation(f"{client.name} has {cipher} instead of {CIPHER}")
    return OpenTunnel(
        host=topology.client,
        device=client.device,
        channel=channel,
        cipher=cipher,
        mtu_bytes=mtu_bytes(topology.client, client.device),
        gateway=gateway.processes,
        send_signal=client.send_signal,
        close=client.stop,
    )
