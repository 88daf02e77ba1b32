"""Client endpoint strings: `anyvpn:host.inside:22:config=/path/client.toml`.

All endpoints of one reactor with the same file share one tunnel, opened by the first that
connects.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet.interfaces import IReactorSocket

from anyvpn.client.endpoint import CONNECT_TIME_S, VPNClientEndpoint
from anyvpn.client.shared_tunnel import LINGER_S, SharedReactor, SharedTunnel
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.tunnel_source import ClientReactor
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IInnerNetwork
from anyvpn.tap.client_config import read_client_config
from anyvpn.tap.client_service import log_event


class EndpointReactor(SharedReactor, IReactorSocket):
    """What an endpoint needs of a reactor, besides what its tunnel does."""


_shared: dict[tuple[EndpointReactor, Path], SharedTunnel] = {}


def parse_client_endpoint(
    reactor: EndpointReactor,
    host: str,
    port: str,
    *,
    config: str,
    timeout: str = str(CONNECT_TIME_S),
    linger: str = str(LINGER_S),
) -> VPNClientEndpoint:
    """The endpoint of a string: host, port, file, and two times in seconds.

    `timeout` is for the connection to the host; `linger` is how long a tunnel that nobody uses
    stays, and is that of the first string with this file.

    Raises: ConfigurationError: the file is wrong.
    Raises: ValueError: a number is none.
    """
    number = int(port)
    if not 0 < number <= 0xFFFF:
        raise ValueError(f"there is no port {number}")
    file = Path(config).absolute()
    tunnel = _shared.get((reactor, file))
    if tunnel is None:
        tunnel = _shared[reactor, file] = _share(reactor, file, float(linger))
    return VPNClientEndpoint(
        reactor, tunnel.hold, host, number, time_s=float(timeout), closed=tunnel.release
    )


def _share(reactor: EndpointReactor, file: Path, linger_s: float) -> SharedTunnel:
    set_up = read_client_config(file, reactor)

    async def connect() -> VPNTunnel:
        client = VPNClient(
            cast(ClientReactor, reactor),
            set_up.url,
            set_up.responder,
            set_up.adapters,
            set_up.settings,
            on_event=log_event,
        )
        tunnel = await client.connect()
        if not IInnerNetwork.providedBy(tunnel.adapter):
            await tunnel.disconnect()
            raise ConfigurationError(
                f'{file}: [adapter] has no sockets to hand out: set backend = "namespace"'
            )
        return tunnel

    return SharedTunnel(reactor, connect, linger_s=linger_s)
