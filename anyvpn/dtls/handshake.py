"""What every handshake looks like to those who carry its datagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from anyvpn.model.channels import RecordKeys, Suite


class Handshake(Protocol):
    """One DTLS handshake, of either side: datagrams and times in, datagrams and keys out.

    `keys` come when it is complete. The object stays of use then: it repeats its last flight
    when the peer's last flight comes again, so handshake records go on being given to it.
    `early_records` are the whole application records, a bounded number, of the datagrams that
    `receive` was given: who has the keys opens them and clears the list.
    """

    keys: RecordKeys | None
    suite: Suite | None
    early_records: list[bytes]

    def start(self, now_s: float) -> list[bytes]:
        """The datagrams of a client's first flight; a server has none."""

    def receive(self, datagram: bytes, now_s: float) -> list[bytes]:
        """Take one datagram; gives those that answer it.

        Garbage, records of another epoch and what was seen before are ignored.

        Raises: HandshakeFailed: the handshake cannot go on, or the peer closed the channel.
        """

    def next_timeout_s(self) -> float | None:
        """The moment for `handle_timeout`, or None when nothing is awaited."""

    def handle_timeout(self, now_s: float) -> list[bytes]:
        """The datagrams to repeat, if it is time.

        Raises: HandshakeFailed: the peer took too long.
        """
