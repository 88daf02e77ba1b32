"""What every listener must do; for a test case of twisted.trial to inherit."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from anyvpn.interfaces import IEventListener
from anyvpn.model.events import Counters, Event, EventKind

HOSTILE_TEXTS = ("", "\0", "a\nb", "{user}", "%s", "x" * 100_000, "\udcff", "\x1b[2J", "\u202e")


class ListenerContract:
    """Inherit it together with `twisted.trial.unittest.TestCase`, and say how to make yours."""

    def make_listener(self) -> IEventListener:
        """A listener that hears of everything."""
        raise NotImplementedError

    async def test_interface_is_provided(self) -> None:
        verifyObject(IEventListener, self.make_listener())

    async def test_every_kind_is_heard_without_an_error(self) -> None:
        listener = self.make_listener()
        for kind in EventKind:
            for counters in (None, Counters()):
                listener.event_happened(Event(kind, 1.0, counters=counters))

    async def test_hostile_texts_raise_nothing(self) -> None:
        listener = self.make_listener()
        for text in HOSTILE_TEXTS:
            for kind in (EventKind.LOGIN_FAILED, EventKind.SESSION_ENDED):
                event = Event(kind, 1.0, user=text, peer=text, profile=text, detail=text)
                listener.event_happened(event)

    async def test_ends_without_beginnings_raise_nothing(self) -> None:
        listener = self.make_listener()
        for at_s in (5.0, 1.0):
            for kind in (EventKind.TUNNEL_CLOSED, EventKind.SESSION_ENDED, EventKind.TUNNEL_OPENED):
                listener.event_happened(Event(kind, at_s, session_id=7, counters=Counters(1, 2)))
