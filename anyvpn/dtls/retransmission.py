"""When a flight is due again, and when it is no use to wait any longer."""

from __future__ import annotations

from typing import Final

from anyvpn.errors import HandshakeFailed

# From the protocol (protocol reference, section 13.5)
CLIENT_FIRST_WAIT_S: Final = 1.0
CLIENT_LIMIT_S: Final = 31.0  # 1, 2, 4, 8 and 16 seconds: five tries

# Ours
SERVER_FIRST_WAIT_S: Final = 0.4  # ahead of the client's own second
SERVER_LIMIT_S: Final = 60.0


class Retransmission:
    """Doubling waits between repeats of one flight, under one time limit for the handshake."""

    def __init__(self, *, is_client: bool) -> None:
        self.next_at_s: float | None = None
        self._first_wait_s = CLIENT_FIRST_WAIT_S if is_client else SERVER_FIRST_WAIT_S
        self._limit_s = CLIENT_LIMIT_S if is_client else SERVER_LIMIT_S
        self._wait_s = self._first_wait_s
        self._ends_at_s: float | None = None

    def begin(self, now_s: float) -> None:
        """A new flight goes out; the first one also starts the time limit."""
        if self._ends_at_s is None:
            self._ends_at_s = now_s + self._limit_s
        self._wait_s = self._first_wait_s
        self.next_at_s = min(now_s + self._wait_s, self._ends_at_s)

    def stop(self) -> None:
        """Nothing more is awaited."""
        self.next_at_s = None

    def is_due(self, now_s: float) -> bool:
        """Whether the flight is to be repeated now; if so the next wait is twice as long.

        Raises: HandshakeFailed: the time limit has passed.
        """
        if self.next_at_s is None or self._ends_at_s is None or now_s < self.next_at_s:
            return False
        if now_s >= self._ends_at_s:
            self.stop()
            raise HandshakeFailed(f"the peer did not finish within {self._limit_s:g} seconds")
        self._wait_s *= 2
        self.next_at_s = min(now_s + self._wait_s, self._ends_at_s)
        return True
