"""Client certificates with their keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientCredential:
    """A certificate chain and its key."""
