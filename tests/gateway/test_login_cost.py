"""What a login with its CONNECT costs in CPU time, part by part, which is printed (pytest -rP).

By certificate, on two connections, as in `make bench`; everything but the network, the reactor and
the way to the store's thread is there, and the clock, which is read often, in each part. No figure
is judged: machines differ.
"""

from __future__ import annotations

import io
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import trustme
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.logger import globalLogPublisher, textFileLogObserver

from anyvpn.backends import sessions_sqlite
from anyvpn.backends.addresses_pool import AddressPools, PoolSettings
from anyvpn.backends.addresses_pool import Settings as PoolsSettings
from anyvpn.backends.authenticator_certificate import CertificateAuthenticator
from anyvpn.backends.authenticator_certificate_rules import CertificateCheck, CertificateRules
from anyvpn.backends.authorizer_static import Settings as PolicySettings
from anyvpn.backends.authorizer_static import StaticAuthorizer
from anyvpn.backends.listener_log import LogListener
from anyvpn.backends.listener_log import Settings as LogSettings
from anyvpn.backends.sessions_sqlite import SQLiteSessions
from anyvpn.backends.sqlite_thread import SQLiteThread
from anyvpn.gateway import authentication, front_door, tunnels
from anyvpn.gateway.front_door import FrontDoor
from anyvpn.gateway.gateway import Gateway
from anyvpn.gateway.http_connection import HTTPConnection
from anyvpn.gateway.settings import Limits, ProfileBinding, TLSIdentity, TLSSettings
from anyvpn.gateway.tls_contexts import ServerContexts
from anyvpn.gateway.tunnel import Tunnel
from anyvpn.model.authentication import ClientMessage, ClientMessageKind, LoginComplete
from anyvpn.model.connection_profile import ConnectionProfile
from anyvpn.packets.stream import TLSStream
from anyvpn.packets.tls_in_memory import TLSInMemory
from tests.gateway import gateway_in_memory
from tests.gateway.gateway_in_memory import HOST, GatewayCase
from tests.spans import Spans

LOGINS = 20
CONNECTIONS_PER_LOGIN = 2
SIGNATURE = "TLS: signatures of the server's certificate"
HANDSHAKE = "TLS: the rest of the handshakes"
PARTS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    (HANDSHAKE, TLSInMemory, ("__init__", "shake_hands")),
    ("TLS: records", TLSInMemory, ("encrypt", "decrypt", "take", "feed")),
    ("connections", Gateway, ("connection",)),
    ("connections", TLSStream, ("connectionMade", "dataReceived", "connectionLost")),
    ("HTTP", HTTPConnection, ("__init__", "received", "_send")),
    ("documents and headers", front_door, ("read_cookies", "read_client_message")),
    ("documents and headers", authentication, ("write_gateway_message",)),
    ("documents and headers", tunnels, ("read_offer", "write_settings", "write_gateway_message")),
    ("requests and dialogue", FrontDoor, ("_respond",)),
    ("authenticator", CertificateAuthenticator, ("authenticate",)),
    ("authorizer", StaticAuthorizer, ("authorize",)),
    ("addresses", AddressPools, ("lease",)),
    ("session store", SQLiteSessions, ("save",)),
    ("tunnel", Tunnel, ("__init__", "begin")),
    ("events, a log line each", Gateway, ("tell",)),
)


