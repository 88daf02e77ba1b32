"""What a packet engine sends through and receives from, in memory: a CSTP stream, UDP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from anyvpn.interfaces import ICSTPStream
from anyvpn.model.channels import PeerPath


@implementer(ICSTPStream)
class MemoryCSTPStream:
    """Takes `capacity` frames into `frames`, then is congested until `take_more`."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.encoding = ""
        self.frames: list[bytes] = []
        self.aborted = ""
        self._capacity = capacity
        self._received: Callable[[bytes], None] | None = None
        self._writable: Callable[[], None] | None = None

    def take_over(self, received: Callable[[bytes], None], writable: Callable[[], None]) -> None:
        """Who gets what `feed` brings."""
        self._received = received
        self._writable = writable

    def write_frames(self, frames: Sequence[bytes]) -> int:
        """Keep frames, as many as there is room for."""
        taken = list(frames[: self._capacity])
        self._capacity -= len(taken)
        self.frames += taken
        return len(taken)

    def write_last(self, frame: bytes) -> None:
        """Keep a frame for which there is always room."""
        self.frames.append(frame)

    def abort(self, reason: str) -> None:
        """Remember why; nothing comes or goes any more."""
        self.aborted = reason
        self._capacity = 0

    def feed(self, data: bytes) -> None:
        """Let the client send."""
        if not self.aborted and self._received is not None:
            self._received(data)

    def take_more(self, capacity: int) -> None:
        """Let the congestion end."""
        self._capacity = capacity
        if self._writable is not None:
            self._writable()


class MemoryDatagrams:
    """UDP without a network: `sent` holds what went to each peer, `on_handshake` as the real one.

    `capacity` is how many datagrams a send takes at most.
    """

    def __init__(self) -> None:
        self.sent: dict[PeerPath, list[bytes]] = {}
        self.capacity = 1_000_000
        self.handshakes: list[tuple[PeerPath, bytes]] = []
        self.on_handshake: Callable[[PeerPath, bytes], None] = self._keep_handshake
        self._received: Callable[[PeerPath, list[bytes]], None] | None = None

    def start(self, received: Callable[[PeerPath, list[bytes]], None]) -> None:
        """Who gets what `feed` brings."""
        self._received = received

    def send(self, path: PeerPath, datagrams: Sequence[bytes]) -> int:
        """Keep datagrams; gives the number that was dropped."""
        self.sent.setdefault(path, []).extend(datagrams[: self.capacity])
        return max(0, len(datagrams) - self.capacity)

    def feed(self, path: PeerPath, datagrams: Sequence[bytes]) -> None:
        """Let a peer send."""
        if self._received is not None:
            self._received(path, list(datagrams))

    def take_sent(self, path: PeerPath) -> list[bytes]:
        """What went to that peer since the last call."""
        return self.sent.pop(path, [])

    def _keep_handshake(self, path: PeerPath, datagram: bytes) -> None:
        self.handshakes.append((path, datagram))
