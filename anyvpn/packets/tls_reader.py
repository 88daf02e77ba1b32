"""Who reads a TLS connection."""

from __future__ import annotations

from typing import Protocol


class ITLSReader(Protocol):
    """Who is told of what a TLS connection does."""

    def secured(self) -> None:
        """The handshake is complete; the peer's certificates, if any, can be looked at."""

    def received(self, data: bytes) -> None:
        """Bytes came, in order, in pieces of any size."""

    def closed(self, reason: str) -> None:
        """Nothing more comes or goes; called once, for every connection."""


class _Nobody:
    """Reads what is left of a connection that is closed."""

    def secured(self) -> None:
        """Nothing comes of it."""

    def received(self, data: bytes) -> None:
        """Nor of this."""

    def closed(self, reason: str) -> None:
        """Nor of this."""


NOBODY = _Nobody()
