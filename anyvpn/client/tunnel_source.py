"""Where a tunnel gets its links and its logins from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.logger import Logger

from anyvpn.client.login import Login
from anyvpn.client.tunnel_request import OpenedTunnel
from anyvpn.errors import GatewayUnreachable, GatewayUntrusted, TokenRejected
from anyvpn.model.group_policy import Address
from anyvpn.model.tunnel_settings import TunnelSettings

log = Logger()


class ClientReactor(IReactorTime, IReactorFDSet):
    """What a client needs of a reactor."""


class TunnelSource(Protocol):
    """What a tunnel asks of its client."""

    async def open_link(self, login: Login, wishes: tuple[Address, ...]) -> OpenedTunnel:
        """CONNECT once more. Raises ClientError, PeerError."""

    async def log_in(self, address: str = "") -> Login:
        """Phases 1 to 4 anew, at this outer address before any other.

        Raises ClientError, PeerError, LoginAborted.
        """

    async def log_out(self, login: Login) -> None:
        """Tell the gateway that nobody comes back; never raises."""


async def reopen(
    source: TunnelSource, login: Login, granted: TunnelSettings
) -> tuple[Login, OpenedTunnel]:
    """A link of the tunnel that was granted; a session that is forgotten takes a new login.

    Raises ClientError, PeerError, LoginAborted.
    """
    wishes = granted.lease.addresses
    try:
        if granted.dynamic_dns:
            with suppress(GatewayUnreachable):
                return login, await source.open_link(replace(login, address=""), wishes)
        return login, await source.open_link(login, wishes)
    except (TokenRejected, GatewayUntrusted) as error:
        # A certificate that was renewed is looked at anew, by all rules; where there are none,
        # somebody in between would get the password
        is_lenient = login.certificate is not None and bool(login.certificate.warning)
        if isinstance(error, GatewayUntrusted) and is_lenient:
            raise
        log.info("A new login is needed: {why}", why=error)
    login = await source.log_in(login.address)
    return login, await source.open_link(login, wishes)
