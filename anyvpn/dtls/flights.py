"""Flights: groups of records that go out together, are repeated, and answer each other."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from anyvpn.dtls.handshake_messages import (
    CLIENT_HELLO,
    FINISHED,
    HELLO_REQUEST,
    SERVER_HELLO,
    Fragment,
    Message,
    Reassembly,
    read_fragments,
)
from anyvpn.dtls.key_schedule import CLIENT_FINISHED, SERVER_FINISHED, key_block, verify_data
from anyvpn.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    Record,
    RecordOpener,
    RecordSealer,
    split_datagram,
)
from anyvpn.dtls.retransmission import Retransmission
from anyvpn.dtls.suites import Version
from anyvpn.errors import HandshakeFailed
from anyvpn.model.channels import RecordKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyvpn.model.channels import Suite

# From the protocol
PLAINTEXT_EPOCH: Final = 0
PROTECTED_EPOCH: Final = 1
DTLS10_BYTES: Final = b"\xfe\xff"  # on the records of a first ClientHello, whatever it offers
CLOSE_NOTIFY: Final = 0
FATAL: Final = 2

# Ours
FIRST_DATA_SEQUENCE: Final = 1 << 16
"""Below it are the sequence numbers that repeated Finished messages may still use: no record of
the packet path can ever share one with them, whatever is repeated after the keys are handed out."""
MOST_FLIGHTS: Final = 64  # peers repeat themselves some ten times; far below FIRST_DATA_SEQUENCE
MOST_EARLY_RECORDS: Final = 32
MOST_EARLY_FINISHED: Final = 8  # records of the peer's last flight that overtake its first
LONGEST_DATAGRAM_BYTES: Final = 1200  # passes any path that a tunnel is worth having on


class _Outgoing(NamedTuple):
    """One record of a flight, before it gets the sequence number that is new each time."""

    content_type: int
    epoch: int
    body: bytes


class FlightExchange:
    """The part that all handshakes share: flights out, messages in, time limits.

    A subclass says what to do with each message (`_message_received`) and which repeated
    message of the peer asks for our flight again (`_asks_for_flight`).
    """

    def __init__(
        self, *, version: Version, is_client: bool, random: Callable[[int], bytes]
    ) -> None:
        self.keys: RecordKeys | None = None
        self.suite: Suite | None = None
        self.early_records: list[bytes] = []
        self._version = version
        self._is_client = is_client
        self._random = random
        self._opening_type = SERVER_HELLO if is_client else CLIENT_HELLO
        self._opening_seen = False
        self._failed = False
        self._transcript = b""
        self._master_secret = b""
        self._reassembly = Reassembly()
        self._next_message_sequence = 0
        self._plaintext_version = version.value
        self._plaintext_sequence = 0
        self._protected_keys: RecordKeys | None = None
        self._protected_sequence = 0
        self._newest_opened = -1
        self._early_finished: list[bytes] = []
        self._flight: list[_Outgoing] = []
        self._flights_sent = 0
        self._flight_is_new = False
        self._flight_is_due = False
        self._retransmission = Retransmission(is_client=is_client)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'complete' if self.keys else 'under way'}>"

    def _message_received(self, message: Message) -> None:
        raise NotImplementedError

    def _asks_for_flight(self, fragment: Fragment) -> bool:
        raise NotImplementedError

    # Time

    def next_timeout_s(self) -> float | None:
        """The moment for `handle_timeout`, or None when nothing is awaited."""
        return self._retransmission.next_at_s

    def handle_timeout(self, now_s: float) -> list[bytes]:
        """The datagrams to repeat, if it is time.

        Raises: HandshakeFailed: the peer took too long.
        """
        try:
            if not self._retransmission.is_due(now_s):
                return []
        except HandshakeFailed:
            self._failed = True
            raise
        return self._send_flight()

    # Sending

    def start(self, now_s: float) -> list[bytes]:  # noqa: ARG002 - a server's answer to all times
        """The datagrams of a client's first flight; a server has none."""
        return []

    def _begin_flight(self) -> None:
        self._flight = []
        self._flight_is_new = self._flight_is_due = True

    def _add_message(self, message_type: int, body: bytes) -> None:
        """Put a message into the flight, and into what the Finished messages sign."""
        message = Message(message_type, self._next_message_sequence, body)
        self._next_message_sequence += 1
        self._sign(message)
        epoch = PROTECTED_EPOCH if message_type == FINISHED else PLAINTEXT_EPOCH
        self._flight.append(_Outgoing(HANDSHAKE, epoch, message.encoded()))

    def _add_change_cipher_spec(self) -> None:
        body = b"\x01"
        if self._version is Version.BAD_VER:
            body += self._next_message_sequence.to_bytes(2, "big")
            self._next_message_sequence += 1
        self._flight.append(_Outgoing(CHANGE_CIPHER_SPEC, PLAINTEXT_EPOCH, body))

    def _add_finished(self) -> None:
        self._add_change_cipher_spec()
        label = CLIENT_FINISHED if self._is_client else SERVER_FINISHED
        self._add_message(FINISHED, self._verify_data(label))

    def _send_flight(self) -> list[bytes]:
        """The records of the flight under new sequence numbers, packed into few datagrams."""
        if self._flights_sent >= MOST_FLIGHTS:
            return []
        self._flights_sent += 1
        datagrams = [b""]
        for content_type, epoch, body in self._flight:
            if epoch == PROTECTED_EPOCH:
                record = self._sealed(content_type, body)
            else:
                sequence = self._plaintext_sequence.to_bytes(8, "big")
                self._plaintext_sequence += 1
                head = bytes((content_type,)) + self._plaintext_version
                record = head + sequence + len(body).to_bytes(2, "big") + body
            if len(datagrams[-1]) + len(record) > LONGEST_DATAGRAM_BYTES:
                datagrams.append(b"")
            datagrams[-1] += record
        return datagrams

    # Receiving

    def receive(self, datagram: bytes, now_s: float) -> list[bytes]:
        """Take one datagram; gives those that answer it.

        Raises: HandshakeFailed: the handshake cannot go on, or the peer closed the channel.
        """
        if self._failed:
            return []
        self._flight_is_due = self._flight_is_new = False
        try:
            for record in split_datagram(datagram):
                self._record_received(record, datagram)
                if self._early_finished and self._protected_keys is not None:
                    self._take_early_finished()
        except HandshakeFailed:
            self._failed = True
            self._retransmission.stop()
            raise
        if self.keys is not None:
            self._retransmission.stop()
        elif self._flight_is_new:
            self._retransmission.begin(now_s)
        return self._send_flight() if self._flight_is_due else []

    def _record_received(self, record: Record, datagram: bytes) -> None:
        if record.epoch == PROTECTED_EPOCH:
            self._protected_record_received(record.content_type, record.whole(datagram))
            return
        if record.epoch != PLAINTEXT_EPOCH or self.keys is not None:
            return
        if record.version not in (self._version.value, DTLS10_BYTES):
            return
        if record.content_type == HANDSHAKE:
            for fragment in read_fragments(record.body(datagram)):
                if fragment.message_type != FINISHED:
                    self._fragment_received(fragment, record.sequence)
        elif record.content_type == ALERT and self._is_client:
            # Anybody can write one: a client has its time limit shortened, a server only loses
            self._alert_received(record.body(datagram))

    def _protected_record_received(self, content_type: int, record: bytes) -> None:
        if content_type == APPLICATION_DATA:
            if len(self.early_records) < MOST_EARLY_RECORDS:
                self.early_records.append(record)
        elif self._protected_keys is None:
            if content_type == HANDSHAKE and len(self._early_finished) < MOST_EARLY_FINISHED:
                self._early_finished.append(record)
        elif content_type == HANDSHAKE:
            for fragment in read_fragments(self._opened(content_type, record)):
                if fragment.message_type == FINISHED:
                    self._fragment_received(fragment, 0)
        elif content_type == ALERT:
            self._alert_received(self._opened(content_type, record))

    def _fragment_received(self, fragment: Fragment, record_sequence: int) -> None:
        reassembly = self._reassembly
        if not self._opening_seen and fragment.message_type == self._opening_type:
            # 0, or 1 after a HelloVerifyRequest, which whoever sent it may have forgotten
            if fragment.message_sequence > 1 or record_sequence >= FIRST_DATA_SEQUENCE:
                return
            reassembly.skip_to(fragment.message_sequence)
            if not self._is_client:
                # RFC 6347, section 4.2.1: so a HelloVerifyRequest's number is not used again
                self._plaintext_sequence = record_sequence
                self._next_message_sequence = fragment.message_sequence
        if fragment.message_sequence < reassembly.next_sequence:
            if self._asks_for_flight(fragment):
                self._flight_is_due = True
            return
        if self._opening_seen and fragment.message_type == self._opening_type:
            return  # another hello is another handshake's
        reassembly.add(fragment)
        while self.keys is None and (message := reassembly.next_message()) is not None:
            if message.message_type == HELLO_REQUEST:
                continue
            if message.message_type == self._opening_type:
                self._opening_seen = True
                if self._version is Version.BAD_VER:
                    reassembly.skip_to(reassembly.next_sequence + 1)  # of the ChangeCipherSpec
            self._message_received(message)

    def _alert_received(self, body: bytes) -> None:
        if len(body) < 2:
            return
        level, description = body[0], body[1]
        if description == CLOSE_NOTIFY:
            raise HandshakeFailed("the peer closed the channel (close_notify)")
        if level == FATAL:
            raise HandshakeFailed(f"the peer sent fatal alert {description}")

    # Secrets

    def _sign(self, message: Message) -> None:
        """Add a message to what the Finished messages sign.

        Version 0x0100 signs bodies without headers. Source: protocol reference, section 12.3.
        """
        is_old = self._version is Version.BAD_VER
        self._transcript += message.body if is_old else message.encoded()

    def _verify_data(self, label: bytes) -> bytes:
        assert self.suite is not None
        return verify_data(self.suite.hash_name, self._master_secret, label, self._transcript)

    def _derive_keys(self, client_random: bytes, server_random: bytes) -> None:
        """Make ready for the second epoch."""
        assert self.suite is not None
        client, server = key_block(self.suite, self._master_secret, client_random, server_random)
        write, read = (client, server) if self._is_client else (server, client)
        self._protected_keys = RecordKeys(
            self._version.value, self.suite, write, read, PROTECTED_EPOCH, FIRST_DATA_SEQUENCE
        )

    # Ciphers are made for each record: there is one, as a rule, and the rest of a channel's life
    # would have to keep them

    def _sealed(self, content_type: int, body: bytes) -> bytes:
        """One record of the second epoch."""
        assert self._protected_keys is not None
        keys = replace(self._protected_keys, write_sequence=self._protected_sequence)
        self._protected_sequence += 1
        return RecordSealer(keys, random=self._random).seal(body, content_type)

    def _opened(self, content_type: int, record: bytes) -> bytes:
        """What is in a record of the second epoch; nothing when it is forged, or not newer."""
        assert self._protected_keys is not None
        opener = RecordOpener(self._protected_keys, content_type=content_type, window_records=1)
        content = opener.open(record)
        if content is None or opener.highest <= self._newest_opened:
            return b""
        self._newest_opened = opener.highest
        return content

    def _take_early_finished(self) -> None:
        """Look again at the records that came before their keys."""
        early, self._early_finished = self._early_finished, []
        for record in early:
            self._protected_record_received(HANDSHAKE, record)

    def _check_finished(self, message: Message) -> None:
        """Raises: HandshakeFailed: it is not the Finished of a peer who saw the same messages."""
        if message.message_type != FINISHED:
            raise HandshakeFailed(f"message {message.message_type} where Finished was due")
        label = SERVER_FINISHED if self._is_client else CLIENT_FINISHED
        if not hmac.compare_digest(message.body, self._verify_data(label)):
            raise HandshakeFailed("the peer's Finished does not fit the handshake")
        self._sign(message)

    def _complete(self) -> None:
        assert self._protected_keys is not None
        self.keys = self._protected_keys
        self._transcript = b""  # nothing more is signed
