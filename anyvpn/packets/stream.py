"""A TLS connection that we drive ourselves, in memory, over any TCP transport.

Twisted's own TLS transport joins small writes into one record, and CSTP needs one per packet
(protocol reference, section 9.1). So HTTP and then CSTP go through it from the first byte:

    handshaking ── complete ──▶ open ── close(), close_notify, failure ──▶ closing ──▶ closed
         │                       └── hand_over() ──▶ kept ─▶ returned ────▶ ▲            ▲
         └──────────── failure, time limit, connection lost ────────────────┴────────────┘
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import cast

from OpenSSL import SSL
from twisted.internet import protocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from anyvpn.interfaces import IHandedOverStream, IRecordKeeper
from anyvpn.model.channels import ReturnedConnection
from anyvpn.packets.record_keeper import Connection, hand_over
from anyvpn.packets.tcp_descriptor import TCPTransport, put_descriptor
from anyvpn.packets.tcp_ending import end_in_order
from anyvpn.packets.tcp_path import is_socket, path_mtu_below
from anyvpn.packets.tcp_transport import prepare, write_at_once
from anyvpn.packets.time_limit import TimeLimit
from anyvpn.packets.tls_failures import handshake_failure, reason_in
from anyvpn.packets.tls_in_memory import LONGEST_RECORD_BYTES, TLSInMemory
from anyvpn.packets.tls_keys import TLSSecrets
from anyvpn.packets.tls_reader import NOBODY, ITLSReader

# Ours
LARGEST_BATCH_BYTES = 128 * 1024
"""What one batch of frames may add to the transport's as much: 256 KB wait at the most."""
CLOSE_TIME_S = 5.0
"""How long a close may take to hand over what was written."""
MOST_UNREAD_ANSWER_BYTES = 64 * 1024
"""What TLS itself may add, such as answers to changes of keys, while the peer reads nothing."""


class _State(Enum):
    HANDSHAKING = "handshaking"
    OPEN = "open"
    KEPT = "kept"
    RETURNED = "returned"
    CLOSING = "closing"
    CLOSED = "closed"


