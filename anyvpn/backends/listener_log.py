"""Writes one log line for each event, in words that operators can search for."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields
from difflib import get_close_matches

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from anyvpn.interfaces import IEventListener
from anyvpn.model.events import Counters, Event, EventKind

log = Logger()

# Ours: starts that are remembered for durations, so that lost ends cost bounded memory
MOST_STARTS = 100_000
LONGEST_TEXT = 256

_BEGINNINGS = {
    EventKind.LOGIN_SUCCEEDED: EventKind.SESSION_ENDED,
    EventKind.TUNNEL_OPENED: EventKind.TUNNEL_CLOSED,
    EventKind.TUNNEL_RESUMED: EventKind.TUNNEL_CLOSED,
}
_ENDS = frozenset(_BEGINNINGS.values())
_COUNTERS = tuple(each.name for each in fields(Counters) if each.name != "data_at_s")
_KINDS = tuple(kind.value for kind in EventKind)


@attrs.frozen
class Settings:
    """Which events are not worth a line."""

    omit: tuple[str, ...] = attrs.field(
        default=(EventKind.SESSION_PROGRESS.value,),
        metadata={"help": 'Kinds of events that are not logged, such as "tls_failed".'},
    )

    def __attrs_post_init__(self) -> None:
        for kind in self.omit:
            if kind not in _KINDS:
                close = get_close_matches(kind, _KINDS, n=1)
                hint = f', did you mean "{close[0]}"?' if close else ""
                raise ValueError(
                    f'omit: there is no event "{kind}"{hint} There are {", ".join(_KINDS)}'
                )


def build(settings: Settings, reactor: object) -> LogListener:  # noqa: ARG001 - events bring times
    """What the configuration `backend = "log"` makes."""
    return LogListener(settings)


@implementer(IEventListener)
class LogListener:
    """One line for each event: its kind, then `word=value` for whatever is known.

    A value that is not a plain word is quoted and escaped as in JSON, so that nobody forges a
    line, or a field, by the name that they give.
    """

    def __init__(self, settings: Settings) -> None:
        self._omitted = frozenset(settings.omit)
        self._begun_at_s: OrderedDict[tuple[EventKind, int], float] = OrderedDict()

    def event_happened(self, event: Event) -> None:
        """Write its line."""
        duration_s = self._duration_s(event)
        if event.kind.value not in self._omitted:
            log.info("{line}", line=describe(event, duration_s), event_kind=event.kind.value)

    def _duration_s(self, event: Event) -> float | None:
        if event.kind in _BEGINNINGS and event.session_id:
            self._begun_at_s[_BEGINNINGS[event.kind], event.session_id] = event.at_s
            if len(self._begun_at_s) > MOST_STARTS:
                self._begun_at_s.popitem(last=False)
        if event.kind not in _ENDS:
            return None
        begun_at_s = self._begun_at_s.pop((event.kind, event.session_id), None)
        return None if begun_at_s is None else max(0.0, event.at_s - begun_at_s)


def describe(event: Event, duration_s: float | None) -> str:
    """The line of an event."""
    words: list[tuple[str, str]] = [
        ("user", event.user),
        ("peer", event.peer),
        ("session", str(event.session_id or "")),
        ("profile", event.profile),
        ("detail", event.detail),
    ]
    if duration_s is not None:
        words.append(("duration_s", f"{duration_s:.0f}"))
    if event.counters is not None:
        words += [(name, str(getattr(event.counters, name))) for name in _COUNTERS]
    return " ".join([event.kind.value, *(f"{key}={_value(text)}" for key, text in words if text)])


def _value(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT] + "…"
    if not text.isprintable():
        text = "".join(map(_escaped, text))
    elif set(text) & set(' ="\\'):
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    else:
        return text
    return f'"{text}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
