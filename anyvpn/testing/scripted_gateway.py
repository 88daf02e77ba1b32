"""A gateway on loopback that follows a script: for tests of any AnyConnect client.

    gateway = ScriptedGateway(reactor, [
        post("/", form("username", "password")),
        post("/auth", success(), containing(b"<password>secret</password>")),
        connect(grant()),
    ])
    await gateway.listen()
    ...                                  # let the client connect to gateway.url
    tunnel = await gateway.tunnel()      # the bytes after CONNECT are the test's own
    tunnel.send(frame_packet(PacketKind.DPD_REQUEST, b""))
    assert await tunnel.frame() == (PacketKind.DPD_RESPONSE, b"")
    await gateway.close()                # fails when a request was not the expected one

What is answered, and what may be wrong with it, is in anyvpn.testing.scripted_answers.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from anyvpn.model.printable import printable
from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_answers import ScriptedAnswer, page
from anyvpn.testing.scripted_connection import (
    LIMIT_S,
    LOOK_AGAIN_AFTER_S,
    ScriptedConnection,
    ScriptedRequest,
    ScriptedTunnel,
    until,
)

# From the protocol
TUNNEL_PATH = "/CSCOSSLC/tunnel"

# Ours
ADDRESS = "127.0.0.1"
BYTES_SHOWN = 600


class ScriptedReactor(IReactorTCP, IReactorTime):
    """What the gateway needs of a reactor."""


# --- the script ------------------------------------------------------------------------------


class Body:
    """What a request's body has to be; `containing` makes the usual ones."""

    def __init__(self, is_right: Callable[[bytes], bool], words: str) -> None:
        self.is_right = is_right
        self.words = words


ANY_BODY = Body(lambda _: True, "any body")


def containing(*parts: bytes, without: Iterable[bytes] = ()) -> Body:
    """A body that holds all of these, and none of those."""
    unwanted = tuple(without)
    words = "a body with " + ", ".join(map(repr, parts))
    if unwanted:
        words += " and without " + ", ".join(map(repr, unwanted))
    return Body(
        lambda body: (
            all(each in body for each in parts) and not any(each in body for each in unwanted)
        ),
        words,
    )


@dataclass(frozen=True, slots=True)
class ScriptedStep:
    """One request that is expected, and the answer to it; an empty path is any path."""

    method: str
    path: str
    answer: ScriptedAnswer
    body: Body = ANY_BODY

    def expects(self, request: ScriptedRequest) -> bool:
        """Whether this is the request."""
        return (
            self.method == request.method
            and self.path in ("", request.path)
            and self.body.is_right(request.body)
        )

    def __str__(self) -> str:
        return f"{self.method} {self.path or 'of any path'} with {self.body.words}"


def get(path: str, answer: ScriptedAnswer) -> ScriptedStep:
    """A GET is expected."""
    return ScriptedStep("GET", path, answer)


def post(path: str, answer: ScriptedAnswer, body: Body = ANY_BODY) -> ScriptedStep:
    """A POST is expected."""
    return ScriptedStep("POST", path, answer, body)


def connect(answer: ScriptedAnswer) -> ScriptedStep:
    """A CONNECT for the tunnel is expected."""
    return ScriptedStep("CONNECT", TUNNEL_PATH, answer)


# --- the gateway -----------------------------------------------------------------------------


