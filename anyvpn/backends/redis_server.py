"""Asks a Redis server; each question has a connection of its own.

So nothing that goes wrong with one answer meets another one, a server that was away is found again
by whoever asks next, and no firewall has forgotten an idle connection. It costs a login two or
three round trips.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from anyvpn.backends.redis_settings import RedisSettings, read_address
from anyvpn.errors import BackendFailed, ConfigurationError
from anyvpn.model.printable import printable

Word: TypeAlias = str | bytes | int
Reply: TypeAlias = "str | bytes | int | list[Reply] | None"

# Ours
MOST_QUESTIONS = 256  # at a time


class RedisServer:
    """One server, asked by whoever must know."""

    def __init__(self, settings: RedisSettings, reactor: IReactorTime) -> None:
        """Raises: ConfigurationError: a file that the settings name cannot be used."""
        self._settings = settings
        self._reactor = reactor
        self._address = read_address(settings.url)
        self._endpoint = self._make_endpoint()
        self._greeting: list[tuple[Word, ...]] = []
        if settings.password_file is not None:
            user = (self._address.user,) if self._address.user else ()
            self._greeting.append(("AUTH", *user, _first_line(settings.password_file)))
        if self._address.database:
            self._greeting.append(("SELECT", self._address.database))
        # imported late, as it needs a library that is an extra
        conversation = import_module("anyvpn.backends.redis_conversation").RedisConversation
        self._factory = Factory.forProtocol(conversation)
        self._factory.noisy = False  # a log line for each question helps nobody
        self._questions = 0

    def __str__(self) -> str:
        return f"Redis at {self._address}"

    async def ask(self, *command: Word) -> Reply:
        """What it replies to a command. Raises: BackendFailed: nothing, or that it cannot."""
        if self._questions >= MOST_QUESTIONS:
            raise BackendFailed(f"{self}: {MOST_QUESTIONS} questions wait for an answer")
        self._questions += 1
        time_s = self._settings.time_s
        try:
            asking = Deferred.fromCoroutine(self._ask(command))
            asking.addTimeout(time_s, self._reactor)
            return await asking
        except (NotInTime, TimeoutError):
            raise BackendFailed(f"{self} does not answer within {time_s:g} s") from None
        finally:
            self._questions -= 1

    async def _ask(self, command: tuple[Word, ...]) -> Reply:
        conversation = await self._connect()
        asked = (*self._greeting, command)
        try:
            replies = await DeferredList(
                [conversation.execute_command(*each) for each in asked], consumeErrors=True
            )
        finally:
            conversation.transport.abortConnection()
        for done, failure in replies:
            if not done:
                if failure.check(CancelledError):
                    failure.raiseException()
                raise BackendFailed(f"{self} {conversation.problem_of(failure.value)}")
        reply: Reply = replies[-1][1]
        return reply

    async def _connect(self) -> Any:
        try:
            return await self._endpoint.connect(self._factory)
        except ConnectionRefusedError:
            problem = "refuses the connection"
        except DNSLookupError:
            problem = "has a name that leads nowhere"
        except ConnectError as error:
            number = error.osError
            reason = os.strerror(number) if isinstance(number, int) else str(number or error)
            problem = f"cannot be reached: {printable(reason)}"
        raise BackendFailed(f"{self} {problem}")

    def _make_endpoint(self) -> IStreamClientEndpoint:
        address, reactor = self._address, self._reactor
        if address.path:
            return UNIXClientEndpoint(reactor, address.path)  # type: ignore[no-untyped-call]  # Twisted has no types here
        host = HostnameEndpoint(reactor, address.host, address.port)
        if not address.tls:
            return host
        return wrapClientTLS(
            ssl.optionsForClientTLS(
                address.host, self._authorities(), clientCertificate=self._own_certificate()
            ),
            host,
        )

    def _authorities(self) -> Any:
        """None: those of the system."""
        file = self._settings.ca_file
        if file is None:
            return None
        try:
            found = x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"redis: ca_file {file} cannot be used: {error}") from None
        return ssl.trustRootFromCertificates(  # type: ignore[no-untyped-call]  # nor here
            [ssl.Certificate(crypto.X509.from_cryptography(each)) for each in found]  # type: ignore[no-untyped-call]  # nor here
        )

    def _own_certificate(self) -> Any:
        certificate, key = self._settings.certificate_file, self._settings.private_key_file
        if certificate is None or key is None:
            return None
        try:
            both = b"\n".join(each.read_bytes() for each in (certificate, key))
            return ssl.PrivateCertificate.loadPEM(both)  # type: ignore[no-untyped-call]  # nor here
        except (OSError, SSL.Error, crypto.Error) as error:
            raise ConfigurationError(
                f"redis: certificate_file {certificate} and private_key_file {key} cannot be "
                f"used: {error}"
            ) from None


def _first_line(file: Path) -> bytes:
    try:
        line = file.read_bytes().split(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise ConfigurationError(
            f"redis: password_file {file} cannot be read: {error.strerror}"
        ) from None
    if not line:
        raise ConfigurationError(f"redis: password_file {file} has no password in its first line")
    return line
