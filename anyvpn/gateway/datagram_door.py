"""The UDP side of the control plane: hellos to their tunnels, handshakes to their end (phase 6).

A hello names a live tunnel by the session id, or the App-ID, that CONNECT told its client; from
then on the sender's address tells whose datagrams these are. What names no live tunnel gets no
answer and leaves nothing behind.

Source: protocol reference, section 12.4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.hello_cookies import HelloCookies
from anyvpn.dtls.records import hello_session_id
from anyvpn.errors import HandshakeFailed
from anyvpn.gateway.timers import Timer, Timers
from anyvpn.model.channels import PeerPath, RecordKeys, Suite

# From the protocol (RFC 6347, sections 4.1 and 4.2.2; RFC 5246, section 7.4.1.2)
_HELLO_RANDOM = slice(27, 59)

# Ours
BETWEEN_HANDSHAKES_S = 3.0
"""How long a handshake of a tunnel has the tunnel for itself before another hello counts."""

HELLO_TIME_S = 3.0
"""How long the rest of a hello is waited for; handshakes keep time from the whole hello on."""

_PathKey = tuple[int, tuple[str, int] | tuple[str, int, int, int]]


class DTLSOwner(Protocol):
    """The tunnel that a hello names."""

    def new_handshake(self) -> Handshake:
        """The gateway's side of one handshake."""

    def dtls_established(
        self, keys: RecordKeys, suite: Suite, path: PeerPath, early_records: tuple[bytes, ...]
    ) -> None:
        """A handshake is complete: its keys count from now on."""

    def dtls_closed(self, reason: str) -> None:
        """The peer has closed the established channel."""

    def dtls_failed(self, reason: str) -> None:
        """A handshake came to nothing; an established channel is what it was."""


class _Attempt:
    """One handshake, which goes on repeating its last flight when it is complete."""

    __slots__ = ("begun_at_s", "handshake", "hello_random", "is_complete", "path", "timer", "whose")

    def __init__(
        self, whose: _Expected, path: PeerPath, hello_random: bytes, begun_at_s: float
    ) -> None:
        self.whose = whose
        self.handshake = whose.owner.new_handshake()
        self.path = path
        self.hello_random = hello_random
        self.begun_at_s = begun_at_s
        self.is_complete = False
        self.timer: Timer | None = None


class _Expected:
    """What one identifier stands for."""

    __slots__ = ("established", "host", "owner", "pending")

    def __init__(self, owner: DTLSOwner, host: str) -> None:
        self.owner = owner
        self.host = host
        self.established: _Attempt | None = None
        self.pending: _Attempt | None = None

    @property
    def attempts(self) -> list[_Attempt]:
        """At most two: the channel's own, and one that may replace it."""
        return [each for each in (self.pending, self.established) if each is not None]