class ScriptedGateway:
    """Answers request after request, over any number of connections, by the steps in their order.

    A request that is not the expected one is answered with status 500, kept in `failures`, and
    fails whatever is awaited of the gateway. `requests` has all that came. The certificates are
    for 127.0.0.1, localhost and `names`; both are signed by the authority in `authority_pem`, and
    `pin` and `other_pin` name their keys ("pin-sha256:...").
    """

    def __init__(
        self, reactor: ScriptedReactor, steps: Iterable[ScriptedStep], *, names: Iterable[str] = ()
    ) -> None:
        self.requests: list[ScriptedRequest] = []
        self.failures: list[str] = []
        self.connections_made = 0
        """How many connections there were, handshakes that failed included."""
        self._reactor = reactor
        self._steps = deque(steps)
        self._open: set[ScriptedConnection] = set()
        self._tunnels: deque[ScriptedTunnel] = deque()
        self._port: IListeningPort | None = None
        authority = trustme.CA()
        self.authority_pem = authority.cert_pem.bytes()
        identities = ("localhost", ADDRESS, *names)
        self._certificates = _Certificates(
            authority.issue_cert(*identities), authority.issue_cert(*identities)
        )
        self.pin, self.other_pin = self._certificates.pins

    async def listen(self) -> None:
        """Take a free port on loopback."""
        connections = Factory.forProtocol(self._new_connection)
        factory = TLSMemoryBIOFactory(self._certificates, False, connections)
        factory.protocol = TLSMemoryBIOProtocol  # which makes a record of each write
        factory.noisy = connections.noisy = False
        self._port = self._reactor.listenTCP(0, factory, interface=ADDRESS)  # type: ignore[arg-type]  # Twisted has no types there

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._port is not None, "it does not listen"
        return int(self._port.getHost().port)  # type: ignore[attr-defined]  # TCP has ports

    @property
    def url(self) -> str:
        """Where a client is to go; it is in no certificate by any other address."""
        return f"https://{ADDRESS}:{self.port}/"

    @property
    def unused_steps(self) -> tuple[ScriptedStep, ...]:
        """What has not been asked for yet."""
        return tuple(self._steps)

    @property
    def open_connections(self) -> int:
        """How many connections there are now."""
        return len(self._open)

    def add(self, *steps: ScriptedStep) -> None:
        """The script goes on."""
        self._steps += steps

    async def tunnel(self, *, limit_s: float = LIMIT_S) -> ScriptedTunnel:
        """The next connection on which CONNECT was granted. Raises: UnmetExpectation."""
        await self._until(lambda: self._tunnels, "a tunnel", limit_s)
        return self._tunnels.popleft()

    async def wait_until_left(self, *, limit_s: float = LIMIT_S) -> None:
        """Wait until the client has closed all connections. Raises: UnmetExpectation."""
        await self._until(lambda: not self._open, "the client to close its connections", limit_s)

    async def close(self, *, all_steps: bool = True) -> None:
        """End everything, whatever state it is in.

        Raises: UnmetExpectation: a request was not the expected one, or, with `all_steps`, did not
            come at all.
        """
        port, self._port = self._port, None
        if port is not None:
            stopping = port.stopListening()
            if stopping is not None:
                await stopping
        for each in tuple(self._open):
            each.reset()
        while self._open:
            await deferLater(self._reactor, LOOK_AGAIN_AFTER_S)
        self._raise_failures()
        if all_steps and self._steps:
            left = "\n".join(f"  {each}" for each in self._steps)
            raise UnmetExpectation(f"the client ended before it asked for:\n{left}")

    # --- what connections tell ------------------------------------------------------------------

    def answer_to(self, request: ScriptedRequest) -> ScriptedAnswer:
        """By the script."""
        self.requests.append(request)
        step = self._steps[0] if self._steps else None
        if step is None or not step.expects(request):
            expected = step or "none, the script is at its end"
            return self._fail(
                f"request {len(self.requests)} is not the expected one\n"
                f"  expected: {expected}\n  came: {_in_words(request)}"
            )
        self._steps.popleft()
        if step.answer.changes_certificate:
            self._certificates.change()
        return step.answer

    def no_request(self, why: str) -> ScriptedAnswer:
        """What came is none."""
        return self._fail(f"what came is no HTTP request: {why}")

    def tunnel_opened(self, tunnel: ScriptedTunnel) -> None:
        """CONNECT was granted."""
        self._tunnels.append(tunnel)

    def connection_lost(self, connection: ScriptedConnection) -> None:
        """It is gone."""
        self._open.discard(connection)

    # --- within ---------------------------------------------------------------------------------

    def _new_connection(self) -> ScriptedConnection:
        self.connections_made += 1
        connection = ScriptedConnection(self._reactor, self, self.connections_made)
        self._open.add(connection)
        return connection

    def _fail(self, failure: str) -> ScriptedAnswer:
        self.failures.append(failure)
        return page(failure.encode(), status=500, reason="Not in the script")

    def _raise_failures(self) -> None:
        if self.failures:
            raise UnmetExpectation("\n".join(self.failures))

    async def _until(self, look: Callable[[], object], what: str, limit_s: float) -> None:
        await until(self._reactor, look, what, limit_s, self._raise_failures)


@implementer(IOpenSSLServerConnectionCreator)
class _Certificates:
    """Shows each connection the certificate of the day."""

    def __init__(self, *certificates: trustme.LeafCert) -> None:
        self._contexts = deque(_context(each) for each in certificates)
        self.pins = tuple(_pin(each) for each in certificates)

    def change(self) -> None:
        """Connections from now on see the other one."""
        self._contexts.rotate(-1)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002
        """Called by Twisted."""
        return SSL.Connection(self._contexts[0], None)


def _context(certificate: trustme.LeafCert) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    certificate.configure_cert(context)
    return context


def _pin(certificate: trustme.LeafCert) -> str:
    leaf = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "pin-sha256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii")


def _in_words(request: ScriptedRequest) -> str:
    body = printable(request.body[:BYTES_SHOWN].decode("utf-8", "replace"))
    return f"{request.method} {request.path} with {len(request.body)} bytes: {body}"
