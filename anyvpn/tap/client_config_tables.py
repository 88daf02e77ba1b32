"""The tables of a client's configuration file, with the help for each key."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from anyvpn.tap.config_tables import Section, Shape


@attrs.frozen
class ClientTable:
    """The gateway, and how to be known there."""

    url: str = attrs.field(
        metadata={"help": "The gateway: a name, name:port or URL.", "example": "vpn.example.com"}
    )
    group: str = attrs.field(
        default="", metadata={"help": "The group to log in to, as the gateway's menu has it."}
    )
    certificate: Path | None = attrs.field(
        default=None,
        metadata={
            "help": "Client certificate: PEM or PKCS#12, without passphrase.",
            "example": "client.pem",
        },
    )
    key: Path | None = attrs.field(
        default=None,
        metadata={"help": "Its key, when in a file of its own.", "example": "client-key.pem"},
    )
    resolve: dict[str, str] = attrs.field(
        factory=dict, metadata={"help": "Addresses of hosts, to take instead of DNS."}
    )
    profile_directory: Path | None = attrs.field(
        default=None,
        metadata={"help": "Where client profiles are kept.", "example": "profiles"},
    )
    profiles_required: bool = attrs.field(
        default=True, metadata={"help": "Whether to go without a profile that cannot be had."}
    )
    ipv6: bool = attrs.field(default=True, metadata={"help": "Ask for IPv6 addresses too."})
    engine: Literal["auto", "compiled", "python"] = attrs.field(
        default="auto",
        metadata={"help": "Packet engine; auto: the compiled one where it is installed."},
    )
    reconnect_time_s: float = attrs.field(
        default=300.0, metadata={"help": "How long to try to get a lost tunnel back."}
    )


@attrs.frozen
class TrustTable:
    """What the gateway's certificate must be."""

    ca_file: Path | None = attrs.field(
        default=None, metadata={"help": "Authorities to trust (PEM).", "example": "ca.pem"}
    )
    system_trust: bool = attrs.field(
        default=True, metadata={"help": "Trust the authorities of the system as well."}
    )
    pins: tuple[str, ...] = attrs.field(
        default=(), metadata={"help": "Accept these keys alone: pin-sha256:..."}
    )
    allow_untrusted: bool = attrs.field(
        default=False, metadata={"help": "Accept any certificate, with a warning each time."}
    )


@attrs.frozen
class DTLSTable:
    """The UDP side."""

    enabled: bool = attrs.field(default=True, metadata={"help": "Use UDP where it passes."})
    psk: bool = attrs.field(default=True, metadata={"help": "Offer PSK-NEGOTIATE."})
    legacy: bool = attrs.field(default=False, metadata={"help": "Offer old CBC suites too."})


CLIENT_SECTIONS: tuple[Section, ...] = (
    Section("client", "The gateway, and how to be known there.", table=ClientTable),
    Section("trust", "What the gateway's certificate must be.", table=TrustTable, default={}),
    Section("dtls", "The UDP side.", table=DTLSTable, default={}),
    Section(
        "responders",
        "Who answers the gateway's questions: asked in this order.",
        Shape.ARRAY,
        kind="responder",
        default=[],
    ),
    Section(
        "adapter",
        "The tun device; `namespace` needs no privileges.",
        kind="adapter",
        default_backend="linux",
        default={},
    ),
)
