"""Client profiles: the AnyConnect XML profile, as bytes with a name and as the parts we use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClientProfile:
    """A profile file: its name and its exact bytes, over which the SHA-1 is announced."""

    name: str
    content: bytes = field(repr=False)

    @property
    def sha1(self) -> str:
        """Upper-case hex, as the manifests carry it (protocol reference, section 6)."""
        return hashlib.sha1(self.content, usedforsecurity=False).hexdigest().upper()


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One HostEntry: what the user may type, where it leads, and its backups."""

    name: str
    address: str
    user_group: str = ""
    primary_protocol: str = "SSL"
    backup_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientProfileSettings:
    """The parts of a profile that a client applies (protocol reference, section 7)."""

    servers: tuple[ServerEntry, ...] = ()
    backup_addresses: tuple[str, ...] = ()
    authentication_timeout_s: int = 0
    auto_reconnect: bool = True
    ip_protocols: tuple[str, ...] = ()
    proxy_settings: str = "Native"
    local_lan_access: bool = False
