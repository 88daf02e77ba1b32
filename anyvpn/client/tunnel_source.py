"""Where a tunnel gets its links and its logins from."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorFDSet, IReactorTime

from anyvpn.client.login import Login
from anyvpn.client.tunnel_request import OpenedTunnel
from anyvpn.model.group_policy import Address


class ClientReactor(IReactorTime, IReactorFDSet):
    """What a client needs of a reactor."""


class TunnelSource(Protocol):
    """What a tunnel asks of its client."""

    async def open_link(self, login: Login, wishes: tuple[Address, ...]) -> OpenedTunnel:
        """CONNECT once more. Raises ClientError, PeerError."""

    async def log_in(self) -> Login:
        """Phases 1 to 4 anew. Raises ClientError, PeerError, LoginAborted."""

    async def log_out(self, login: Login) -> None:
        """Tell the gateway that nobody comes back; never raises."""
