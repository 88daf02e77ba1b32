"""Which DTLS channel the datagrams of an address belong to, and which has moved to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from anyvpn.model.channels import PeerPath
from anyvpn.packets.channels import LiveDTLSChannel

# Ours
TRIALS_PER_HOST_PER_S = 2048
TRIALS_PER_S = 16_384
"""How many records from unknown addresses are tried in a second at channels, for one host and for
all: a trial costs a few microseconds. One stranger cannot use up what a client needs that moves."""
MOST_HOSTS = 4096

_Key = tuple[int, tuple[str, int] | tuple[str, int, int, int]]


class _Trials:
    """What is left of a second's trials."""

    __slots__ = ("_by_host", "_left", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._left = TRIALS_PER_S
        self._by_host: dict[str, int] = {}

    def of(self, host: str, now_s: float) -> int:
        """How many a record from this host may take."""
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._left = TRIALS_PER_S
            self._by_host.clear()
        if len(self._by_host) >= MOST_HOSTS and host not in self._by_host:
            return 0
        return min(self._left, self._by_host.setdefault(host, TRIALS_PER_HOST_PER_S))

    def used(self, host: str, count: int) -> None:
        """So many were taken."""
        self._left -= count
        self._by_host[host] -= count


class Peers:
    """All DTLS channels by the path to their peer."""

    def __init__(self) -> None:
        self._by_path: dict[_Key, LiveDTLSChannel] = {}
        self._by_host: dict[str, deque[LiveDTLSChannel]] = {}
        self._in_turn: deque[LiveDTLSChannel] = deque()
        self._trials = _Trials()

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
        host = path.address[0]
        most = self._trials.of(host, now_s)
        tried = 0
        claim = None
        for channel in islice(self._candidates(host), most):
            tried += 1
            if channel.holds_whole_record(record):
                payload = channel.opener.open(record)
                if payload is not None:
                    claim = channel, payload
                    break
        if tried:
            self._trials.used(host, tried)
        return claim

    def move(self, channel: LiveDTLSChannel, path: PeerPath, record: bytes) -> bool:
        """Send to that path from now on, if no record that was opened is newer than this one.

        So a record that somebody held back moves nothing (RFC 9146, section 6).
        """
        if int.from_bytes(record[5:11], "big") < channel.opener.highest:
            return False
        self._leave_path(channel)
        channel.path = path
        self._by_path[_key(path)] = channel
        self._by_host.setdefault(path.address[0], deque()).append(channel)
        return True

    def _candidates(self, host: str) -> Iterator[LiveDTLSChannel]:
        same_host = self._by_host.get(host) or deque()
        for _ in range(len(same_host)):
            yield _next_of(same_host)
        for _ in range(len(self._in_turn) - len(same_host)):
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
