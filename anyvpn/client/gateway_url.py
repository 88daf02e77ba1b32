"""Where a gateway is: host, port and path, as users type it and as redirects name it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urljoin, urlsplit

from anyvpn.errors import ConfigurationError, MalformedMessage

# From the protocol
HTTPS_PORT = 443

# Ours
_LONGEST_URL_CHARACTERS = 2048

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_PATH = re.compile(r"/[\x21\x23-\x5b\x5d-\x7e]*")


@dataclass(frozen=True, slots=True)
class GatewayURL:
    """An https URL; `host` is a name in ASCII, or an address without brackets."""

    host: str
    port: int = HTTPS_PORT
    path: str = "/"

    @property
    def names_address(self) -> bool:
        """Whether the host is an address, which TLS asks for by no name."""
        return is_address(self.host)

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them: the port only when it is not 443."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"https://{self.authority}{self.path}"

    def is_same_gateway(self, other: GatewayURL) -> bool:
        """Whether both name the same host and port."""
        return (self.host.lower(), self.port) == (other.host.lower(), other.port)

    def resolve(self, reference: str) -> GatewayURL:
        """Where a redirect, an action or a URI leads from here.

        Raises: MalformedMessage: not https, or no URL.
        """
        try:
            return _read(urljoin(str(self), reference.strip()))
        except ValueError as error:
            raise MalformedMessage(f"the gateway leads elsewhere, to {error}") from None


def is_address(host: str) -> bool:
    """Whether it is an IP address, without brackets, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def parse_gateway_url(text: str) -> GatewayURL:
    """What a user types: a host, host:port, host/group, or an https URL.

    Raises: ConfigurationError.
    """
    text = text.strip()
    try:
        return _read(text if "://" in text else f"https://{_bracketed(text)}")
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is no gateway's address: {error}; write vpn.example.com, "
            "vpn.example.com:4443 or https://vpn.example.com/group"
        ) from None


def _bracketed(text: str) -> str:
    """An IPv6 address that stands alone gets its brackets."""
    try:
        return f"[{ip_address(text)}]" if ":" in text else text
    except ValueError:
        return text


def _read(url: str) -> GatewayURL:
    """Raises ValueError: why it is none."""
    if len(url) > _LONGEST_URL_CHARACTERS:
        raise ValueError("a URL that is too long")
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise ValueError("a URL that is not https")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with a user name in it")
    try:
        port = HTTPS_PORT if parts.port is None else parts.port
    except ValueError:
        raise ValueError("a port that is no number up to 65535") from None
    host = _read_host(parts.hostname or "")
    if not port:
        raise ValueError("a port that cannot be")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    if _PATH.fullmatch(path) is None:
        raise ValueError("a path that cannot be")
    return GatewayURL(host, port, path)


def _read_host(host: str) -> str:
    """The host as DNS and TLS want it. Raises ValueError."""
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        encoded = host.encode("idna").decode("ascii") if host else ""
    except UnicodeError:
        encoded = ""
    if len(encoded) > 253 or _HOST_NAME.fullmatch(encoded) is None:
        raise ValueError("a host that cannot be")
    return encoded
