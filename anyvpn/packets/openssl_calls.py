"""OpenSSL's calls that move bytes, without what pyOpenSSL does around each of them.

`Connection.recv` and its like allocate, look at flags, and say by an exception that nothing is
there: for packets of 1400 bytes twice what encrypting them takes. The objects are pyOpenSSL's
still, and errors are raised by it.
"""

from __future__ import annotations

from contextlib import suppress

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

# From the protocol
LONGEST_RECORD_BYTES = 16384

# Ours: one for all, since no two threads read TLS
_BUFFER_BYTES = 1 << 16
_buffer = ffi.new("char[]", _BUFFER_BYTES)
_octets = ffi.buffer(_buffer)

_read, _write = lib.SSL_read, lib.SSL_write
_read_out = lib.BIO_read


class OpenSSLCalls:
    """Those of one connection between two buffers in memory."""

    __slots__ = ("_going", "_ssl", "_tls")

    def __init__(self, tls: SSL.Connection) -> None:
        self._tls = tls
        self._ssl, self._going = tls._ssl, tls._from_ssl

    def read_records(self, most: int, chunks: list[bytes]) -> None:
        """Add what is in so many records, or in as many as have any data.

        Raises: SSL.Error: the connection is over; chunks before that are there.
        """
        ssl = self._ssl
        size = 0
        for _ in range(most):
            if size > _BUFFER_BYTES - LONGEST_RECORD_BYTES:
                chunks.append(_octets[:size])
                size = 0
            read = _read(ssl, _buffer + size, LONGEST_RECORD_BYTES)
            if read <= 0:
                if size:
                    chunks.append(_octets[:size])
                with suppress(SSL.WantReadError):
                    self._tls._raise_ssl_error(ssl, read)
                return
            size += read
        if size:
            chunks.append(_octets[:size])

    def write_record(self, data: bytes) -> int:
        """Encrypt the beginning of it in one record; gives how much that is. Raises: SSL.Error."""
        size: int = _write(self._ssl, data, len(data))
        if size <= 0:
            self._tls._raise_ssl_error(self._ssl, size)
        return size

    def take(self) -> bytes:
        """All that the peer is to be sent."""
        chunks: list[bytes] = []
        going = self._going
        while (size := _read_out(going, _buffer, _BUFFER_BYTES)) > 0:
            chunks.append(_octets[:size])
            if size < _BUFFER_BYTES:
                break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
