"""A whole gateway without a network: clients in memory over TLS, a tun device of two lists."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import trustme
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.backends.sessions_memory import MemorySessions
from anyvpn.dtls.psk import ClientPSK
from anyvpn.dtls.resumption import ClientResumption
from anyvpn.dtls.suites import OFFERS
from anyvpn.gateway.gateway import Gateway
from anyvpn.gateway.settings import (
    DTLSSettings,
    GatewaySettings,
    Limits,
    ProfileBinding,
    ShutdownBehaviour,
    TLSIdentity,
    TLSSettings,
)
from anyvpn.gateway.tls_contexts import ServerContexts
from anyvpn.interfaces import IEventListener
from anyvpn.model.authentication import (
    ClientMessage,
    ClientMessageKind,
    GatewayMessage,
    LoginComplete,
    LoginStep,
)
from anyvpn.model.channels import PeerPath
from anyvpn.model.downloads import Download
from anyvpn.model.events import EventKind
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.testing.memory_channels import MemoryDatagrams
from anyvpn.testing.memory_tun import MemoryTun
from anyvpn.testing.outcomes import completed
from anyvpn.wire.authentication import read_gateway_message, write_client_message
from anyvpn.wire.cstp import FrameReader, PacketKind, frame_packet
from tests.gateway.backends_in_memory import (
    RIGHT_PASSWORD,
    CountedAddresses,
    NotedEvents,
    OnePolicy,
    SomeProfiles,
    profile,
)
from tests.gateway.dtls_peer import DTLSPeer
from tests.gateway.memory_tls import (
    HOST,
    HTTPAnswer,
    MemoryTransport,
    Wire,
    authority,
    client_context,
    connect,
    read_answers,
)

PEER = "192.0.2.1"
OTHER_HOST = "other.example.com"
MASTER_SECRET = bytes(range(48))
PSK_LABEL = b"EXPORTER-openconnect-psk"

USUAL_OFFER = {
    "X-CSTP-Version": "1",
    "X-CSTP-Hostname": "laptop",
    "X-CSTP-Base-MTU": "1500",
    "X-CSTP-MTU": "1390",
    "X-CSTP-Address-Type": "IPv6,IPv4",
    "X-CSTP-Full-IPv6-Capability": "true",
}
DTLS_OFFER = {
    **USUAL_OFFER,
    "X-DTLS-Master-Secret": MASTER_SECRET.hex().upper(),
    "X-DTLS12-CipherSuite": "AES256-GCM-SHA384:AES128-GCM-SHA256",
}
PSK_OFFER = {**DTLS_OFFER, "X-DTLS-CipherSuite": "PSK-NEGOTIATE:OC-DTLS1_2-AES256-GCM"}


@dataclass(frozen=True)
class _Files:
    """Where certificates, keys and the clients' CA lie as long as the tests run."""

    folder: TemporaryDirectory[str]
    identities: tuple[TLSIdentity, ...]
    client_ca: Path


@functools.cache
def client_authority() -> trustme.CA:
    """The CA of clients' certificates."""
    return trustme.CA()


@functools.cache
def _files() -> _Files:
    folder = TemporaryDirectory()
    identities = []
    for name in (HOST, OTHER_HOST):
        issued = authority().issue_cert(name)
        certificate, key = (Path(folder.name) / f"{name}.{kind}" for kind in ("pem", "key"))
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        identities.append(TLSIdentity(certificate, key, (name,)))
    client_ca = Path(folder.name) / "clients.pem"
    client_authority().cert_pem.write_to_path(client_ca)
    return _Files(folder, tuple(identities), client_ca)


@functools.cache
def contexts(*, client_certificates: bool = False) -> ServerContexts:
    """TLS for HOST, the default, and for OTHER_HOST."""
    files = _files()
    client_ca = files.client_ca if client_certificates else None
    return ServerContexts(TLSSettings(files.identities, client_ca))


