"""When a lost tunnel is tried to be got back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

# Ours
DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""The first try comes at once; the last delay is repeated."""


def retry_delays() -> Iterator[float]:
    """How long to wait before each try, without end."""
    yield from DELAYS_S
    yield from repeat(DELAYS_S[-1])
