"""One TLS connection of a scripted client: every byte is the test's own, and so is the end."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path

from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_answers import Ending

NewSocket = Callable[[socket.AddressFamily, socket.SocketKind], socket.socket]
"""Makes sockets; those of a network namespace, for one."""

# Ours
LIMIT_S = 10.0
PIECE_BYTES = 65536
GOODBYE_TIME_S = 0.5  # how long the other side may take to answer the end of TLS


class ScriptedLine:
    """The connection; all waiting ends at a time limit. Raises: UnmetExpectation."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        name: str,
        ca_file: Path | None,
        certificate: Path | None,
        new_socket: NewSocket,
        limit_s: float,
    ) -> None:
        self.limit_s = limit_s
        self.address = address
        self.new_socket = new_socket
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        tcp = new_socket(family, socket.SOCK_STREAM)
        try:
            tcp.settimeout(limit_s)
            tcp.connect((address, port))
            context = _context(ca_file, certificate)
            self._tls = context.wrap_socket(
                tcp, server_hostname=name or address, suppress_ragged_eofs=False
            )
        except OSError as error:
            tcp.close()
            raise UnmetExpectation(f"no connection to {address}:{port}: {error}") from None
        self.ended: Ending | None = None
        """How the gateway has ended it: CLOSE, CUT or RESET; None while it has not."""

    @property
    def tls(self) -> ssl.SSLSocket:
        """The connection itself, for what is not foreseen here."""
        return self._tls

    def send(self, data: bytes, *, piece_bytes: int = PIECE_BYTES, pause_s: float = 0.0) -> None:
        """These bytes, each piece in a TLS record of its own, with a pause before each.

        Raises: UnmetExpectation: the gateway takes no more.
        """
        self._tls.settimeout(self.limit_s)
        for start in range(0, len(data), piece_bytes):
            if pause_s:
                time.sleep(pause_s)
            try:
                self._tls.sendall(data[start : start + piece_bytes])
            except OSError as error:
                raise UnmetExpectation(f"the gateway takes nothing any more: {error}") from None

    def send_below(self, data: bytes) -> None:
        """These bytes past TLS, which the gateway then takes for a record."""
        with socket.socket(fileno=os.dup(self._tls.fileno())) as tcp:
            tcp.settimeout(self.limit_s)
            tcp.sendall(data)

    def receive(self, *, limit_s: float | None = None) -> bytes:
        """What comes next; nothing when the gateway has ended the connection.

        Raises: UnmetExpectation: nothing comes in time.
        """
        if self.ended is not None:
            return b""
        self._tls.settimeout(self.limit_s if limit_s is None else limit_s)
        try:
            data = self._tls.recv(PIECE_BYTES)
        except TimeoutError:
            raise UnmetExpectation(f"nothing comes within {self._tls.gettimeout():g} s") from None
        except ssl.SSLError as error:
            # Python has an error of its own for this, but does not always raise it
            is_cut = error.reason in (None, "UNEXPECTED_EOF_WHILE_READING")
            self.ended = Ending.CUT if is_cut else Ending.CLOSE
            return b""
        except ConnectionError:
            self.ended = Ending.RESET
            return b""
        if not data:
            self.ended = Ending.CLOSE
        return data

    def wait_closed(self, *, limit_s: float | None = None) -> Ending:
        """Wait until the gateway ends it, whatever it says before; gives how it did.

        Raises: UnmetExpectation: it does not.
        """
        ends_at_s = time.monotonic() + (self.limit_s if limit_s is None else limit_s)
        while self.ended is None:
            left_s = ends_at_s - time.monotonic()
            if left_s <= 0:
                raise UnmetExpectation("the gateway does not end the connection")
            self.receive(limit_s=left_s)
        return self.ended

    def close(self) -> None:
        """End it as TLS has it."""
        with contextlib.suppress(OSError, ValueError):
            self._tls.settimeout(GOODBYE_TIME_S)
            self._tls.unwrap()
        self._tls.close()

    def cut(self) -> None:
        """End it without a word in TLS."""
        self._tls.close()

    def reset(self) -> None:
        """End it with a reset."""
        self._tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._tls.close()


def _context(ca_file: Path | None, certificate: Path | None) -> ssl.SSLContext:
    """Without authorities every gateway is a good one."""
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    if ca_file is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context
