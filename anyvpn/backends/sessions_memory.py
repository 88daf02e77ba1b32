"""Keeps sessions in memory: they end with the process."""

from __future__ import annotations

import attrs
from zope.interface import implementer

from anyvpn.interfaces import ISessionStore
from anyvpn.model.session import SessionRecord


@attrs.frozen
class Settings:
    """Nothing can be set."""


def build(settings: Settings, reactor: object) -> MemorySessions:  # noqa: ARG001 - needs neither
    """What the configuration `backend = "memory"` makes."""
    return MemorySessions()


@implementer(ISessionStore)
class MemorySessions:
    """A dictionary; saving again keeps a session's place in the order."""

    def __init__(self) -> None:
        self._records: dict[bytes, SessionRecord] = {}

    async def save(self, record: SessionRecord) -> None:
        """Insert or replace, by token digest."""
        self._records[record.token_digest] = record

    async def find(self, token_digest: bytes) -> SessionRecord | None:
        """The session with this digest, if there is one."""
        return self._records.get(token_digest)

    async def remove(self, token_digest: bytes) -> None:
        """Forget it, if it is there."""
        self._records.pop(token_digest, None)

    async def sessions(self) -> tuple[SessionRecord, ...]:
        """All of them, oldest first."""
        return tuple(self._records.values())

    async def close(self) -> None:
        """Nothing is held that could be flushed."""
