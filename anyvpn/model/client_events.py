"""What happens to a client, as values for whoever follows it: terminal, log, embedding program."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from anyvpn.model.channels import ChannelName
from anyvpn.model.tunnel_settings import TunnelSettings


class Phase(Enum):
    """Where a connection is; the first six are the protocol's own."""

    TLS = "TLS handshake"
    GROUP = "group selection"
    AUTHENTICATION = "authentication"
    DOWNLOADER = "downloader"
    CSTP = "tunnel request"
    DTLS = "DTLS handshake"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    """A phase begins; `detail` is text for people."""

    phase: Phase
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CertificateWarning:
    """The gateway's certificate is not trusted and was let pass because the user said so.

    Told on every TLS session until the fault is gone.
    """

    reason: str
    pin: str


@dataclass(frozen=True, slots=True)
class MessageShown:
    """The gateway has something to say to the user: a banner or a message, one or more lines."""

    text: str


@dataclass(frozen=True, slots=True)
class ProfileStored:
    """A client profile was stored, or was already there as announced (`is_new` is false then)."""

    name: str
    path: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class TunnelReady:
    """The adapter is up and data moves over CSTP."""

    settings: TunnelSettings
    device: str
    mtu_bytes: int
    tls: str
    """Such as "TLSv1.3 TLS_AES_256_GCM_SHA384"."""


@dataclass(frozen=True, slots=True)
class ChannelChanged:
    """Data goes over this channel from now on; `cipher` is its suite."""

    channel: ChannelName
    cipher: str
    reason: str


@dataclass(frozen=True, slots=True)
class AdapterChanged:
    """The adapter was set up anew, without anything being negotiated; users see a reconnect."""

    mtu_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """The tunnel is lost; the next try to get it back comes in `delay_s` seconds."""

    reason: str
    attempt: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Disconnected:
    """It is over; nothing is left of the tunnel."""

    reason: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """A request, an answer or a header block, for verbose output: secrets are masked."""

    direction: str
    """"sent" or "received"."""
    text: str = field(repr=False)


ClientEvent = (
    PhaseEntered
    | CertificateWarning
    | MessageShown
    | ProfileStored
    | TunnelReady
    | ChannelChanged
    | AdapterChanged
    | Retrying
    | Disconnected
    | Traffic
)
