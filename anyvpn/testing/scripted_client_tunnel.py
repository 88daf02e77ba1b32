"""The tunnel of a scripted client: frames over TLS, and datagrams beside them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.records import ALERT, RecordOpener, RecordSealer
from anyvpn.dtls.resumption import ClientResumption
from anyvpn.dtls.suites import OFFERS
from anyvpn.errors import HandshakeFailed, PeerError
from anyvpn.model.tunnel_settings import DTLSGrant, TunnelSettings
from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_answers import Ending
from anyvpn.testing.scripted_line import LIMIT_S, PIECE_BYTES, NewSocket, ScriptedLine
from anyvpn.wire.cstp import FrameReader
from anyvpn.wire.tunnel_settings import read_settings

# Ours
LARGEST_DATAGRAM_BYTES = 65536
LOOK_AGAIN_AFTER_S = 0.2
_CLOSE_NOTIFY = b"\x01\x00"


class ClientTunnel:
    """The connection after CONNECT; `headers` are those of the answer."""

    def __init__(
        self,
        line: ScriptedLine,
        headers: tuple[tuple[str, str], ...],
        received: bytes,
        dtls_secret: bytes,
    ) -> None:
        self.headers = headers
        self._line = line
        self._dtls_secret = dtls_secret
        self._reader = FrameReader()
        self._received = received
        self._frames: list[tuple[int, bytes]] = []

    def header(self, name: str) -> str:
        """The first header of that name, whatever its case; empty when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def settings(self) -> TunnelSettings:
        """What the headers say. Raises: UnmetExpectation: nothing that a client could use."""
        pairs = [(name.encode(), value.encode()) for name, value in self.headers]
        try:
            return read_settings(pairs)
        except PeerError as error:
            raise UnmetExpectation(f"the tunnel cannot be used: {error}") from None

    def send(self, data: bytes, *, piece_bytes: int = PIECE_BYTES, pause_s: float = 0.0) -> None:
        """Any bytes, frames or not; a gateway may want each in a record, which a call makes."""
        self._line.send(data, piece_bytes=piece_bytes, pause_s=pause_s)

    def send_below(self, data: bytes) -> None:
        """Any bytes past TLS."""
        self._line.send_below(data)

    def frame(self, *, limit_s: float = LIMIT_S) -> tuple[int, bytes]:
        """The next CSTP packet as kind and payload.

        Raises: UnmetExpectation: none comes, or what comes is none.
        """
        ends_at_s = time.monotonic() + limit_s
        while not self._frames:
            data, self._received = self._received, b""
            data = data or self._line.receive(limit_s=max(0.01, ends_at_s - time.monotonic()))
            if not data:
                raise UnmetExpectation(f"no CSTP packet: {self._line.wait_closed().value}")
            try:
                self._frames += self._reader.receive(data)
            except PeerError as error:
                raise UnmetExpectation(f"no CSTP packet: {error}") from None
        return self._frames.pop(0)

    def frame_of(self, kind: int, *, limit_s: float = LIMIT_S) -> bytes:
        """The payload of the next packet of this kind; others are passed over.

        Raises: UnmetExpectation: none comes.
        """
        return _first_of(kind, lambda left_s: self.frame(limit_s=left_s), limit_s)

    def datagrams(self) -> ClientDatagrams:
        """A socket to the gateway's port for DTLS. Raises: UnmetExpectation: there is none."""
        grant = self.settings.dtls
        if grant is None:
            raise UnmetExpectation("the gateway grants no DTLS channel")
        line = self._line
        return ClientDatagrams(line.address, grant, self._dtls_secret, line.new_socket)

    def wait_closed(self, *, limit_s: float | None = None) -> Ending:
        """Wait until the gateway ends it; gives how. Raises: UnmetExpectation: it does not."""
        return self._line.wait_closed(limit_s=limit_s)

    def close(self) -> None:
        """End it as TLS has it."""
        self._line.close()

    def cut(self) -> None:
        """End it without a word in TLS."""
        self._line.cut()

    def reset(self) -> None:
        """End it with a reset."""
        self._line.reset()


