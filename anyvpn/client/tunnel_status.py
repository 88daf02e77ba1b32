"""How a tunnel is doing, as a value for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass

from anyvpn.model.channels import ChannelName
from anyvpn.model.events import Counters
from anyvpn.model.tunnel_settings import TunnelSettings


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """How a tunnel is doing; in `counters`, "received" is what came from the gateway.

    `round_trip_s` is 0 until a probe was answered. While the link is lost `is_connected` is false.
    """

    is_connected: bool
    channel: ChannelName
    cipher: str
    tls: str
    device: str
    mtu_bytes: int
    settings: TunnelSettings
    counters: Counters
    round_trip_s: float
    connected_at_s: float
    reconnects: int
