"""Where users' devices are kept, and how a code is used up there, once."""

from __future__ import annotations

from typing import Protocol

from anyvpn.backends.one_time_codes import CodeMaker, Guessing, Kind, judge
from anyvpn.errors import BackendFailed, LoginRejected

# Ours
MOST_TRIES = 16  # each means that another login of the same user was quicker


class CodeStore(Protocol):
    """Keeps devices; each method may raise BackendFailed."""

    async def devices(self) -> tuple[CodeMaker, ...]:
        """All of them, by user and kind."""

    async def prepare(self) -> None:
        """Find out that devices can be kept here, before somebody relies on it."""

    async def find(self, user: str, kind: Kind) -> CodeMaker | None:
        """A user's device, if it has one."""

    async def put(self, maker: CodeMaker) -> None:
        """Give a user this device, in the place of the one before."""

    async def exchange(self, before: CodeMaker, after: CodeMaker) -> bool:
        """Let a device be `after` if it still is `before`, in one step; gives whether it was."""

    async def remove(self, user: str, kind: Kind) -> bool:
        """Forget a user's device; gives whether there was one."""

    def close(self) -> None:
        """Let go of everything; what is asked for later fails."""


async def use_up(
    store: CodeStore,
    user: str,
    kind: Kind,
    codes: tuple[str, ...],
    guessing: Guessing,
    *,
    window: int,
    now_s: float,
) -> None:
    """Let codes that follow one another pass, once, whichever gateway on this store sees them.

    Raises: LoginRejected: wrong, used, too many wrong ones before, or no such device.
    Raises: BackendFailed.
    """
    for _ in range(MOST_TRIES):
        maker = await store.find(user, kind)
        if maker is None:
            raise LoginRejected(f"{user} has no {kind.upper()} device")
        after, problem = judge(maker, codes, guessing, window=window, now_s=now_s)
        if after == maker or await store.exchange(maker, after):
            if problem:
                raise LoginRejected(problem)
            return
    raise BackendFailed(f"the {kind.upper()} device of {user} changes all the time")
