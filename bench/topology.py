"""Client's host ── gateway's host ── host inside, each a network namespace.

The cable between client and gateway cuts bursts of datagrams into single ones before they go
over it, as a wire does: without that a veth device would hand a burst of 64 to the receiver as
one, and flatter whoever sends bursts. At its other end it joins them again for sockets that ask
for it (UDP_GRO), as the driver of any network card does; a veth device does so only when it is
told to. While no socket of this machine asks, the kernel does not look who does, and joins for all:
so there is one that does.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from json import loads

from anyvpn.testing.namespaces import Namespace

# From Linux
_SOL_UDP, _UDP_GRO = 17, 104

CLIENT_ADDRESS = "198.18.0.2"
GATEWAY_ADDRESS = "198.18.0.1"
INSIDE_ADDRESS = "10.99.0.2"
INSIDE_NETWORK = "10.99.0.0/24"
CABLE = "wan"
CABLE_FEATURES = {
    "tx-udp-segmentation": "off",
    "generic-receive-offload": "on",
    "rx-udp-gro-forwarding": "on",  # without it a veth device joins nothing
}


class Topology:
    """The three hosts; `inside` sends what is for tunnels to the gateway's host."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            asking = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with suppress(OSError):  # a kernel that joins nothing is asked in vain
                asking.setsockopt(_SOL_UDP, _UDP_GRO, 1)
            self.client = stack.enter_context(Namespace("client"))
            self.gateway = stack.enter_context(Namespace("gateway"))
            self.inside = stack.enter_context(Namespace("inside"))
            self.client.join(self.gateway, CABLE, CABLE)
            self.gateway.join(self.inside, "lan", "lan")
            self.client.add_addresses(CABLE, f"{CLIENT_ADDRESS}/24")
            self.gateway.add_addresses(CABLE, f"{GATEWAY_ADDRESS}/24")
            self.gateway.add_addresses("lan", "10.99.0.1/24")
            self.inside.add_addresses("lan", f"{INSIDE_ADDRESS}/24")
            self.inside.add_route("default", "via", "10.99.0.1")
            self.gateway.forward()
            for host in (self.client, self.gateway):
                for feature, wanted in CABLE_FEATURES.items():
                    host.run("ethtool", "--features", CABLE, feature, wanted)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Take it all down."""
        self._stack.close()


def moved_bytes(host: Namespace, device: str) -> int:
    """What has gone through a device so far, in both directions."""
    shown = host.run("ip", "-json", "-stats", "link", "show", "dev", device)
    statistics = loads(shown)[0]["stats64"]
    return int(statistics["rx"]["bytes"]) + int(statistics["tx"]["bytes"])


def mtu_bytes(host: Namespace, device: str) -> int:
    """The MTU that a device has now."""
    return int(loads(host.run("ip", "-json", "link", "show", "dev", device))[0]["mtu"])
