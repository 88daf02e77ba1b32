"""A client's end of a DTLS channel, over datagrams in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.records import ALERT, RecordOpener, RecordSealer
from anyvpn.model.channels import PeerPath

if TYPE_CHECKING:
    from tests.gateway.gateway_in_memory import GatewayCase


class DTLSPeer:
    """The client's end of a DTLS channel."""

    def __init__(self, case: GatewayCase, handshake: Handshake, path: PeerPath) -> None:
        self.path = path
        self.handshake = handshake
        self._case = case
        self._sealer: RecordSealer | None = None
        self._opener: RecordOpener | None = None

    def shake_hands(self) -> bool:
        """Go through the handshake; gives whether it came to keys."""
        now_s = self._case.clock.seconds()
        flight = self.handshake.start(now_s)
        while flight:
            for datagram in flight:
                self._case.datagrams.on_handshake(self.path, datagram)
            answers = self._case.datagrams.take_sent(self.path)
            flight = [each for one in answers for each in self.handshake.receive(one, now_s)]
        keys = self.handshake.keys
        if keys is not None:
            self._sealer, self._opener = RecordSealer(keys), RecordOpener(keys)
        return keys is not None

    def send(self, kind: int, *payloads: bytes) -> None:
        """Records of this kind."""
        assert self._sealer is not None
        self._case.datagrams.feed(self.path, self._sealer.seal_packets(kind, payloads))
        self._case.pump()

    def close(self) -> None:
        """Close the channel as DTLS does it: by an alert."""
        assert self._sealer is not None
        self._case.datagrams.on_handshake(self.path, self._sealer.seal(b"\x01\x00", ALERT))
        self._case.pump()

    def received(self) -> list[tuple[int, bytes]]:
        """Kind and payload of what came since the last call."""
        assert self._opener is not None
        payloads = self._opener.open_records(self._case.datagrams.take_sent(self.path))
        return [(each[0], each[1:]) for each in payloads]
