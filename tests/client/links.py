"""Granted tunnels in memory, and a client that hands them out as a test has put them there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.login import Login
from anyvpn.client.settings import ClientSettings
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.client.tunnel_request import OpenedTunnel
from anyvpn.dtls.psk import ServerPSK
from anyvpn.errors import AnyvpnError
from anyvpn.model.channels import PeerPath, RecordKeys
from anyvpn.model.client_events import ClientEvent
from anyvpn.model.group_policy import Address
from anyvpn.model.tunnel_settings import DTLSGrant, Lease, TunnelSettings
from anyvpn.testing.memory_channels import MemoryCSTPStream, MemoryDatagrams
from anyvpn.testing.memory_tun import MemoryAdapter, MemoryAdapterBackend
from anyvpn.wire.cstp import PacketKind, frame_packet

LOGIN = Login(GatewayURL("vpn.example.com"), "the first token", address="192.0.2.1")
GRANT = DTLSGrant(
    4443, "X-DTLS-CipherSuite", "PSK-NEGOTIATE", app_id=bytes(range(32)), mtu_bytes=1380
)
PSK = bytes(32)
LEASE = Lease(IPv4Interface("10.1.0.7/24"))


class ClientDatagrams(MemoryDatagrams):
    """Stands for GatewayDatagrams: a path of its own for each handshake."""

    def __init__(self) -> None:
        super().__init__()
        self.path: PeerPath | None = None
        self.sockets = 0

    def renew(self, host: str, port: int) -> PeerPath:
        self.sockets += 1
        self.path = PeerPath(self.sockets, (host, port))
        return self.path

    def close(self) -> None:
        self.path = None

    def shake_hands(self, now_s: float) -> RecordKeys:
        """Answer hellos as a gateway until both sides have keys; gives the gateway's."""
        gateway = ServerPSK(psk=PSK, random=lambda size: b"\1" * size)
        path = self.path
        assert path is not None
        while sent := self.take_sent(path):
            for datagram in sent:
                self.feed(path, gateway.receive(datagram, now_s))
        assert gateway.keys is not None
        return gateway.keys


class LinkStream(MemoryCSTPStream):
    """Stands for the TLS stream of a granted CONNECT."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: Any = None
        self.is_reading = False
        self.is_closed = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        self.is_closed = True

    def export_keying_material(self, label: bytes, size: int) -> bytes:
        return bytes(size)

    def protocol_version(self) -> str:
        return "TLSv1.3"

    def cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    @property
    def kinds(self) -> list[int]:
        """What was sent: the kind of each frame."""
        return [frame[6] for frame in self.frames]

    def feed_packet(self, kind: PacketKind, payload: bytes = b"") -> None:
        self.feed(frame_packet(kind, payload))

    def break_off(self, reason: str = "the peer closed the TLS connection") -> None:
        self.reader.closed(reason)


def opened(**granted: Any) -> OpenedTunnel:
    """A granted CONNECT."""
    settings = TunnelSettings(**{"lease": LEASE, "mtu_bytes": 1400, **granted})
    return OpenedTunnel(cast(Any, LinkStream()), settings, bytes(48), "192.0.2.1")


def stream_of(tunnel: OpenedTunnel) -> LinkStream:
    return cast(LinkStream, tunnel.stream)


@dataclass
class ScriptedSource:
    """Stands for the VPNClient of a tunnel: hands out what it was given, and keeps what it saw.

    An error among `links` is raised; a Deferred is waited for.
    """

    links: list[OpenedTunnel | AnyvpnError | Deferred[OpenedTunnel]] = field(default_factory=list)
    logins: list[Login | AnyvpnError] = field(default_factory=list)
    asked: list[tuple[str, tuple[Address, ...]]] = field(default_factory=list)
    logged_out: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    went_to: list[str] = field(default_factory=list)

    async def open_link(self, login: Login, wishes: tuple[Address, ...]) -> OpenedTunnel:
        self.asked.append((login.token, wishes))
        self.went_to.append(login.address)
        link = self.links.pop(0)
        if isinstance(link, AnyvpnError):
            raise link
        return await link if isinstance(link, Deferred) else link

    async def log_in(self, address: str = "") -> Login:
        self.addresses.append(address)
        login = self.logins.pop(0)
        if isinstance(login, AnyvpnError):
            raise login
        return login

    async def log_out(self, login: Login) -> None:
        self.logged_out.append(login.token)


class TunnelScene:
    """A tunnel that is up over `first`, and everything around it."""

    def __init__(
        self,
        first: OpenedTunnel | None = None,
        *links: OpenedTunnel | AnyvpnError | Deferred[OpenedTunnel],
        logins: Sequence[Login | AnyvpnError] = (),
        settings: ClientSettings | None = None,
        adapters: Any = None,
        login: Login = LOGIN,
    ) -> None:
        self.clock = Clock()
        self.first = first or opened()
        self.source = ScriptedSource(list(links), list(logins))
        self.events: list[ClientEvent] = []
        self.adapters = adapters or MemoryAdapterBackend()
        self.ends: list[str | Failure] = []
        self.tunnel = VPNTunnel(
            cast(Any, self.clock),
            self.source,
            login,
            settings or ClientSettings(),
            tell=self.events.append,
            random=bytes,
        )
        self.started = self.run(self.tunnel.start(self.first, self.adapters))
        self.run(self.tunnel.wait_closed()).addBoth(self.ends.append)

    @staticmethod
    def run(coroutine: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)

    @property
    def stream(self) -> LinkStream:
        """The first link's."""
        return stream_of(self.first)

    @property
    def adapter(self) -> MemoryAdapter:
        adapter: MemoryAdapter = self.adapters.adapters[0]
        return adapter

    def told(self, kind: Callable[..., ClientEvent]) -> list[Any]:
        """The events of a kind."""
        return [each for each in self.events if isinstance(each, cast(type, kind))]

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
