"""Which DTLS channel the datagrams of an address belong to, and which has moved to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from anyvpn.model.channels import PeerPath
from anyvpn.packets.channels import LiveDTLSChannel

# Ours
TRIALS_PER_S = 128
"""How many records from unknown addresses are tried in a second, at channels of the same host
and, counted apart, at all others: 256 trials cost less than a millisecond, and strangers cannot
use up what clients behind a NAT need."""

_Key = tuple[int, tuple[str, int] | tuple[str, int, int, int]]


class _Budget:
    """So many of something in each second."""

    __slots__ = ("_left", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._left = TRIALS_PER_S

    def take(self, now_s: float) -> bool:
        """Use one of them up, if there is one."""
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._left = TRIALS_PER_S
        self._left -= 1
        return self._left >= 0


class Peers:
    """All DTLS channels by the path to their peer."""

    def __init__(self) -> None:
        self._by_path: dict[_Key, LiveDTLSChannel] = {}
        self._by_host: dict[str, deque[LiveDTLSChannel]] = {}
        self._in_turn: deque[LiveDTLSChannel] = deque()
        self._same_host_budget = _Budget()
        self._others_budget = _Budget()

    def add(self, channel: LiveDTLSChannel) -> None:
        """Take a channel in; it has its path from now on, whoever had it before."""
        self._by_path[_key(channel.path)] = channel
        self._by_host.setdefault(channel.path.address[0], deque()).append(channel)
        self._in_turn.append(channel)

    def remove(self, channel: LiveDTLSChannel) -> None:
        """Forget a channel."""
        self._leave_path(channel)
        self._in_turn.remove(channel)

    def find(self, path: PeerPath) -> LiveDTLSChannel | None:
        """The channel of an address, as far as known."""
        return self._by_path.get((path.socket_index, path.address))

    def claim(
        self, path: PeerPath, record: bytes, now_s: float
    ) -> tuple[LiveDTLSChannel, bytes] | None:
        """The channel whose key opens a record from an unknown address, and what it holds.

        Channels of the same host are tried first, then some others, each time the next ones.
        """
        for channel in self._candidates(path.address[0], now_s):
            if channel.holds_whole_record(record):
                payload = channel.opener.open(record)
                if payload is not None:
                    return channel, payload
        return None

    def move(self, channel: LiveDTLSChannel, path: PeerPath, record: bytes) -> bool:
        """Send to that path from now on, unless the record is older than the last move."""
        sequence = int.from_bytes(record[5:11], "big")
        if sequence <= channel.moved_by:
            return False
        self._leave_path(channel)
        channel.moved_by = sequence
        channel.path = path
        self._by_path[_key(path)] = channel
        self._by_host.setdefault(path.address[0], deque()).append(channel)
        return True

    def _candidates(self, host: str, now_s: float) -> Iterator[LiveDTLSChannel]:
        same_host = self._by_host.get(host) or deque()
        for _ in range(len(same_host)):
            if not self._same_host_budget.take(now_s):
                break
            yield _next_of(same_host)
        for _ in range(len(self._in_turn) - len(same_host)):
            if not self._others_budget.take(now_s):
                return
            channel = _next_of(self._in_turn)
            while channel.path.address[0] == host:  # there are others, or we were not here
                channel = _next_of(self._in_turn)
            yield channel

    def _leave_path(self, channel: LiveDTLSChannel) -> None:
        key = _key(channel.path)
        if self._by_path.get(key) is channel:
            del self._by_path[key]
        same_host = self._by_host[channel.path.address[0]]
        same_host.remove(channel)
        if not same_host:
            del self._by_host[channel.path.address[0]]


def _next_of(channels: deque[LiveDTLSChannel]) -> LiveDTLSChannel:
    """The first of them, which is the last from now on."""
    channels.rotate(-1)
    return channels[-1]


def _key(path: PeerPath) -> _Key:
    return path.socket_index, path.address
