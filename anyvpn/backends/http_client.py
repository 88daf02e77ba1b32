"""Asks HTTP servers for small answers: bounded in size and time, without following redirects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    FileBodyProducer,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from anyvpn.errors import ConfigurationError
from anyvpn.model.printable import printable

# Ours
LARGEST_ANSWER_BYTES = 256 * 1024
_LONGEST_REASON = 200
_PEM_END = b"-----END CERTIFICATE-----"


class HTTPFailed(Exception):
    """There is no answer that can be used; the text says why."""


@dataclass(frozen=True, slots=True)
class HTTPAnswer:
    """A whole answer; whoever asked looks at the status."""

    status: int
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)


class HTTPClient:
    """A connection for each question, with the server's certificate checked.

    `ca_file` has the authorities to trust instead of the system's.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        time_s: float,
        *,
        largest_bytes: int = LARGEST_ANSWER_BYTES,
        ca_file: Path | None = None,
    ) -> None:
        """Raises: ConfigurationError: the file of authorities cannot be used."""
        self._reactor = reactor
        self._time_s = time_s
        self._largest_bytes = largest_bytes
        # Twisted has no types here, nor at the other places
        self._policy = BrowserLikePolicyForHTTPS(*_authorities(ca_file))  # type: ignore[no-untyped-call]

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HTTPAnswer:
        """One question. Raises: HTTPFailed."""
        connection = _Connection(self._reactor, self._policy)
        asking = connection.ask(method, url, headers or {}, body, self._largest_bytes)
        waiting = _cancellable(Deferred.fromCoroutine(asking))
        waiting.addTimeout(self._time_s, self._reactor)
        try:
            return await waiting
        except NotInTime:
            raise HTTPFailed(f"{url} did not answer within {self._time_s:g} s") from None
        except HTTPFailed as error:
            raise HTTPFailed(f"{url} {error}") from None
        except CancelledError:
            raise  # whoever asked does not want to know any more
        except Exception as error:  # whatever a connection, a name or HTTP can go wrong with
            raise HTTPFailed(f"{url} {_why(error)}") from None
        finally:
            connection.abort()


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Connection:
    """The one connection of a question: the agent alone would wait for the server's goodbye."""

    def __init__(self, reactor: IReactorTime, policy: BrowserLikePolicyForHTTPS) -> None:
        self._reactor = reactor
        self._policy = policy
        self._endpoint: Any = None
        self._transport: Any = None

    def endpointForURI(self, uri: URI) -> _Connection:
        """Where the agent connects."""
        self._endpoint = HostnameEndpoint(self._reactor, uri.host, uri.port)
        if uri.scheme == b"https":
            options = self._policy.creatorForNetloc(uri.host, uri.port)
            self._endpoint = wrapClientTLS(options, self._endpoint)
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect, and keep what there is to abort."""
        if isinstance(factory, Factory):
            factory.noisy = False
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(self._connected)

    def _connected(self, protocol: Any) -> Any:
        self._transport = protocol.transport
        return protocol

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        largest_bytes: int,
    ) -> HTTPAnswer:
        """Raises: HTTPFailed, and whatever the agent raises."""
        pool = HTTPConnectionPool(self._reactor, persistent=False)  # type: ignore[no-untyped-call]
        agent: Any = Agent.usingEndpointFactory(self._reactor, self, pool)  # type: ignore[no-untyped-call]
        producer = None if body is None else FileBodyProducer(BytesIO(body))  # type: ignore[no-untyped-call]
        all_headers = Headers({"User-Agent": ["anyvpn"]})
        for name, value in headers.items():
            all_headers.setRawHeaders(name, [value])
        response: Any = await agent.request(
            method.encode("ascii"), url.encode("ascii"), all_headers, producer
        )
        collector = _Collector(largest_bytes)
        response.deliverBody(collector)
        content_type = (response.headers.getRawHeaders("Content-Type") or [""])[0]
        return HTTPAnswer(response.code, content_type, await collector.done)

    def abort(self) -> None:
        """Whatever there was to be said has been said."""
        if self._transport is not None:
            self._transport.abortConnection()


class _Collector(Protocol):
    """Collects a body, up to a bound."""

    def __init__(self, largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self._collected = bytearray()
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._collected += data
        if len(self._collected) > self._largest_bytes and not self.done.called:
            self.done.errback(HTTPFailed("answered with too many bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if isinstance(reason.value, ResponseDone):
            self.done.callback(bytes(self._collected))
        else:
            self.done.errback(HTTPFailed("closed in the middle of its answer"))


def _cancellable(asking: Deferred[HTTPAnswer]) -> Deferred[HTTPAnswer]:
    """The same, but when it is cancelled it says so; an agent says what that has broken."""

    def cancel(waiting: Deferred[HTTPAnswer]) -> None:
        waiting.errback(CancelledError())
        asking.cancel()

    def asked(result: HTTPAnswer | Failure) -> None:
        if not waiting.called:
            waiting.callback(result)

    waiting: Deferred[HTTPAnswer] = Deferred(cancel)
    asking.addBoth(asked)
    return waiting


def _authorities(ca_file: Path | None) -> tuple[object, ...]:
    if ca_file is None:
        return ()
    try:
        pem = ca_file.read_bytes()
        parts = [part + _PEM_END for part in pem.split(_PEM_END)[:-1]]
        certificates = [Certificate.loadPEM(part) for part in parts]
    except OSError as error:
        raise ConfigurationError(f"ca_file {ca_file} cannot be read: {error.strerror}") from None
    except crypto.Error:
        certificates = []
    if not certificates:
        raise ConfigurationError(f"ca_file {ca_file} has no certificates (PEM) that can be read")
    return (trustRootFromCertificates(certificates),)  # type: ignore[no-untyped-call]


def _why(error: Exception) -> str:
    """What went wrong, for operators."""
    if isinstance(error, ResponseFailed):  # or never received, which is a kind of it
        for reason in (each.value for each in error.reasons):
            if isinstance(reason, SSL.Error):
                return f"cannot be trusted: {_tls_reason(reason)}"
            if isinstance(reason, VerificationError):
                return "cannot be trusted: its certificate is for another name"
            if not isinstance(reason, ConnectionDone | ConnectionLost):
                return f"answered with what is no HTTP: {_printable(reason)}"
        return "closed without an answer"
    return f"cannot be asked: {_printable(error)}"


def _printable(error: BaseException) -> str:
    return printable(str(error))[:_LONGEST_REASON] or type(error).__name__


def _tls_reason(error: SSL.Error) -> str:
    queue = error.args[0] if error.args else ()
    said = [entry[-1] for entry in queue if isinstance(entry, tuple)]
    return printable(str(said[-1])) if said else "TLS failed"