class DatagramDoor:
    """All handshakes on the UDP side.

    `send` takes a path and datagrams; `hello_allowed` tells by host whether one more hello is
    worth its cost. With `cookies` a client must show that it receives what is sent to it.
    """

    def __init__(
        self,
        timers: Timers,
        send: Callable[[PeerPath, list[bytes]], object],
        hello_allowed: Callable[[str], bool],
        cookies: HelloCookies | None = None,
    ) -> None:
        self._timers = timers
        self._send = send
        self._hello_allowed = hello_allowed
        self._cookies = cookies
        self._expected: dict[bytes, _Expected] = {}
        self._by_path: dict[_PathKey, list[_Attempt]] = {}

    def expect(self, identifier: bytes, owner: DTLSOwner, host: str = "") -> None:
        """Let hellos with this session id or App-ID in; what it stood for before is forgotten.

        `host` is where the client's CSTP channel comes from: no other keeps it waiting.
        """
        self.forget(identifier)
        self._expected[identifier] = _Expected(owner, host)

    def forget(self, identifier: bytes) -> None:
        """The tunnel is gone, and all its handshakes are; forgetting twice does no harm."""
        expected = self._expected.pop(identifier, None)
        if expected is not None:
            for attempt in expected.attempts:
                self._drop(attempt)

    def peer_moved(self, identifier: bytes, path: PeerPath) -> None:
        """The established channel's peer is heard from elsewhere now."""
        expected = self._expected.get(identifier)
        if expected is not None and expected.established is not None:
            self._leave_path(expected.established)
            expected.established.path = path
            self._by_path.setdefault(_key(path), []).append(expected.established)

    def datagram_received(self, path: PeerPath, datagram: bytes) -> None:
        """Take what no live channel could open."""
        identifier = hello_session_id(datagram)
        expected = None if identifier is None else self._expected.get(identifier)
        if expected is not None:
            self._hello_received(expected, path, datagram)
            return
        for attempt in tuple(self._by_path.get(_key(path), ())):
            if attempt in attempt.whose.attempts:  # or one before it has just replaced it
                self._give(attempt, path, datagram)

    def stop(self) -> None:
        """Forget everything."""
        for identifier in tuple(self._expected):
            self.forget(identifier)

    # --- handshakes -----------------------------------------------------------------------

    def _hello_received(self, expected: _Expected, path: PeerPath, datagram: bytes) -> None:
        hello_random = datagram[_HELLO_RANDOM]
        for attempt in expected.attempts:
            if attempt.hello_random == hello_random:
                if _key(attempt.path) == _key(path):  # or somebody repeats what he overheard
                    self._give(attempt, path, datagram)
                return
        host = path.host
        now_s = self._timers.seconds()
        for attempt in expected.attempts:
            is_foreign = attempt.path.host != host == expected.host
            if now_s - attempt.begun_at_s < BETWEEN_HANDSHAKES_S and not is_foreign:
                return
        if not self._hello_allowed(host) or not self._cookie_shown(path, datagram):
            return
        if expected.pending is not None:
            self._drop(expected.pending)
        attempt = expected.pending = _Attempt(expected, path, hello_random, now_s)
        self._by_path.setdefault(_key(path), []).append(attempt)
        self._give(attempt, path, datagram)

    def _cookie_shown(self, path: PeerPath, datagram: bytes) -> bool:
        """Whether the hello brings the cookie of its address, if it must; else it is sent one."""
        if self._cookies is None:
            return True
        try:
            challenge = self._cookies.challenge(datagram, repr(_key(path)).encode())
        except HandshakeFailed:
            return False
        if challenge is not None:
            self._send(path, challenge)
        return challenge is None

    def _give(self, attempt: _Attempt, path: PeerPath, datagram: bytes) -> None:
        handshake = attempt.handshake
        try:
            answers = handshake.receive(datagram, self._timers.seconds())
        except HandshakeFailed as error:
            self._failed(attempt, str(error))
            return
        if answers:
            self._send(path, answers)
        if attempt.is_complete:
            handshake.early_records.clear()  # the channel has its own keys by now
        elif handshake.keys is not None and handshake.suite is not None:
            self._completed(attempt, handshake.keys, handshake.suite)
            return
        self._set_timer(attempt)

    def _completed(self, attempt: _Attempt, keys: RecordKeys, suite: Suite) -> None:
        expected = attempt.whose
        if expected.established is not None:
            self._drop(expected.established)
        expected.established, expected.pending = attempt, None
        attempt.is_complete = True
        early_records = tuple(attempt.handshake.early_records)
        attempt.handshake.early_records.clear()
        self._set_timer(attempt)
        expected.owner.dtls_established(keys, suite, attempt.path, early_records)

    def _failed(self, attempt: _Attempt, reason: str) -> None:
        self._drop(attempt)
        if attempt.is_complete:
            attempt.whose.owner.dtls_closed(reason)
        else:
            attempt.whose.owner.dtls_failed(reason)

    # --- time and memory ------------------------------------------------------------------

    def _set_timer(self, attempt: _Attempt) -> None:
        _stop_timer(attempt)
        at_s = attempt.handshake.next_timeout_s()
        if at_s is None and not attempt.is_complete:
            at_s = attempt.begun_at_s + HELLO_TIME_S
        if at_s is not None:
            attempt.timer = self._timers.call_at(at_s, partial(self._timed_out, attempt))

    def _timed_out(self, attempt: _Attempt) -> None:
        attempt.timer = None
        if attempt.handshake.next_timeout_s() is None:
            self._failed(attempt, "the rest of the hello did not come")
            return
        try:
            datagrams = attempt.handshake.handle_timeout(self._timers.seconds())
        except HandshakeFailed as error:
            self._failed(attempt, str(error))
            return
        if datagrams:
            self._send(attempt.path, datagrams)
        self._set_timer(attempt)

    def _drop(self, attempt: _Attempt) -> None:
        _stop_timer(attempt)
        self._leave_path(attempt)
        expected = attempt.whose
        if expected.pending is attempt:
            expected.pending = None
        if expected.established is attempt:
            expected.established = None

    def _leave_path(self, attempt: _Attempt) -> None:
        key = _key(attempt.path)
        others = [each for each in self._by_path.get(key, ()) if each is not attempt]
        if others:
            self._by_path[key] = others
        else:
            self._by_path.pop(key, None)


def _stop_timer(attempt: _Attempt) -> None:
    timer, attempt.timer = attempt.timer, None
    if timer is not None:
        timer.cancel()


def _key(path: PeerPath) -> _PathKey:
    return path.socket_index, path.address
