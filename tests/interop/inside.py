"""A host inside, behind the gateway, and what can be opened between it and others."""

from __future__ import annotations

import socket

from anyvpn.testing.namespaces import Namespace

ADDRESS, ADDRESS_IPV6 = "10.20.0.2", "fd20::2"
OTHER_ADDRESS = "10.20.0.9"
NETWORKS = ("10.20.0.0/16", "fd20::/64")

# Ours: what is let through arrives at once
WAIT_S = 0.4


class Inside(Namespace):
    """It has three addresses on one link to the gateway, which is its way to everywhere."""

    def __init__(self, gateway: Namespace) -> None:
        super().__init__("inside")
        self.join(gateway, "lan", "lan")
        gateway.add_addresses("lan", "10.20.0.1/16", "fd20::1/64")
        self.add_addresses("lan", f"{ADDRESS}/16", f"{OTHER_ADDRESS}/16", f"{ADDRESS_IPV6}/64")
        self.add_route("default", "via", "10.20.0.1")
        self.add_route("default", "via", "fd20::1")

    def close(self) -> None:
        """Take the cable away at once: the next one has the same name."""
        self.run("ip", "link", "delete", "lan", may_fail=True)
        super().close()


def tcp_opens(sender: Namespace, source: str, receiver: Namespace, address: str, port: int) -> bool:
    """Whether a TCP connection comes about, with bytes in both directions."""
    with (
        receiver.socket(_family(address), socket.SOCK_STREAM) as listener,
        sender.socket(_family(address), socket.SOCK_STREAM) as connecting,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        connecting.bind((source, 0))
        connecting.settimeout(WAIT_S)
        try:
            connecting.connect((address, port))
        except TimeoutError:
            return False
        accepted, peer = listener.accept()
        with accepted:
            accepted.settimeout(WAIT_S)
            assert peer[0] == source
            connecting.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
            assert connecting.recv(100) == b"answer"
        return True


def pings(namespace: Namespace, address: str) -> bool:
    """Whether one ping is answered at once."""
    output = namespace.run("ping", "-n", "-c", "1", "-W", "0.5", address, may_fail=True)
    return "1 received" in output


class UDPEnds:
    """A UDP socket here and one there."""

    def __init__(
        self, one: Namespace, one_address: str, other: Namespace, other_address: str, port: int
    ) -> None:
        self._one = one.socket(_family(one_address), socket.SOCK_DGRAM)
        self._other = other.socket(_family(one_address), socket.SOCK_DGRAM)
        self._one.bind((one_address, port + 1000))
        self._other.bind((other_address, port))

    def forth(self, text: bytes = b"question") -> bool:
        """Whether a datagram from here arrives there."""
        return _arrives(self._one, self._other, text)

    def back(self, text: bytes = b"answer") -> bool:
        """Whether one from there arrives here."""
        return _arrives(self._other, self._one, text)

    def close(self) -> None:
        """Close both."""
        self._one.close()
        self._other.close()


def _arrives(sender: socket.socket, receiver: socket.socket, text: bytes) -> bool:
    receiver.settimeout(WAIT_S)
    sender.sendto(text, receiver.getsockname())
    try:
        return receiver.recv(65536) == text
    except TimeoutError:
        return False


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
