"""SOCKS version 5: the client's side, through a proxy to one host.

Source: RFC 1928, RFC 1929.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from anyvpn.errors import MalformedMessage, PeerError

# From the protocol
VERSION = 5
_NO_LOGIN, _PASSWORD, _NOTHING_ACCEPTABLE = 0, 2, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
_LOGIN_VERSION = 1
_LONGEST_TEXT_BYTES = 255
_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class Socks5ClientExchange:
    """What is said to a proxy: bytes in, bytes out, until it is `done`.

    `leftover` came after the proxy's last word, and is the host's.

    Raises: ValueError: a name, user name or password that SOCKS cannot carry.
    """

    def __init__(self, host: str, port: int, username: str = "", password: str = "") -> None:
        self.done = False
        self.leftover = b""
        self._request = bytes((VERSION, _CONNECT, 0)) + _address(host) + port.to_bytes(2, "big")
        self._login = b""
        if username:
            self._login = bytes((_LOGIN_VERSION,)) + _text(username) + _text(password, least=0)
        self._rest = b""
        self._expects = self._method_chosen

    def start(self) -> bytes:
        """The greeting."""
        methods = (_NO_LOGIN, _PASSWORD) if self._login else (_NO_LOGIN,)
        return bytes((VERSION, len(methods), *methods))

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the proxy; gives what to answer.

        Raises: PeerError: the proxy refuses, or speaks something else.
        """
        self._rest += data
        answer = b""
        while not self.done:
            more = self._expects()
            if more is None:
                break
            answer += more
        return answer

    def _method_chosen(self) -> bytes | None:
        if len(self._rest) < 2:
            return None
        version, method = self._rest[:2]
        self._rest = self._rest[2:]
        if version != VERSION:
            raise MalformedMessage("it does not speak SOCKS version 5")
        if method == _PASSWORD and self._login:
            self._expects = self._logged_in
            return self._login
        if method != _NO_LOGIN:
            raise PeerError("it wants a user name and a password, or another kind of login")
        self._expects = self._granted
        return self._request

    def _logged_in(self) -> bytes | None:
        if len(self._rest) < 2:
            return None
        status = self._rest[1]
        self._rest = self._rest[2:]
        if status:
            raise PeerError("it does not accept the user name and the password")
        self._expects = self._granted
        return self._request

    def _granted(self) -> bytes | None:
        rest = self._rest
        if len(rest) < 5:
            return None
        version, status, _, kind, first = rest[:5]
        if version != VERSION:
            raise MalformedMessage("it does not speak SOCKS version 5")
        if status:
            raise PeerError(f"it refuses the connection: {_REFUSALS.get(status, f'{status}')}")
        if kind == _NAME:
            length = 5 + first + 2
        elif kind in _ADDRESS_BYTES:
            length = 4 + _ADDRESS_BYTES[kind] + 2
        else:
            raise MalformedMessage("it answers with an address of an unknown kind")
        if len(rest) < length:
            return None
        self.leftover, self._rest = rest[length:], b""
        self.done = True
        return b""


def _address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        return bytes((_NAME,)) + _text(host)
    return bytes((_IPV4 if isinstance(address, IPv4Address) else _IPV6,)) + address.packed


def _text(text: str, least: int = 1) -> bytes:
    encoded = text.encode()
    if not least <= len(encoded) <= _LONGEST_TEXT_BYTES:
        raise ValueError("SOCKS carries texts of 1 to 255 bytes")
    return bytes((len(encoded),)) + encoded
