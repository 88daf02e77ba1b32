"""Whom the client trusts: what is checked of a gateway's certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """What a gateway's certificate must be."""

    ca_file: Path | None = None
    system_trust: bool = True
    pins: tuple[str, ...] = ()
    allow_untrusted: bool = False
    first_use_file: Path | None = None
    server_name: str = ""
