"""What the client's tun device is to be: what the gateway granted, at the MTU of the moment."""

from __future__ import annotations

from dataclasses import dataclass

from anyvpn.model.group_policy import SMALLEST_MTU_BYTES, Address
from anyvpn.model.tunnel_settings import LARGEST_TUNNEL_MTU_BYTES, TunnelSettings


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """All that an adapter needs to know.

    `mtu_bytes` is that of the channel in use, which may differ from what `granted` says. What
    changes with every CONNECT, such as the ids of the DTLS channel, is left out of `granted`.
    `gateway_address` is the outer address that must stay reachable past the tunnel (that of the
    proxy, when there is one); None when no route has to be kept for it.
    """

    granted: TunnelSettings
    mtu_bytes: int
    gateway_address: Address | None = None
    gateway_name: str = ""

    def __post_init__(self) -> None:
        if not SMALLEST_MTU_BYTES <= self.mtu_bytes <= LARGEST_TUNNEL_MTU_BYTES:
            raise ValueError("no such MTU")