class VPNClient:
    """One connection of a client's, and what it says on it."""

    def __init__(
        self,
        case: GatewayCase,
        peer: str,
        certificate: trustme.LeafCert | None = None,
        server_name: str = HOST,
        real_peer: str = "",
    ) -> None:
        self.peer = real_peer or peer
        address, real_address = (
            (IPv6Address if ":" in each else IPv4Address)("TCP", each, 40_000)
            for each in (peer, self.peer)
        )
        stream = case.gateway.factory().buildProtocol(address)
        assert stream is not None, "the gateway does not let this client in"
        context = client_context(certificate)
        self.tls, self.wire = connect(case.clock, stream, context, server_name, real_address)
        self.early_records: list[bytes] = []
        self._case = case

    # --- HTTP -----------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> HTTPAnswer:
        """One request and its answer."""
        self.send_request(method, target, headers, body)
        (answer,) = read_answers(self.tls.take(), head_only=method == "HEAD")
        return answer

    def send_request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """One request."""
        all_headers = {"Host": f"{HOST}:4443", "User-Agent": "openconnect", **(headers or {})}
        if body:
            all_headers["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in all_headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def get(self, target: str, **cookies: str) -> HTTPAnswer:
        """GET with these cookies."""
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return self.request("GET", target, {"Cookie": cookie} if cookie else None)

    def post(self, message: ClientMessage, target: str = "/") -> GatewayMessage:
        """POST a document of version 2; gives the one that answers it."""
        answer = self.request("POST", target, None, write_client_message(message))
        assert answer.status == 200, answer.status_line
        return read_gateway_message(answer.body)

    def log_in(self, user: str = "alice", password: str = RIGHT_PASSWORD) -> str:
        """The whole login; gives the token."""
        step = self.post(ClientMessage(ClientMessageKind.INIT))
        assert isinstance(step, LoginStep), step
        answers = {"username": user, "password": password}
        reply = ClientMessage(ClientMessageKind.REPLY, opaque=step.opaque, answers=answers)
        complete = self.post(reply)
        assert isinstance(complete, LoginComplete), complete
        return complete.session_token

    # --- CSTP -----------------------------------------------------------------------------------

    def open_tunnel(self, token: str, offer: dict[str, str] | None = None) -> HTTPAnswer:
        """CONNECT; what came after the head stays for `frames`."""
        headers = {"Cookie": f"webvpn={token}", **(USUAL_OFFER if offer is None else offer)}
        if not token:
            del headers["Cookie"]
        self.send_request("CONNECT", "/CSCOSSLC/tunnel", headers)
        records = self.tls.take_records()
        (answer,) = read_answers(records[0])
        self.early_records = records[1:]
        return answer

    def send(self, data: bytes) -> None:
        """Bytes, and all that comes of them."""
        self.tls.send(data)
        self._case.pump()

    def send_frame(self, kind: int, payload: bytes = b"") -> None:
        """One CSTP frame."""
        self.send(frame_packet(kind, payload))

    def frames(self) -> list[tuple[int, bytes]]:
        """The frames since the last call; each is a record by itself."""
        read = []
        for record in [*self.early_records, *self.tls.take_records()]:
            (frame,) = FrameReader().receive(record)
            read.append(frame)
        self.early_records = []
        return read

    def packets(self) -> list[bytes]:
        """The data among the frames since the last call."""
        return [payload for kind, payload in self.frames() if kind == PacketKind.DATA]

    def vanish(self) -> None:
        """Lose the connection."""
        self.tls.vanish()
        self._case.pump()


class GatewayCase(SynchronousTestCase):
    """A gateway with one connection profile that asks for a password; alice's token is at hand."""

    limits = Limits(hellos_per_address_per_s=1000.0)
    dtls = DTLSSettings(port=4443)
    documents: Mapping[str, Download] = MappingProxyType({})
    shutdown = ShutdownBehaviour.RESUME
    client_certificates = False
    profiles: tuple[ProfileBinding, ...] = (profile("Staff"),)

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.authorizer = OnePolicy()
        self.client_profiles = SomeProfiles()
        self.addresses = CountedAddresses()
        self.listener = NotedEvents()
        self.listeners: tuple[IEventListener, ...] = (self.listener,)
        self.store = MemorySessions()
        self.clients: list[VPNClient] = []
        self._random = functools.partial(_counting, count(1))
        self.open_gateway()

    def open_gateway(self) -> None:
        """Make the gateway anew, over the same store and addresses."""
        self.device = MemoryTun()
        self.datagrams = MemoryDatagrams()
        self.engine = PythonPacketEngine(self.clock, self.device, self.datagrams)
        self.engine.start()
        settings = GatewaySettings(
            name=HOST,
            profiles=self.profiles,
            default_profile=self.profiles[0].profile.name,
            authorizer=self.authorizer,
            addresses=self.addresses,
            profile_provider=self.client_profiles,
            sessions=self.store,
            listeners=self.listeners,
            documents=self.documents,
            dtls=self.dtls,
            limits=self.limits,
            shutdown=self.shutdown,
        )
        self.gateway = Gateway(
            self.clock,
            settings,
            contexts(client_certificates=self.client_certificates),
            self.engine,
            datagrams=self.datagrams,
            device=self.device,
            random=self._random,
        )
        completed(self.gateway.start())

    def tearDown(self) -> None:
        """Whatever a test did: a gateway that stops leaves nothing behind."""
        self.stop_gateway()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def stop_gateway(self) -> None:
        """Stop, with as much time as that takes."""
        stopping = Deferred.fromCoroutine(self.gateway.stop())
        self.pass_time(10)
        self.assertIsNone(self.successResultOf(stopping))

    def client(self, peer: str = PEER, **options: object) -> VPNClient:
        """A new connection."""
        client = VPNClient(self, peer, **options)  # type: ignore[arg-type]
        self.clients.append(client)
        return client

    def silent_client(self, peer: str = "192.0.2.9") -> Wire:
        """A TCP connection on which nobody speaks TLS."""
        stream = self.gateway.factory().buildProtocol(IPv4Address("TCP", peer, 40_000))
        assert stream is not None
        near = MemoryTransport(IPv4Address("TCP", peer, 40_000))
        wire = Wire(self.clock, near, MemoryTransport())
        wire.near.protocol = stream
        stream.makeConnection(wire.near)
        return wire

    def pump(self) -> None:
        """Let everything arrive."""
        while any(client.wire.pump() for client in self.clients):
            pass  # what arrived at one client may send something to another

    def pass_time(self, seconds: float) -> None:
        """Move the clock on, second by second."""
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            self.pump()
            seconds -= 1.0

    def set_policy(self, **changes: object) -> None:
        """What sessions from now on may have."""
        self.authorizer.policy = replace(self.authorizer.policy, **changes)  # type: ignore[arg-type]

    # --- clients --------------------------------------------------------------------------------

    def tunnel(self, token: str = "", offer: dict[str, str] | None = None) -> VPNClient:
        """A client with an open tunnel; without a token it logs in first."""
        client = self.client()
        if not token:
            token = client.log_in()
        self.token = token
        answer = client.open_tunnel(token, offer)
        assert answer.status == 200, answer.status_line
        self.answer = answer
        return client

    def dtls_peer(self, client: VPNClient, port: int = 50_000) -> DTLSPeer:
        """The other end of the DTLS channel that the last CONNECT has granted."""
        path = PeerPath(0, (PEER, port))
        app_id = bytes.fromhex(self.answer.first("X-DTLS-App-ID"))
        if app_id:
            secret = client.tls.tls.export_keying_material(PSK_LABEL, 32, None)
            return DTLSPeer(
                self, ClientPSK(psk=secret, session_id=app_id), PeerPath(0, (PEER, port))
            )
        header = "X-DTLS12-CipherSuite"
        version, suite = OFFERS[header][self.answer.first(header)]
        handshake = ClientResumption(
            version=version,
            suite=suite,
            session_id=bytes.fromhex(self.answer.first("X-DTLS-Session-ID")),
            master_secret=MASTER_SECRET,
            random=self._random,
        )
        return DTLSPeer(self, handshake, path)

    # --- what can be seen -----------------------------------------------------------------------

    def details(self, kind: EventKind) -> list[str]:
        """What the log says of each event of a kind."""
        return [each.detail for each in self.listener.of(kind)]

    def packets_to_kernel(self) -> list[bytes]:
        """What the tun device was given since the last call."""
        packets, self.device.written = self.device.written, []
        return packets

    def send_from_kernel(self, *packets: bytes) -> None:
        """Let the kernel send these to clients."""
        self.device.inject(packets)
        self.pump()


def _counting(numbers: count[int], size: int) -> bytes:
    return next(numbers).to_bytes(4, "big").rjust(size, b"\x5a")[-size:]