@implementer(IHandedOverStream, IPushProducer)
class TLSStream(protocol.Protocol):
    """Either side of one TLS connection; `reader` may be replaced at any time.

    `tls` is there for looking at names and certificates, not for reading and writing.
    """

    _version = _cipher = ""  # of an object's own once OpenSSL cannot be asked any more

    def __init__(
        self,
        reactor: IReactorTime,
        context: SSL.Context,
        reader: ITLSReader,
        *,
        is_client: bool = False,
        server_name: str | None = None,
        handshake_time_s: float = 10.0,
        secrets: TLSSecrets | None = None,
    ) -> None:
        self.reader = reader
        self.encoding = ""
        self.tls = SSL.Connection(context, None)
        self.tls.set_options(SSL.OP_NO_RENEGOTIATION)
        if is_client:
            self.tls.set_connect_state()
            if server_name is not None:
                self.tls.set_tlsext_host_name(server_name.encode("idna"))
        else:
            self.tls.set_accept_state()
        self._memory = TLSInMemory(self.tls)
        self._reactor = reactor
        self._tcp: TCPTransport | None = None
        self._is_client = is_client
        self._handshake_time_s = handshake_time_s
        self._state = _State.HANDSHAKING
        self._time_limit = TimeLimit(reactor)
        self._received: Callable[[bytes], None] | None = None
        self._writable: Callable[[], None] | None = None
        self._given_back = b""
        self._secrets = secrets
        self._keeper: IRecordKeeper | None = None
        self._flushed_bytes = self._unread_answer_bytes = 0
        self._reading = self._more_came = False
        self._paused = self._congested = self._told_closed = False
        self._why_closed = ""

    # --- what the owner asks for ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes in as few records as they need; nothing is sent unless it is open."""
        if self._state is not _State.OPEN:
            return
        starts = range(0, len(data), LONGEST_RECORD_BYTES)
        self._write((data[at : at + LONGEST_RECORD_BYTES] for at in starts), len(data))

    def write_frames(self, frames: Sequence[bytes]) -> int:
        """Send each frame in a record of its own, in batches; gives how many.

        None are taken while the transport is congested.
        """
        taken = 0
        while taken < len(frames) and not self._congested and self._state is _State.OPEN:
            taken += self._write(frames[taken:], LARGEST_BATCH_BYTES)
        return taken

    def write_last(self, frame: bytes) -> None:
        """Send one more frame, congested or not."""
        self.write(frame)

    def _write(self, records: Iterable[bytes], most_bytes: int) -> int:
        try:
            taken = self._memory.encrypt(records, most_bytes)
        except SSL.Error as error:
            self._fail(f"TLS failed: {reason_in(error)}")
            return 0
        self._flush()
        return taken

    @property
    def is_congested(self) -> bool:
        """Whether the peer takes less than it is sent."""
        return self._congested

    def take_over(self, received: Callable[[bytes], None], writable: Callable[[], None]) -> None:
        """Hand what comes from now on to `received` instead of to the reader."""
        self._received = received
        self.notify_drained(writable)
        if self._given_back:
            self._reactor.callLater(0, self._read)

    def notify_drained(self, writable: Callable[[], None]) -> None:
        """Call this alone whenever congestion is over."""
        self._writable = writable

    def give_back(self, data: bytes) -> None:
        """Bytes that the reader was given and that belong to whoever reads next."""
        self._given_back += data
        if data:
            self._reactor.callLater(0, self._read)

    def pause_reading(self) -> None:
        """Read nothing more from the peer, who will notice at some time."""
        self._paused = True
        if self._tcp is not None:
            self._tcp.pauseProducing()

    def resume_reading(self) -> None:
        """Go on after a pause."""
        self._paused = False
        if self._tcp is not None and self._state is not _State.KEPT:
            self._tcp.resumeProducing()
            self._read()

    def hand_over(self, keeper: IRecordKeeper) -> None:
        """Let `keeper` have the records, as soon as it can be; where it cannot, nothing changes."""
        if self._tcp is not None and is_socket(self._tcp) and self._secrets is not None:
            self._tcp.unregisterProducer()
            connection = Connection(self.tls, self._is_client, self._memory, self._tcp)
            hand_over(connection, self._secrets, keeper, self._is_drained, self._handed_over)

    def take_back(self, returned: ReturnedConnection) -> None:
        """The keeper is done: nothing more comes, and nothing goes but what is unsent."""
        self._keeper = None
        if self._tcp is None:
            os.close(returned.descriptor)
            return
        put_descriptor(self._tcp, returned.descriptor)
        self._state = _State.RETURNED
        if returned.unsent:
            self._tcp.write(returned.unsent)

    def end(self, reason: str) -> None:
        """The keeper has given it back, for it is over."""
        if self._state is _State.RETURNED:
            self._begin_closing(reason)
        self._tell_closed(reason)

    def close(self) -> None:
        """Say goodbye and end when all that was written is handed over, or its time is up."""
        if self._keeper is not None:
            self.take_back(self._keeper.give_back())
        if self._state in (_State.HANDSHAKING, _State.OPEN, _State.RETURNED):
            self._begin_closing("closed here")

    def abort(self, reason: str = "aborted here") -> None:
        """End at once; what was written and did not go out is lost."""
        if self._keeper is not None:
            self.take_back(self._keeper.give_back())
        if self._tcp is not None:
            self._state = _State.CLOSING
            self._why_closed = self._why_closed or reason
            self._tcp.abortConnection()

    # --- what can be known about it -------------------------------------------------------------

    def export_keying_material(self, label: bytes, length: int) -> bytes:
        """Secret bytes that both sides of this connection know, by RFC 5705 without a context."""
        return self.tls.export_keying_material(label, length, None)

    def cipher_name(self) -> str:
        """OpenSSL's name of the cipher suite; empty before the handshake is complete."""
        return self._cipher or self.tls.get_cipher_name() or ""

    def protocol_version(self) -> str:
        """Such as "TLSv1.3"."""
        return self._version or self.tls.get_protocol_version_name()

    def server_name_indication(self) -> str:
        """The host name that the client asked for; empty when it asked for none."""
        return (self.tls.get_servername() or b"").decode("ascii", "replace")

    def peer_address(self) -> str:
        """The other end's host as an address; empty when there is no real socket below."""
        return "" if self._tcp is None else getattr(self._tcp.getPeer(), "host", "")

    def path_mtu(self) -> int:
        """The path's MTU in bytes as TCP knows it; 0 when there is no real socket below."""
        return path_mtu_below(self._tcp)

    # --- what Twisted tells ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The TCP connection is there."""
        transport = self._tcp = cast(TCPTransport, self.transport)
        prepare(transport)
        transport.registerProducer(self, True)
        self._time_limit.start(self._handshake_time_s, self._handshake_late)
        if self._is_client:
            self._shake_hands()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of TLS came."""
        if self._state is _State.HANDSHAKING:
            self._memory.feed(data)
            self._shake_hands()
        elif self._state is _State.OPEN:
            self._memory.feed(data)
        self._read()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The TCP connection is gone."""
        was, self._state, self._tcp = self._state, _State.CLOSED, None
        self._time_limit.cancel()
        if self._keeper is not None:  # somebody else has ended a transport that was a shell
            self.take_back(self._keeper.give_back())
        why = "the peer closed the connection"
        if not isinstance(reason.value, ConnectionDone):
            why = f"the connection was lost: {reason.getErrorMessage()}"
        if was is _State.HANDSHAKING:
            why = f"TLS handshake failed: {why}"
        self._tell_closed(self._why_closed or why)

    def pauseProducing(self) -> None:
        """The transport has enough to send."""
        self._congested = True

    def resumeProducing(self) -> None:
        """The transport has sent what it had."""
        self._congested = False
        self._unread_answer_bytes = 0
        if self._writable is not None and self._state is _State.OPEN:
            self._writable()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""
        self._congested = True

    # --- within ---------------------------------------------------------------------------------

    def _is_drained(self) -> bool:
        """Whether nothing is left to do here, now that all that was written has gone out."""
        before = self._flushed_bytes
        self.resumeProducing()
        is_busy = self._flushed_bytes > before or self._paused or self._given_back
        return self._state is _State.OPEN and not is_busy

    def _handed_over(self, keeper: IRecordKeeper | None) -> None:
        """The records are the keeper's; None: they stay here."""
        self._keeper = keeper
        assert self._tcp is not None, "it has just said that it is drained"
        if keeper is None:
            self._tcp.registerProducer(self, True)
        else:
            self._state = _State.KEPT
            self._version, self._cipher = self.protocol_version(), self.cipher_name()
            del self.tls, self._memory  # OpenSSL has done its part, and holds half of a session

    def _shake_hands(self) -> None:
        try:
            is_complete = self._memory.shake_hands(is_client=self._is_client)
        except SSL.Error as error:
            self._fail(handshake_failure(error))
            return
        if not is_complete:
            self._flush()
            return
        self._time_limit.cancel()
        self._state = _State.OPEN
        self._flush()
        self.reader.secured()

    def _handshake_late(self) -> None:
        self._why_closed = (
            f"TLS handshake failed: it was not complete after {self._handshake_time_s:g} s"
        )
        self.abort()

    def _read(self) -> None:
        """Deliver what there is, unless we are in the middle of it already."""
        self._more_came = True
        if self._reading:
            return
        self._reading = True
        try:
            while self._more_came and self._state is _State.OPEN and not self._paused:
                self._more_came = False
                data, ending = self._decrypt()
                if self._given_back:
                    data, self._given_back = self._given_back + data, b""
                if data:
                    deliver = self._received or self.reader.received
                    deliver(data)
                if ending:
                    self._fail(ending)
        finally:
            self._reading = False

    def _decrypt(self) -> tuple[bytes, str]:
        """All that came, bounded by what the transport reads at once, and why no more comes."""
        chunks: list[bytes] = []
        ending = ""
        try:
            self._memory.decrypt(chunks)
            flushed_bytes = self._flush()  # such as the answer to a change of keys
            if self._congested:
                self._unread_answer_bytes += flushed_bytes
                if self._unread_answer_bytes > MOST_UNREAD_ANSWER_BYTES:
                    ending = "the peer asks for more answers than it reads"
        except SSL.ZeroReturnError:
            ending = "the peer closed the TLS connection"
        except SSL.Error as error:
            ending = f"TLS failed: {reason_in(error)}"
        return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), ending

    def _flush(self) -> int:
        """Hand what TLS wants to send to the transport; gives how much it was."""
        data = self._memory.take()
        self._flushed_bytes += len(data)
        if data and self._tcp is not None:
            write_at_once(self._tcp, data)
        return len(data)

    def _fail(self, reason: str) -> None:
        """It cannot go on: let the peer have our alert, and tell the reader now."""
        if self._state in (_State.HANDSHAKING, _State.OPEN):
            self._begin_closing(reason)
        self._tell_closed(reason)

    def _begin_closing(self, reason: str) -> None:
        was, self._state = self._state, _State.CLOSING
        self._why_closed = self._why_closed or reason
        if was is _State.OPEN:
            with suppress(SSL.Error):  # it may be broken already
                self.tls.shutdown()
        if was is not _State.RETURNED:
            self._flush()
        if self._tcp is not None:
            # A transport that still waits for a paused producer would not close
            self._tcp.unregisterProducer()
            if self._is_client:  # who says goodbye does not wait for an answer
                self._tcp.loseConnection()
            else:
                end_in_order(self._tcp)
            self._time_limit.start(CLOSE_TIME_S, self.abort)

    def _tell_closed(self, reason: str) -> None:
        if not self._told_closed:
            self._told_closed = True
            self._received = self._writable = None
            reader, self.reader = self.reader, NOBODY  # or each would keep the other
            reader.closed(reason)
