"""Paths and keys as the compiled core takes and gives them: bytes and numbers."""

from __future__ import annotations

import socket

from anyvpn.model.channels import DTLSChannel, PeerPath, RecordKeys
from anyvpn.packets._compiled import MOST_SOCKETS

# Ours
CIPHERS = ("AES-128-GCM", "AES-256-GCM")
"""What the core seals and opens itself; other channels are Python's."""

CorePath = tuple[int, int, bytes, int, int, int, bytes]
"""Socket, family, host, port, flow, scope, local address or nothing."""
CoreKeys = tuple[bytes, int, int, bytes, bytes, bytes, bytes]
"""Version, epoch, sequence; key and IV for writing, key and IV for reading."""


def is_native(channel: DTLSChannel) -> bool:
    """Whether the core can carry this channel."""
    return channel.keys.suite.cipher in CIPHERS and not channel.encoding


def core_keys(keys: RecordKeys) -> CoreKeys:
    """The keys of a channel that the core can carry."""
    return (
        *(keys.version, keys.epoch, keys.write_sequence),
        *(keys.write.key, keys.write.fixed_iv, keys.read.key, keys.read.fixed_iv),
    )


def core_path(path: PeerPath) -> CorePath:
    """A path for the core, which numbers sockets by their place in its table."""
    host, port, flow, scope = path.address if len(path.address) == 4 else (*path.address, 0, 0)
    kind = socket.AF_INET6 if len(path.address) == 4 else socket.AF_INET
    local = path.local_address
    return (
        *(
            path.socket_index % MOST_SOCKETS,
            kind,
            socket.inet_pton(kind, str(host).partition("%")[0]),
        ),
        *(int(port), int(flow), int(scope)),
        socket.inet_pton(kind, local.partition("%")[0]) if local else b"",
    )


def peer_path(path: CorePath, socket_index: int) -> PeerPath:
    """A path of the core's, with the number that the socket has outside it."""
    _, family, host, port, flow, scope, local = path
    kind = socket.AddressFamily(family)
    text = socket.inet_ntop(kind, host)
    local_text = socket.inet_ntop(kind, local) if local else ""
    if kind is socket.AF_INET:
        return PeerPath(socket_index, (text, port), local_text)
    return PeerPath(socket_index, (text, port, flow, scope), local_text)
