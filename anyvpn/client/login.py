"""What a successful authentication leaves: all that CONNECT and the downloader need."""

from __future__ import annotations

from dataclasses import dataclass, field

from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.strap import StrapKeys
from anyvpn.client.trust import AcceptedCertificate
from anyvpn.model.authentication import Manifest


@dataclass(frozen=True, slots=True)
class Login:
    """A session at `url`, which redirects may have led to; `address` is its outer IP address.

    `cookies` are those of the login, for the downloader; the tunnel needs the token alone.
    `session_id` is empty at gateways that know no logout. `strap` are the keys that the login was
    bound to, if it was.
    """

    url: GatewayURL
    token: str = field(repr=False)
    certificate: AcceptedCertificate | None = None
    address: str = ""
    session_id: str = ""
    profiles: tuple[Manifest, ...] = ()
    cookies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    strap: StrapKeys | None = field(default=None, repr=False)
