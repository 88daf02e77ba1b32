"""Writes each event as one line of JSON to a file, which may be rotated at any time."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import attrs
from twisted.internet.interfaces import IReactorCore
from zope.interface import implementer

from anyvpn.backends.accounting import Writer, utc
from anyvpn.errors import ConfigurationError
from anyvpn.interfaces import IEventListener
from anyvpn.model.events import Event, EventKind

# Ours
LONGEST_TEXT_CHARACTERS = 1024
_KINDS = tuple(each.value for each in EventKind)
_COUNTED = ("received_bytes", "sent_bytes", "received_packets", "sent_packets")


@attrs.frozen
class Settings:
    """Which file, and what is worth a line in it."""

    file: Path = attrs.field(
        metadata={
            "help": "The file, to which lines are added; it may be moved away at any time.",
            "example": "/var/log/anyvpn/events.jsonl",
        }
    )
    only: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"help": "Kinds of events that are written; none: all of them."},
    )

    def __attrs_post_init__(self) -> None:
        for kind in self.only:
            if kind not in _KINDS:
                raise ValueError(f'only: there is no event "{kind}"; there are {", ".join(_KINDS)}')


def build(settings: Settings, reactor: IReactorCore) -> JSONLines:
    """What the configuration `backend = "json_lines"` makes. Raises: ConfigurationError."""
    if not settings.file.parent.is_dir():
        raise ConfigurationError(f"file: the directory {settings.file.parent} does not exist")
    return JSONLines(settings, reactor)


@implementer(IEventListener)
class JSONLines:
    """Lines are written in a thread, each at once and whole."""

    def __init__(self, settings: Settings, reactor: IReactorCore) -> None:
        self._path = settings.file
        self._only = frozenset(settings.only or _KINDS)
        self._file: IO[bytes] | None = None
        self._writer = Writer(str(settings.file), reactor, ends=self._close)

    def event_happened(self, event: Event) -> None:
        """Write its line soon."""
        if event.kind.value in self._only:
            self._writer.put(self._write, line_of(event))

    def close(self) -> None:
        """Write what waits, and end."""
        self._writer.close()

    def _write(self, line: bytes) -> None:
        file = self._open()
        file.write(line)
        file.flush()

    def _open(self) -> IO[bytes]:
        """The file of that name, which is another one after it was moved away."""
        if self._file is not None and not _is_at(self._file, self._path):
            self._close()
        if self._file is None:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            self._file = os.fdopen(descriptor, "ab")
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a disk that is full; what did not fit is lost by now
                file.close()


def line_of(event: Event) -> bytes:
    """One line of JSON, with whatever is known."""
    found: dict[str, Any] = {"time": utc(event.at_s), "event": event.kind.value}
    for name in ("user", "peer", "profile", "detail"):
        text = getattr(event, name)
        if text:
            found[name] = text[:LONGEST_TEXT_CHARACTERS]
    if event.session_id:
        found["session"] = event.session_id
    if event.reason is not None:
        found["reason"] = event.reason.name.lower()
    if event.counters is not None:
        found |= {name: getattr(event.counters, name) for name in _COUNTED}
    record = event.session
    if record is not None:
        found["accounting_id"] = record.accounting_id
        found["logged_in"] = utc(record.granted_at_s)
        found["groups"] = sorted(record.identity.groups)
        found["policy"] = record.policy.name
        found["hostname"] = record.hostname
        found["user_agent"] = record.user_agent
        if record.lease is not None:
            found["addresses"] = [str(each) for each in record.lease.addresses]
        if record.started_at_s:
            found["started"] = utc(record.started_at_s)
            found["duration_s"] = round(max(0.0, event.at_s - record.started_at_s), 3)
    return json.dumps(found, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    here = os.fstat(file.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
