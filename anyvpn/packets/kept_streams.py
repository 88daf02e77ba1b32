"""CSTP channels whose TLS records the compiled core seals and opens: what Python still does."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.interfaces import ICSTPStream, IHandedOverStream, IRecordKeeper
from anyvpn.model.channels import ReturnedConnection, TLSKeys, TLSRecords
from anyvpn.packets._compiled import HANDSHAKE, OLD_KEYS, Core
from anyvpn.packets.channels import LiveCSTPChannel
from anyvpn.packets.tls_keys import (
    asks_for_update,
    key_update,
    next_read_keys,
    next_write_keys,
)

log = Logger()

# From the protocol (RFC 8446, sections 4 and 6)
_MESSAGE_HEADER_BYTES = 4
_NEW_SESSION_TICKET = 4
_CLOSE_NOTIFY, _UNEXPECTED_MESSAGE = 0, 10


class KeptStreams:
    """All of them, by the number of their tunnel in the core."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._kept: dict[int, KeptStream] = {}

    def take(
        self,
        serial: int,
        stream: ICSTPStream,
        channel: LiveCSTPChannel,
        is_wanted: Callable[[], bool],
    ) -> None:
        """Let the core have the stream's records, as soon as they can be had.

        `is_wanted` is asked then: the tunnel may have another stream by that time.
        """
        if not stream.encoding and IHandedOverStream.providedBy(stream):
            kept = self._kept[serial] = KeptStream(self._core, serial, stream, channel, is_wanted)
            stream.hand_over(kept)

    def has(self, serial: int) -> bool:
        """Whether the core has this tunnel's stream."""
        kept = self._kept.get(serial)
        return kept is not None and kept.is_kept

    def number_of(self, serial: int) -> int:
        """What events about the tunnel's stream have; 0 when the core has none of its."""
        kept = self._kept.get(serial)
        return kept.number if kept is not None and kept.is_kept else 0

    def let_go(self, serial: int) -> None:
        """The tunnel has its stream no more."""
        kept = self._kept.pop(serial, None)
        if kept is not None:
            kept.let_go()

    def told(self, serial: int, number: int, kind: int, text: bytes) -> bool:
        """The core tells something of the tunnel's stream of that number; gives whether it is lost.

        The tunnel may have another stream by now, to which that is nothing.
        """
        kept = self._kept.get(serial)
        if kept is None or not kept.is_kept or kept.number != number:
            return False
        if kind == HANDSHAKE:
            kept.handshake_received(text)
        elif kind == OLD_KEYS:
            kept.renew_keys()
        else:
            kept.lost(text.decode("ascii", "replace"))
        return not kept.is_kept


@implementer(IRecordKeeper)
class KeptStream:
    """The keeper of one stream's records, from `hand_over` until it is given back."""

    def __init__(
        self,
        core: Core,
        serial: int,
        stream: IHandedOverStream,
        channel: LiveCSTPChannel,
        is_wanted: Callable[[], bool],
    ) -> None:
        self.is_kept = False
        self.number = 0
        self._core = core
        self._serial = serial
        self._stream = stream
        self._channel = channel
        self._is_wanted = is_wanted
        self._keys: TLSKeys

    def keep(self, records: TLSRecords) -> None:
        """Let the core read and write the connection from now on."""
        returned = ReturnedConnection(records.descriptor)
        if not self._is_wanted():
            self._stream.take_back(returned)
            return
        self._keys = records.keys
        try:
            self.number = self._core.set_tls(
                self._serial,
                records.descriptor,
                records.keys.is_tls13,
                records.keys.cipher.number,
                records.write_sequence,
                records.read_sequence,
                records.keys.write,
                records.keys.read,
                self._channel.reader.unfinished,
                records.unread,
            )
        except Exception:
            # Whatever it is: nobody else would close the connection
            log.failure("The packet engine cannot have a connection")
            self._stream.take_back(returned)
            self._stream.end("the packet engine cannot have it")
        else:
            self.is_kept = True

    def give_back(self) -> ReturnedConnection:
        """What has to go out yet, TLS's goodbye at the end."""
        return self._taken(_CLOSE_NOTIFY)

    def lost(self, reason: str, alert: int = _CLOSE_NOTIFY) -> None:
        """The connection is over; what the core has found itself has an alert of its own."""
        if self.is_kept:
            self._stream.take_back(self._taken(alert))
            self._stream.end(reason)

    def let_go(self) -> None:
        """The tunnel has it no more; what was sent before goes out yet."""
        if self.is_kept:
            self._stream.take_back(self.give_back())

    def _taken(self, alert: int) -> ReturnedConnection:
        returned = ReturnedConnection(*self._core.take_tls(self._serial, alert))
        self.is_kept = False
        return returned

    def renew_keys(self) -> None:
        """Enough was sealed under our keys."""
        if self.is_kept and self._keys.is_tls13:
            self._keys = next_write_keys(self._keys)
            self._core.set_tls_keys(self._serial, self._keys.write, None, key_update())

    def handshake_received(self, data: bytes) -> None:
        """Messages of the handshake's kind, after it: the peer's keys change, or tickets come."""
        read = write = None
        at = 0
        while at < len(data):
            size = _MESSAGE_HEADER_BYTES + int.from_bytes(data[at + 1 : at + 4], "big")
            message = data[at : at + size]
            at += size
            wants_ours = asks_for_update(message)
            if wants_ours is not None and at == len(data):
                self._keys = next_read_keys(self._keys)
                read = self._keys.read
                if wants_ours:
                    self._keys = next_write_keys(self._keys)
                    write = self._keys.write
            elif message[0] != _NEW_SESSION_TICKET or len(message) < size:
                self.lost("TLS failed: unexpected message", _UNEXPECTED_MESSAGE)
                return
        self._core.set_tls_keys(self._serial, write, read, key_update() if write else b"")
