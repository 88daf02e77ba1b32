"""Moves many bytes over one TCP connection and compares their hashes; also the server for it.

    transfer.py serve PORT
    transfer.py download|upload ADDRESS PORT MEGABYTES

Every megabyte is different, so that a lost, doubled or misplaced one changes the hash.
"""

from __future__ import annotations

import hashlib
import json
import socket
import socketserver
import sys
import time
from collections.abc import Iterator
from random import Random

MEGABYTE = 10**6
IDLE_TIME_S = 90.0
NUMBER_BYTES = 8


def content(megabytes: int, seed: int) -> Iterator[bytes]:
    """The bytes to send, megabyte by megabyte."""
    noise = Random(seed).randbytes(MEGABYTE - NUMBER_BYTES)  # noqa: S311 - no secret
    for number in range(megabytes):
        yield number.to_bytes(NUMBER_BYTES, "big") + noise


def send(connection: socket.socket, megabytes: int, seed: int) -> str:
    """Send it all, then say that nothing follows; gives the hash of what was sent."""
    digest = hashlib.sha256()
    for part in content(megabytes, seed):
        digest.update(part)
        connection.sendall(part)
    connection.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def receive(connection: socket.socket) -> tuple[str, int]:
    """Take everything until the other side is done; gives the hash and the number of bytes."""
    digest = hashlib.sha256()
    received_bytes = 0
    while part := connection.recv(1 << 18):
        digest.update(part)
        received_bytes += len(part)
    return digest.hexdigest(), received_bytes


def read_line(connection: socket.socket) -> str:
    """One line, byte by byte: nothing after it is taken away."""
    line = bytearray()
    while (byte := connection.recv(1)) not in (b"\n", b""):
        line += byte
    return line.decode()


class Handler(socketserver.BaseRequestHandler):
    """First a line that says what is wanted; an upload is answered with its hash."""

    def handle(self) -> None:
        self.request.settimeout(IDLE_TIME_S)
        wanted, megabytes, seed = read_line(self.request).split()
        if wanted == "download":
            send(self.request, int(megabytes), int(seed))
            self.request.recv(1)  # nothing: until all of it has arrived, the socket is not closed
            return
        digest, _ = receive(self.request)
        self.request.sendall(digest.encode() + b"\n")


def command(*arguments: str) -> list[str]:
    """The command line of this module; it needs nothing but Python's own library."""
    return [sys.executable, __file__, *arguments]


class Server(socketserver.ThreadingTCPServer):
    """One for IPv4 and IPv6."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def transfer(wanted: str, address: str, port: int, megabytes: int) -> dict[str, object]:
    """Download or upload; says whether what arrived is what was sent, and how long it took."""
    seed = time.time_ns() % 2**32
    with socket.create_connection((address, port), timeout=IDLE_TIME_S) as connection:
        began_at_s = time.monotonic()
        connection.sendall(f"{wanted} {megabytes} {seed}\n".encode())
        if wanted == "download":
            arrived, received_bytes = receive(connection)
            took_s = time.monotonic() - began_at_s
            expected = hashlib.sha256()
            for part in content(megabytes, seed):
                expected.update(part)
            sent = expected.hexdigest()
        else:
            sent = send(connection, megabytes, seed)
            arrived = read_line(connection)
            received_bytes = megabytes * MEGABYTE
            took_s = time.monotonic() - began_at_s
    return {
        "matches": arrived == sent,
        "bytes": received_bytes,
        "seconds": took_s,
        "megabits_per_s": received_bytes * 8 / took_s / 1e6,
    }


def main() -> None:
    """The command of the docstring above."""
    if sys.argv[1] == "serve":
        with Server(("::", int(sys.argv[2])), Handler) as server:
            print("serving", flush=True)
            server.serve_forever()
    result = transfer(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
