"""Who may come in at all: limits on connections, failed logins and DTLS hellos, by address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from anyvpn.gateway.settings import Limits
from anyvpn.model.credentials import folded_name

# Ours: remembered addresses, so that a flood of sources costs bounded memory
MOST_ADDRESSES = 20_000
READ_ADDRESSES = 1024
"""One login asks a dozen times."""


@dataclass(slots=True)
class _Failures:
    count: int
    since_s: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float


class Admission:
    """Counts by source: an IPv4 address, or the /64 network of an IPv6 address.

    User names count as one in all their spellings.
    """

    def __init__(self, limits: Limits, seconds: Callable[[], float]) -> None:
        self._limits = limits
        self._seconds = seconds
        self._connections: dict[str, int] = {}
        self._total = 0
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._user_failures: OrderedDict[str, _Failures] = OrderedDict()
        self._homes: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._hellos: OrderedDict[str, _Bucket] = OrderedDict()

    def connection_refusal(self, address: str) -> str:
        """Why a new connection is not taken; empty when it may come in and is counted."""
        source = source_of(address)
        if self._total >= self._limits.connections:
            return f"{self._total} connections are open, which is the limit"
        if self._connections.get(source, 0) >= self._limits.connections_per_address:
            return f"{self._connections[source]} connections are open from {source}"
        self._total += 1
        self._connections[source] = self._connections.get(source, 0) + 1
        return ""

    def connection_closed(self, address: str) -> None:
        """An admitted connection is gone."""
        source = source_of(address)
        self._total -= 1
        left = self._connections[source] - 1
        if left:
            self._connections[source] = left
        else:
            del self._connections[source]

    def login_failed(self, address: str, user: str = "") -> None:
        """One more failure of this source, and for this user name if one was given."""
        self._count(self._failures, source_of(address), self._limits.failures_before_ban)
        if user:
            name = folded_name(user)
            self._count(self._user_failures, name, self._limits.failures_per_user)

    def login_succeeded(self, address: str, user: str) -> None:
        """From this source the user gets in, whatever others try under the same name."""
        home = folded_name(user), source_of(address)
        self._homes[home] = None
        self._homes.move_to_end(home)
        _trim(self._homes)

    def is_banned(self, address: str) -> bool:
        """Whether this source has failed too often of late."""
        return self._is_over(self._failures, source_of(address), self._limits.failures_before_ban)

    def is_shut_out(self, user: str, address: str) -> bool:
        """Whether this user may not log in from there, not even with the right password."""
        if self.is_banned(address):
            return True
        name = folded_name(user)
        at_home = (name, source_of(address)) in self._homes
        return not at_home and self._is_over(
            self._user_failures, name, self._limits.failures_per_user
        )

    def _count(self, failures: OrderedDict[str, _Failures], key: str, most: int) -> None:
        now_s = self._seconds()
        known = failures.get(key)
        if known is None or now_s - known.since_s > self._limits.ban_time_s:
            known = failures[key] = _Failures(0, now_s)
            failures.move_to_end(key)
        known.count += 1
        if known.count == most:
            known.since_s = now_s
        _trim(failures)

    def _is_over(self, failures: OrderedDict[str, _Failures], key: str, most: int) -> bool:
        known = failures.get(key)
        if not most or known is None or known.count < most:
            return False
        return self._seconds() - known.since_s <= self._limits.ban_time_s

    def hello_allowed(self, address: str) -> bool:
        """Whether one more DTLS hello of this source is worth a handshake object."""
        rate = self._limits.hellos_per_address_per_s
        most = max(1.0, rate)  # or a rate below one would never come to a hello
        source = source_of(address)
        now_s = self._seconds()
        bucket = self._hellos.get(source)
        if bucket is None:
            bucket = self._hellos[source] = _Bucket(most, now_s)
            _trim(self._hellos)
        bucket.tokens = min(most, bucket.tokens + (now_s - bucket.filled_at_s) * rate)
        bucket.filled_at_s = now_s
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


@lru_cache(READ_ADDRESSES)
def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"
    return str(parsed)


def _trim(table: OrderedDict[Any, Any]) -> None:
    while len(table) > MOST_ADDRESSES:
        table.popitem(last=False)
