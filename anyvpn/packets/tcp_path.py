"""What the kernel's TCP knows of the path to a peer.

Source: Linux, include/uapi/linux/tcp.h.
"""

from __future__ import annotations

import socket
import struct

# From Linux: tcpi_pmtu follows 8 bytes and 13 words
_TCP_INFO_BYTES = 104
_PATH_MTU_AT = 60


def path_mtu_below(transport: object) -> int:
    """The path's MTU in bytes; 0 when there is no real TCP socket below the transport."""
    handle = _handle_of(transport)
    if handle is None:
        return 0
    try:
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    if len(info) < _PATH_MTU_AT + 4:
        return 0
    (mtu_bytes,) = struct.unpack_from("=I", info, _PATH_MTU_AT)
    return int(mtu_bytes)


def is_socket(transport: object) -> bool:
    """Whether there is a real TCP socket below the transport."""
    return _handle_of(transport) is not None


def _handle_of(transport: object) -> socket.socket | None:
    get_handle = getattr(transport, "getHandle", None)
    handle = None if get_handle is None else get_handle()
    return handle if isinstance(handle, socket.socket) else None
