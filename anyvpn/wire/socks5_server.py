"""SOCKS version 5: the server's side, for the CONNECT command.

Source: RFC 1928, RFC 1929.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from anyvpn.errors import MalformedMessage, PeerError
from anyvpn.wire.socks5 import VERSION

# From the protocol
_NO_LOGIN, _PASSWORD, _NOTHING_ACCEPTABLE = 0, 2, 0xFF
_CONNECT = 1
_LOGIN_VERSION = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_NOWHERE = bytes((_IPV4,)) + bytes(6)


class Socks5Reply(IntEnum):
    """How a request went."""

    SUCCEEDED = 0
    FAILED = 1
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    EXPIRED = 6
    NO_SUCH_COMMAND = 7
    NO_SUCH_ADDRESS_KIND = 8


@dataclass(frozen=True, slots=True)
class Socks5Request:
    """Where a client wants to be connected to; `host` is a name or an address."""

    host: str
    port: int


class Socks5ServerExchange:
    """Greeting, login and request: bytes in, bytes out, until there is a `request`.

    With a `password` clients must log in; the user name does not matter.
    """

    def __init__(self, password: str = "") -> None:
        self.request: Socks5Request | None = None
        self.leftover = b""
        self._password = password.encode()
        self._rest = b""
        self._expects: Callable[[], bytes | None] = self._greeted

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the client; gives what to answer.

        Raises: MalformedMessage: it speaks something else.
        Raises: PeerError: with two arguments, what went wrong and the last answer to send.
        """
        self._rest += data
        answer = b""
        while self.request is None:
            try:
                more = self._expects()
            except MalformedMessage:
                raise
            except PeerError as error:
                reason, last_answer = error.args
                raise PeerError(reason, answer + last_answer) from None
            if more is None:
                break
            answer += more
        return answer

    def _greeted(self) -> bytes | None:
        rest = self._rest
        if rest[:1] not in (b"", bytes((VERSION,))):
            raise MalformedMessage("a client that does not speak SOCKS version 5")
        if len(rest) < 2 or len(rest) < 2 + rest[1]:
            return None
        methods = rest[2 : 2 + rest[1]]
        self._rest = rest[2 + rest[1] :]
        wanted = _PASSWORD if self._password else _NO_LOGIN
        if wanted not in methods:
            raise PeerError("no way to log in", bytes((VERSION, _NOTHING_ACCEPTABLE)))
        self._expects = self._logging_in if self._password else self._asked
        return bytes((VERSION, wanted))

    def _logging_in(self) -> bytes | None:
        rest = self._rest
        if rest[:1] not in (b"", bytes((_LOGIN_VERSION,))):
            raise MalformedMessage("a client that does not log in as RFC 1929 has it")
        if len(rest) < 2 or len(rest) < 3 + rest[1]:
            return None
        start = 3 + rest[1]
        end = start + rest[start - 1]
        if len(rest) < end:
            return None
        self._rest = rest[end:]
        if not hmac.compare_digest(rest[start:end], self._password):
            raise PeerError("a wrong password", b"\1\1")
        self._expects = self._asked
        return b"\1\0"

    def _asked(self) -> bytes | None:
        rest = self._rest
        if len(rest) < 5:
            return None
        version, command, _, kind, first = rest[:5]
        if version != VERSION:
            raise MalformedMessage("a client that does not speak SOCKS version 5")
        if command != _CONNECT:
            raise PeerError("a command that is not CONNECT", reply(Socks5Reply.NO_SUCH_COMMAND))
        length = {_IPV4: 4 + 4, _IPV6: 4 + 16, _NAME: 5 + first}.get(kind)
        if length is None:
            answer = reply(Socks5Reply.NO_SUCH_ADDRESS_KIND)
            raise PeerError("an address of an unknown kind", answer)
        if len(rest) < length + 2:
            return None
        port = int.from_bytes(rest[length : length + 2])
        self.leftover = rest[length + 2 :]
        self.request = Socks5Request(_host(kind, rest[4:length]), port)
        return b""


def reply(status: Socks5Reply) -> bytes:
    """The answer to a request; the address that it names says nothing."""
    return bytes((VERSION, status, 0)) + _NOWHERE


def _host(kind: int, value: bytes) -> str:
    if kind == _IPV4:
        return str(IPv4Address(value))
    if kind == _IPV6:
        return str(IPv6Address(value))
    name = value[1:].decode("ascii", "replace")
    if not name or not name.isprintable():
        raise PeerError("a name that cannot be", reply(Socks5Reply.HOST_UNREACHABLE))
    return name
