"""A fair queue: of what waits for many, each gets as many bytes as the others.

Deficit round robin, and when the queue is full only those who have less than an even share of it
may add to it: what one asks for too much costs nobody else.

Source: RFC 8290, section 4.2; M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit
Round Robin", 1995.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Owner = TypeVar("Owner", bound=Hashable)

# Ours
QUANTUM_BYTES = 16 << 10
"""What one may send in its turn: about what TCP sends to begin with (RFC 6928)."""


class FairQueue(Generic[Owner]):
    """Frames, each with an owner; those of one owner stay in order."""

    def __init__(self, most_bytes: int) -> None:
        self.size_bytes = 0
        self._most_bytes = most_bytes
        self._waiting: dict[Owner, _Waiting[Owner]] = {}
        self._turns: deque[_Waiting[Owner]] = deque()

    def add(self, owner: Owner, frame: bytes) -> bool:
        """Let a frame wait; gives whether there was room."""
        waiting = self._waiting.get(owner)
        if waiting is None:
            waiting = self._waiting[owner] = _Waiting(owner)
            self._turns.append(waiting)
        elif (
            self.size_bytes >= self._most_bytes
            and waiting.size_bytes * len(self._turns) >= self._most_bytes
        ):
            return False
        waiting.frames.append(frame)
        waiting.size_bytes += len(frame)
        self.size_bytes += len(frame)
        return True

    def take(self, most_frames: int, most_bytes: int) -> list[bytes]:
        """The next ones: no more than that, but for the last one's bytes."""
        taken: list[bytes] = []
        end_bytes = self.size_bytes - most_bytes
        turns = self._turns
        while self.size_bytes > max(0, end_bytes) and len(taken) < most_frames:
            waiting = turns[0]
            if waiting.credit_bytes <= 0:
                waiting.credit_bytes += QUANTUM_BYTES
                turns.rotate(-1)
            elif waiting.frames:
                frame = waiting.frames.popleft()
                size = len(frame)
                waiting.credit_bytes -= size
                waiting.size_bytes -= size
                self.size_bytes -= size
                taken.append(frame)
            else:
                # Not before: else whoever sends long frames, one at a time, would owe nothing
                turns.popleft()
                del self._waiting[waiting.owner]
        if not self.size_bytes:
            self.clear()
        return taken

    def clear(self) -> None:
        """Forget all that waits."""
        self.size_bytes = 0
        self._waiting.clear()
        self._turns.clear()


class _Waiting(Generic[Owner]):
    """What waits for one, and how much of it may go now."""

    __slots__ = ("credit_bytes", "frames", "owner", "size_bytes")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.frames: deque[bytes] = deque()
        self.size_bytes = 0
        self.credit_bytes = QUANTUM_BYTES
