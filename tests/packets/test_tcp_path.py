"""The path's MTU, as the kernel knows it of a real connection."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

from anyvpn.packets.tcp_path import path_mtu_below


def transport_over(handle: object) -> SimpleNamespace:
    """As Twisted's TCP transports give their socket."""
    return SimpleNamespace(getHandle=lambda: handle)


def test_mtu_is_that_of_the_loopback_device() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        mtu_bytes = int(Path("/sys/class/net/lo/mtu").read_text())
        longest_packet_bytes = 65535
        assert path_mtu_below(transport_over(connection)) == min(mtu_bytes, longest_packet_bytes)


def test_nothing_is_known_without_a_tcp_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert path_mtu_below(transport_over(datagrams)) == 0
    assert path_mtu_below(transport_over(datagrams)) == 0
    assert path_mtu_below(transport_over(None)) == 0
    assert path_mtu_below(object()) == 0