class ClientDatagrams:
    """What goes over UDP: a DTLS channel after `shake_hands`, any bytes before and after it."""

    def __init__(
        self, address: str, grant: DTLSGrant, dtls_secret: bytes, new_socket: NewSocket
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = new_socket(family, socket.SOCK_DGRAM)
        """The socket itself, connected to the gateway."""
        self.udp.connect((address, grant.port))
        self._grant = grant
        self._secret = dtls_secret
        self._sealer: RecordSealer | None = None
        self._opener: RecordOpener | None = None

    def send_raw(self, *datagrams: bytes) -> None:
        """Any bytes, whether DTLS or not."""
        for each in datagrams:
            self.udp.send(each)

    def receive_raw(self, *, limit_s: float = LIMIT_S) -> bytes:
        """The next datagram as it came. Raises: UnmetExpectation: none comes."""
        self.udp.settimeout(limit_s)
        try:
            return self.udp.recv(LARGEST_DATAGRAM_BYTES)
        except TimeoutError:
            raise UnmetExpectation(f"no datagram within {limit_s:g} s") from None
        except ConnectionError as error:
            raise UnmetExpectation(f"no datagram: {error.strerror}") from None

    def expect_silence(self, *, limit_s: float = 1.0) -> None:
        """Nothing comes for so long. Raises: UnmetExpectation: something does."""
        self.udp.settimeout(limit_s)
        try:
            came = self.udp.recv(LARGEST_DATAGRAM_BYTES)
        except (TimeoutError, ConnectionError):
            return
        raise UnmetExpectation(f"silence was expected; {len(came)} bytes came: {came[:16].hex()}")

    def shake_hands(self, *, limit_s: float = LIMIT_S) -> None:
        """Resume what CONNECT has settled. Raises: UnmetExpectation: it comes to no channel."""
        offers = OFFERS[self._grant.header]
        if self._grant.suite not in offers:
            raise UnmetExpectation(f"there is no resumption of {self._grant.suite}")
        version, suite = offers[self._grant.suite]
        handshake: Handshake = ClientResumption(
            version=version,
            suite=suite,
            session_id=self._grant.session_id,
            master_secret=self._secret,
            random=os.urandom,
        )
        ends_at_s = time.monotonic() + limit_s
        self.send_raw(*handshake.start(time.monotonic()))
        while handshake.keys is None:
            if time.monotonic() > ends_at_s:
                raise UnmetExpectation(f"no DTLS channel within {limit_s:g} s")
            self.udp.settimeout(LOOK_AGAIN_AFTER_S)
            try:
                answers = handshake.receive(self.udp.recv(LARGEST_DATAGRAM_BYTES), time.monotonic())
                self.send_raw(*answers)
            except TimeoutError:
                self.send_raw(*handshake.handle_timeout(time.monotonic()))
            except (HandshakeFailed, ConnectionError) as error:
                raise UnmetExpectation(f"no DTLS channel: {error}") from None
        self._sealer, self._opener = RecordSealer(handshake.keys), RecordOpener(handshake.keys)

    def seal(self, kind: int, payload: bytes) -> bytes:
        """The record of a packet, for `send_raw`: to be changed, kept back, or sent twice."""
        assert self._sealer is not None, "shake hands first"
        return self._sealer.seal_packets(kind, (payload,))[0]

    def send(self, kind: int, payload: bytes) -> None:
        """A packet on the DTLS channel."""
        self.send_raw(self.seal(kind, payload))

    def receive(self, *, limit_s: float = LIMIT_S) -> tuple[int, bytes]:
        """The next packet of the channel as kind and payload. Raises: UnmetExpectation."""
        assert self._opener is not None, "shake hands first"
        ends_at_s = time.monotonic() + limit_s
        while True:
            datagram = self.receive_raw(limit_s=max(0.01, ends_at_s - time.monotonic()))
            opened = self._opener.open(datagram)
            if opened:
                return opened[0], opened[1:]

    def receive_of(self, kind: int, *, limit_s: float = LIMIT_S) -> bytes:
        """The payload of the next packet of this kind; others are passed over.

        Such as what a gateway's kernel says of its own accord when a device comes up.
        Raises: UnmetExpectation: none comes.
        """
        return _first_of(kind, lambda left_s: self.receive(limit_s=left_s), limit_s)

    def close(self) -> None:
        """End the channel as DTLS has it, if there is one, and the socket."""
        if self._sealer is not None:
            self.send_raw(self._sealer.seal(_CLOSE_NOTIFY, ALERT))
        self.udp.close()


def _first_of(kind: int, receive: Callable[[float], tuple[int, bytes]], limit_s: float) -> bytes:
    ends_at_s = time.monotonic() + limit_s
    while (left_s := ends_at_s - time.monotonic()) > 0:
        found, payload = receive(left_s)
        if found == kind:
            return payload
    raise UnmetExpectation(f"no packet of kind {kind} within {limit_s:g} s")