class HereAndNow(SQLiteThread):
    """Does the store's work in the thread whose time is counted."""

    _here: sqlite3.Connection | None = None

    async def do(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        self._here = self._here or self._connect()
        return job(self._here)

    def leave(self) -> None:
        """Let go of the file."""
        if self._here is not None:
            self._here.close()


class Triggers:
    """A reactor that never ends."""

    def addSystemEventTrigger(self, phase: str, event: str, end: Callable[[], object]) -> None:
        """Never mind."""


class LoginCostTests(GatewayCase):
    limits = Limits(connections_per_address=1000)
    client_certificates = True

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        self.certificate = authority.issue_cert("alice@example.com", key_type=trustme.KeyType.RSA)
        server = authority.issue_cert(HOST, key_type=trustme.KeyType.RSA)
        self.server_key = server.private_key_pem.bytes()
        files = [Path(folder.name) / each for each in ("chain.pem", "key.pem", "ca.pem")]
        contents = (server.cert_chain_pems[0], server.private_key_pem, authority.cert_pem)
        for file, content in zip(files, contents, strict=True):
            content.write_to_path(file)
        contexts = ServerContexts(TLSSettings((TLSIdentity(files[0], files[1]),), files[2]))
        self.patch(gateway_in_memory, "contexts", lambda **_: contexts)
        self.patch(sessions_sqlite, "SQLiteThread", HereAndNow)
        check = CertificateCheck(CertificateRules(user="san.email"), cast(Any, None))
        self.profiles = (
            ProfileBinding(ConnectionProfile("Staff", "Staff"), CertificateAuthenticator(check)),
        )
        super().setUp()
        self.stop_gateway()
        self.spans = Spans()
        for part, owner, names in PARTS:
            for name in names:
                self.spans.watch(self, owner, name, part)
        self.clock.rightNow = datetime.now().timestamp()
        self.authorizer = cast(Any, StaticAuthorizer(PolicySettings()))
        networks = ("10.9.0.0/16", "fd09::/64")
        pools = tuple(PoolSettings(each, ip_network(each)) for each in networks)
        self.addresses = cast(Any, AddressPools(PoolsSettings(pools)))
        self.listeners = (LogListener(LogSettings()),)
        file = Path(folder.name) / "sessions.sqlite"
        self.store = cast(Any, SQLiteSessions(file, cast(Any, Triggers())))
        observer = textFileLogObserver(io.StringIO())
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.open_gateway()

    def tearDown(self) -> None:
        super().tearDown()
        self.store._thread.leave()

    def log_in(self) -> None:
        """From the first byte to the answer to CONNECT."""
        first = self.client(certificate=self.certificate)
        complete = first.post(ClientMessage(ClientMessageKind.INIT))
        assert isinstance(complete, LoginComplete), complete
        first.tls.close()
        self.pump()
        second = self.client(certificate=self.certificate)
        assert second.open_tunnel(complete.session_token).status == 200

    def signatures_ns(self) -> int:
        """What those of one login take, whatever they are made over."""
        key = load_pem_private_key(self.server_key, None)
        assert isinstance(key, RSAPrivateKey)
        padding = PSS(MGF1(SHA256()), SHA256.digest_size)
        times_ns = []
        for _ in range(LOGINS):
            began_ns = time.thread_time_ns()
            key.sign(b"", padding, SHA256())
            times_ns.append(time.thread_time_ns() - began_ns)
        return CONNECTIONS_PER_LOGIN * round(median(times_ns))

    def test_every_part_of_a_login_is_seen(self) -> None:
        found: list[Counter[str]] = []
        for _ in range(LOGINS):
            self.spans.times_ns.clear()
            self.log_in()
            found.append(self.spans.times_ns.copy())
        times_ns = {part: median(each[part] for each in found) for part, _, _ in PARTS}
        self.assertNotIn(0, times_ns.values(), times_ns)
        signatures_ns = self.signatures_ns()
        times_ns[HANDSHAKE] -= signatures_ns
        times_ns[SIGNATURE] = signatures_ns
        total_ns = sum(times_ns.values())
        lines = [
            f"{time_ns / 1e3:7.0f} µs {100 * time_ns / total_ns:4.0f} %  {part}"
            for part, time_ns in sorted(times_ns.items(), key=lambda each: -each[1])
        ]
        print("\n".join(["", "A login by certificate with its CONNECT:", *lines]))
        print(f"{total_ns / 1e3:7.0f} µs in all, {CONNECTIONS_PER_LOGIN} connections")
