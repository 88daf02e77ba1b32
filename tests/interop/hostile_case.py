"""Our client in this process, and a scripted gateway on loopback; after it, nothing is left."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from anyvpn.backends import responder_given
from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import TrustSettings
from anyvpn.client.vpn_client import VPNClient
from anyvpn.errors import AnyvpnError
from anyvpn.model.client_events import ClientEvent
from anyvpn.testing.memory_tun import MemoryAdapterBackend
from anyvpn.testing.scripted_answers import form
from anyvpn.testing.scripted_gateway import ScriptedGateway, ScriptedStep, post

USER, PASSWORD = "alice", "correct horse"
SHORT_S = 0.3
LIMIT_S = 10.0
PATIENCE_S = 5.0
LONGEST_ERROR_CHARACTERS = 400
SHORT: Mapping[str, Any] = {"connect_time_s": SHORT_S, "answer_time_s": SHORT_S}
"""The limits of a client that is kept waiting."""
ASK = post("/", form("username", "password"))


def asynchronous(
    test: Callable[[Any], Coroutine[Deferred[Any], Any, None]],
) -> Callable[[Any], Deferred[None]]:
    return lambda case: Deferred.fromCoroutine(test(case))


class HostileCase(TestCase):
    """`adapters` and `events` are the client's. An error that comes late is none."""

    timeout = 20

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.adapters = MemoryAdapterBackend()
        self.events: list[ClientEvent] = []
        before = self.watched()
        self.addCleanup(self.assert_nothing_is_left, before)

    def assert_nothing_is_left(self, before: set[object]) -> None:
        """Timers are looked for by Twisted's TestCase itself."""
        assert self.watched() <= before, self.watched() - before

    @staticmethod
    def watched() -> set[object]:
        """The sockets that the reactor has an eye on, its own aside."""
        every = [*reactor.getReaders(), *reactor.getWriters()]
        return {each for each in every if isinstance(each, FileDescriptor)}

    async def gateway(self, *steps: ScriptedStep, names: tuple[str, ...] = ()) -> ScriptedGateway:
        """One that follows these steps."""
        gateway = ScriptedGateway(reactor, steps, names=names)  # type: ignore[arg-type]  # it has it all
        await gateway.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(gateway.close(all_steps=False)))
        return gateway

    def client(self, *gateways: ScriptedGateway, **changes: object) -> VPNClient:
        """A client of the first of them that knows the keys of all."""
        pins = [pin for each in gateways for pin in (each.pin, each.other_pin)]
        settings: dict[str, Any] = {
            "trust": TrustSettings(system_trust=False, pins=tuple(pins)),
            "connect_time_s": LIMIT_S,
            "answer_time_s": LIMIT_S,
            "reconnect_time_s": SHORT_S,
            "profile_directory": self.directory / "profiles",
            **changes,
        }
        known = responder_given.Settings(username=USER, password=PASSWORD)
        return VPNClient(
            reactor,  # type: ignore[arg-type]  # it has it all
            gateways[0].url,
            responder_given.build(known, reactor),
            self.adapters,
            ClientSettings(**settings),
            on_event=self.events.append,
        )

    async def error_of(
        self, *gateways: ScriptedGateway, all_steps: bool = True, **changes: object
    ) -> AnyvpnError:
        """What connecting fails with, in time, in one line, and with nothing left behind."""
        began_at_s = time.monotonic()
        try:
            await self.client(*gateways, **changes).connect()
        except AnyvpnError as caught:
            error = caught
        else:
            raise AssertionError("the client is content")
        assert time.monotonic() - began_at_s < PATIENCE_S
        for gateway in gateways:
            await gateway.wait_until_left(limit_s=1.0)
            await gateway.close(all_steps=all_steps)
        assert not [each for each in self.adapters.adapters if not each.is_closed]
        text = str(error)
        assert 0 < len(text) <= LONGEST_ERROR_CHARACTERS, text
        assert text.isprintable(), ascii(text)
        assert PASSWORD not in text
        return error

    async def error_at(self, *steps: ScriptedStep, **changes: Any) -> AnyvpnError:
        """The same for a gateway with these steps."""
        return await self.error_of(await self.gateway(*steps), **changes)
