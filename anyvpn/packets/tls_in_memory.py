"""TLS between two buffers in memory, which stay small.

OpenSSL's own buffers grow to what they ever held and never shrink: a burst of packets each way
would cost 300 KB for the rest of the connection's life. So bytes go in and out in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable

from OpenSSL import SSL

from anyvpn.packets.openssl_calls import LONGEST_RECORD_BYTES, OpenSSLCalls
from anyvpn.packets.tls_records import RecordCount

__all__ = ["LONGEST_RECORD_BYTES", "PIECE_BYTES", "TLSInMemory"]

# Ours
PIECE_BYTES = 32 * 1024
"""What OpenSSL is given at once, and what it may have to send before that is taken out."""
_RECORD_OVERHEAD_BYTES = 64  # no cipher adds as much


class TLSInMemory:
    """Moves bytes in and out of one connection of OpenSSL's; what it raises goes through.

    OpenSSL is given whole records, during the handshake one by one, so that it is known which of
    them it has taken: `unread` is the beginning of one that has not come whole.
    """

    __slots__ = (
        "_calls",
        "_coming",
        "_given_records",
        "_going",
        "_made_bytes",
        "_shakes_hands",
        "_tickets",
        "_tls",
        "received",
        "sent",
    )

    def __init__(self, tls: SSL.Connection) -> None:
        self.received, self.sent = RecordCount(), RecordCount()
        self._tls = tls
        self._calls = OpenSSLCalls(tls)
        self._shakes_hands = True
        self._coming = b""
        self._given_records = 0
        self._going: list[bytes] = []
        self._tickets: list[bytes] = []
        self._made_bytes = 0

    def feed(self, data: bytes) -> None:
        """Bytes of TLS came from the peer."""
        self._coming += data
        self._give_piece()

    @property
    def unread(self) -> bytes:
        """What OpenSSL was not given yet."""
        return self._coming

    @property
    def is_sent(self) -> bool:
        """Whether nothing was made that `take` has not given."""
        return not (self._made_bytes or self._going or self._tickets)

    def shake_hands(self, *, is_client: bool) -> bool:
        """Go on with the handshake; gives whether it is complete."""
        while True:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                if not self._give_piece():
                    return False
            else:
                self._shakes_hands = False
                if is_client:
                    self._take_piece()  # our last words of the handshake, under its own keys
                self.received.since_handshake = self.sent.since_handshake = 0
                if not is_client and self._tls.get_protocol_version_name() == "TLSv1.3":
                    # Nobody waits for session tickets: they go along with the first answer
                    self._take_piece()
                    self._tickets, self._going = self._going, []
                return True

    def decrypt(self, chunks: list[bytes]) -> None:
        """Add what came to the chunks; those are there even when it raises."""
        while True:
            # Each record gives data once at the most: what is read in vain costs more
            given_records, self._given_records = self._given_records, 0
            self._calls.read_records(given_records, chunks)
            if not self._give_piece():
                return

    def encrypt(self, records: Iterable[bytes], most_bytes: int) -> int:
        """Make a record of each, to be taken later; gives how many were made.

        After `most_bytes` in all it stops, but not before the first.
        """
        send = self._calls.write_record
        made = size = 0
        for record in records:
            length = len(record)
            size += length
            if size > most_bytes and made:
                break
            sent = send(record)
            while sent < length:  # the peer may have negotiated shorter records (RFC 6066)
                sent += send(record[sent:])
            made += 1
            self._made_bytes += length + _RECORD_OVERHEAD_BYTES
            if self._made_bytes > PIECE_BYTES:
                self._take_piece()
        return made

    def take(self) -> bytes:
        """All that is to be sent to the peer now."""
        self._take_piece()
        if not self._going:
            return b""
        going = [*self._tickets, *self._going]
        self._tickets, self._going = [], []
        return going[0] if len(going) == 1 else b"".join(going)

    def _give_piece(self) -> bool:
        """Let OpenSSL have more of what came; False when there is no more."""
        coming = self._coming
        before = self.received.since_handshake
        end = self.received.take(coming, PIECE_BYTES, only_one=self._shakes_hands)
        if not end:
            return False
        self._tls.bio_write(coming[:end])
        self._coming = coming[end:]
        # What is no TLS is an error, which one read tells of
        self._given_records += self.received.since_handshake - before + self.received.is_broken
        return True

    def _take_piece(self) -> None:
        """Empty OpenSSL's buffer."""
        self._made_bytes = 0
        data = self._calls.take()
        if data:
            self.sent.take(data, len(data))
            self._going.append(data)
