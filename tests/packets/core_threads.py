"""A core whose threads run between sockets that need no root, and peers of its streams."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anyvpn.packets._compiled import Core

# From the protocol
APPLICATION_DATA, HANDSHAKE_TYPE, ALERT_TYPE, CHANGE_CIPHER_SPEC = 23, 22, 21, 20
CLOSE_NOTIFY = 0
TAG_BYTES = 16

# Ours
CIPHER = 2  # AES-256-GCM, as in engine.h
PATIENCE_S = 10.0

Event = tuple[int, int, int, int, object, bytes]


def keys() -> tuple[bytes, bytes]:
    """A key and an IV."""
    return os.urandom(32), os.urandom(12)


class Direction:
    """Records of TLS 1.3 one way, by another implementation than the core's."""

    def __init__(self, key_and_iv: tuple[bytes, bytes]) -> None:
        self._cipher = AESGCM(key_and_iv[0])
        self._iv = int.from_bytes(key_and_iv[1], "big")
        self._sequence = 0

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return nonce

    def seal(self, data: bytes, content_type: int = APPLICATION_DATA) -> bytes:
        """One record."""
        header = b"\x17\3\3" + (len(data) + 1 + TAG_BYTES).to_bytes(2, "big")
        inner = data + bytes((content_type,))
        return header + self._cipher.encrypt(self._nonce(), inner, header)

    def open(self, record: bytes) -> tuple[int, bytes]:
        """The type and content of one record."""
        inner = self._cipher.decrypt(self._nonce(), record[5:], record[:5])
        return inner[-1], inner[:-1]

    def open_all(self, records: bytes) -> list[tuple[int, bytes]]:
        """Of each of them."""
        opened = []
        while records:
            end = 5 + int.from_bytes(records[3:5], "big")
            opened.append(self.open(records[:end]))
            records = records[end:]
        return opened


class Peer:
    """The other end of a stream that the core keeps."""

    def __init__(
        self,
        core: Core,
        tunnel: int,
        *,
        unread: Callable[[Direction], bytes] | None = None,
        write_sequence: int = 0,
    ):
        ours, self.socket = socket.socketpair()
        ours.setblocking(False)
        self.socket.settimeout(PATIENCE_S)
        write, read = keys(), keys()
        self.coming, self.going = Direction(write), Direction(read)
        first = unread(self.going) if unread is not None else b""
        self.number = core.set_tls(
            tunnel, ours.detach(), True, CIPHER, write_sequence, 0, write, read, b"", first
        )

    def take_back(self, core: Core, tunnel: int) -> bytes:
        """What the core has not sent, an alert at its end; its descriptor is closed."""
        descriptor, unsent = core.take_tls(tunnel, CLOSE_NOTIFY)
        os.close(descriptor)
        return unsent

    def send(self, data: bytes, content_type: int = APPLICATION_DATA) -> None:
        """One record."""
        self.socket.sendall(self.going.seal(data, content_type))

    def receive(self) -> tuple[int, bytes]:
        """The next record."""
        header = self._exactly(5)
        return self.coming.open(header + self._exactly(int.from_bytes(header[3:], "big")))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the core closed the stream"
            data += more
        return data


class CoreThreads:
    """A running core; `kernels` are where the queues of its device lead, a thread for each."""

    def __init__(self, queues: int = 1) -> None:
        self.core = Core(True, 0)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(queues)]
        self.kernels = [kernel for _, kernel in pairs]
        self.kernel = self.kernels[0]
        for device, kernel in pairs:
            device.setblocking(False)
            kernel.settimeout(PATIENCE_S)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.core.start([device.fileno() for device, _ in pairs], self._wake)
        for device, _ in pairs:
            device.close()  # the core has its own
        self._events: list[Event] = []

    def stop(self) -> None:
        """End the threads."""
        self.core.stop()
        for kernel in self.kernels:
            kernel.close()
        os.close(self._wake)

    def wait_for(self, kind: int) -> Event:
        """The next event of that kind; others are kept."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            self._events += self.core.events()  # type: ignore[arg-type]
            for event in self._events:
                if event[0] == kind:
                    self._events.remove(event)
                    return event
            time.sleep(0.002)
        raise AssertionError(f"no event {kind}; there were {self._events}")
