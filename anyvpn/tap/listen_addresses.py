"""Where the gateway listens: endpoint strings, and the UDP addresses that go with them."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, cast

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorSocket,
    IReactorTCP,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from anyvpn.errors import ConfigurationError, StartUpFailed

# From the protocol: Twisted's endpoint strings
_ARGUMENT = re.compile(r"((?:\\.|[^:\\])*)(?::|$)")
_KEYWORD = re.compile(r"([A-Za-z]+)=(.*)", re.DOTALL)
ANY_IPV4 = "0.0.0.0"  # noqa: S104 - a gateway serves the world
ANY_IPV6 = "::"

# From Python: how its errors begin
_IN_PYTHON = re.compile(r"^[\w.]+\(\) ")
_NO_NUMBER = re.compile(r"invalid literal for int\(\) with base 10: (.*)", re.DOTALL)

# Ours
EXAMPLE = '"tcp:443"'
BACKLOG = 512  # after a restart all clients come back at once
MOST_DATAGRAM_ADDRESSES = 64  # as many sockets as a packet engine reads

_REASONS = {
    errno.EADDRINUSE: "another program listens on it",
    errno.EACCES: "it may not be used without root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


class Reactor(IReactorTCP, IReactorSocket):
    """What listening needs of a reactor."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """One endpoint string; interface and port are known for TCP only (port 0: not known)."""

    text: str
    interface: str = ""
    port: int = 0
    backlog: int = BACKLOG

    @property
    def is_plain_tcp(self) -> bool:
        """Whether nothing stands before the TCP port."""
        return self.text.startswith(("tcp:", "tcp6:"))


def read_listen_address(reactor: Reactor, text: str) -> ListenAddress:
    """One endpoint string, looked at but not listened on. Raises: ConfigurationError."""
    kind, _, rest = text.partition(":")
    if kind in ("tls", "ssl"):
        raise ConfigurationError(
            f'"{text}": the gateway does TLS itself; use an endpoint such as {EXAMPLE}'
        )
    if kind == "systemd":
        return ListenAddress(text)  # its sockets are there when systemd starts us, and only then
    if kind == "haproxy":
        inner = read_listen_address(reactor, rest)
        return ListenAddress(text, inner.interface, inner.port)
    try:
        _endpoint(reactor, text)
    except (ValueError, TypeError, LookupError) as error:
        raise ConfigurationError(
            f'must be a Twisted endpoint string such as {EXAMPLE}, not "{text}" '
            f"({_in_words(error)})"
        ) from error
    return _tcp_address(text) if kind in ("tcp", "tcp6") else ListenAddress(text)


def _in_words(error: Exception) -> str:
    """What Twisted's parser stumbles over, without the names of Python's functions."""
    said = _IN_PYTHON.sub("", str(error))
    number = _NO_NUMBER.fullmatch(said)
    return f"{number[1]} is no number" if number else said


def _tcp_address(text: str) -> ListenAddress:
    kind, *arguments = (re.sub(r"\\(.)", r"\1", each) for each in _ARGUMENT.findall(text))
    values = {"interface": ANY_IPV6 if kind == "tcp6" else ANY_IPV4, "backlog": str(BACKLOG)}
    for name, argument in zip(("port", "interface", "backlog"), arguments, strict=False):
        keyword = _KEYWORD.fullmatch(argument)
        if keyword is not None:
            values[keyword[1]] = keyword[2]
        elif argument:
            values[name] = argument
    port = int(values["port"])
    if not 0 <= port <= 65535:
        raise ConfigurationError(f'"{text}": a port must lie between 0 and 65535, not {port}')
    try:
        interface = ip_address(values["interface"])
    except ValueError:
        raise ConfigurationError(
            f'"{text}": interface must be an IP address (write \\: for its colons), '
            f'not "{values["interface"]}"'
        ) from None
    return ListenAddress(text, str(interface), port, int(values["backlog"]))


def datagram_addresses(
    listen: Iterable[ListenAddress], interfaces: Sequence[str], port: int
) -> tuple[tuple[str, int], ...]:
    """Where to receive UDP: at `interfaces`, or else wherever TCP is listened for.

    One socket for "::" receives IPv4 as well, so nothing else is needed beside it.
    """
    wanted = list(interfaces) or [each.interface for each in listen if each.interface]
    if ANY_IPV6 in wanted or not wanted:
        return ((ANY_IPV6, port),)
    if ANY_IPV4 in wanted:
        wanted = [each for each in wanted if ":" in each or each == ANY_IPV4]
    return tuple((each, port) for each in dict.fromkeys(wanted))


def listen_on(
    reactor: Reactor, addresses: Sequence[ListenAddress], factory: IProtocolFactory
) -> list[IListeningPort]:
    """Listen on all of them, at once. Raises: StartUpFailed: one cannot be had; none is kept."""
    ports: list[IListeningPort] = []
    try:
        for each in addresses:
            ports.append(_listen(reactor, each, _has_ipv4_twin(each, addresses), factory))
    except StartUpFailed:
        for port in ports:
            port.stopListening()
        raise
    return ports


def _has_ipv4_twin(address: ListenAddress, addresses: Sequence[ListenAddress]) -> bool:
    """Whether "::" must be for IPv6 alone, because IPv4 has an endpoint of its own."""
    return (
        address.is_plain_tcp
        and address.interface == ANY_IPV6
        and any(":" not in each.interface and each.port == address.port for each in addresses)
    )


def _endpoint(reactor: Reactor, text: str) -> IStreamServerEndpoint:
    endpoint: IStreamServerEndpoint = serverFromString(reactor, text)  # type: ignore[no-untyped-call]  # Twisted has no types here
    return endpoint


def _listen(
    reactor: Reactor, address: ListenAddress, ipv6_only: bool, factory: IProtocolFactory
) -> IListeningPort:
    try:
        if ipv6_only:
            return _listen_ipv6_only(reactor, address, factory)
        if address.is_plain_tcp:
            return reactor.listenTCP(
                address.port, cast(Any, factory), address.backlog, address.interface
            )
        listening = _endpoint(reactor, address.text).listen(factory)
    except CannotListenError as error:
        raise StartUpFailed(cannot_listen(error)) from error
    except OSError as error:
        raise StartUpFailed(_cannot(f"{address.interface}:{address.port}", error)) from error
    except LookupError as error:
        raise StartUpFailed(
            f'"{address.text}": there is no such socket; is the process started by systemd?'
        ) from error
    found: list[IListeningPort] = []
    failures: list[Failure] = []
    listening.addCallbacks(found.append, failures.append)
    if failures:
        why = failures[0].value
        if isinstance(why, CannotListenError):
            raise StartUpFailed(cannot_listen(why)) from why
        raise StartUpFailed(f'cannot listen on "{address.text}": {why}') from why
    if not found:
        raise StartUpFailed(f'"{address.text}" does not listen at once; use one that does')
    return found[0]


def _listen_ipv6_only(
    reactor: Reactor, address: ListenAddress, factory: IProtocolFactory
) -> IListeningPort:
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((ANY_IPV6, address.port))
        opened.listen(address.backlog)
        opened.setblocking(False)
        adopted: IListeningPort = reactor.adoptStreamPort(
            opened.fileno(), socket.AF_INET6, cast(Any, factory)
        )
        return adopted


def cannot_listen(error: CannotListenError, protocol: str = "TCP") -> str:
    """Why an address cannot be had, in one line."""
    where = f"{_bracketed(str(error.interface or ANY_IPV4))}:{error.port}"
    return _cannot(where, error.socketError, protocol)


def _cannot(where: str, error: object, protocol: str = "TCP") -> str:
    number = error.errno if isinstance(error, OSError) else None
    reason = _REASONS.get(number or 0) or getattr(error, "strerror", None) or str(error)
    return f"cannot listen on {protocol} {where}: {reason}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
