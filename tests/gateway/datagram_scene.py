"""A datagram door under a clock, tunnels that it knows, and clients that knock."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from twisted.internet.task import Clock

from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.hello_cookies import HelloCookies
from anyvpn.dtls.psk import ClientPSK, ServerPSK
from anyvpn.dtls.records import ALERT, RecordSealer
from anyvpn.dtls.resumption import ClientResumption, ServerResumption
from anyvpn.dtls.suites import DTLS_HEADER, OFFERS
from anyvpn.errors import HandshakeFailed
from anyvpn.gateway.datagram_door import BETWEEN_HANDSHAKES_S, DatagramDoor
from anyvpn.gateway.timers import Timers
from anyvpn.model.channels import PeerPath, RecordKeys, Suite
from tests.dtls.joined import MASTER_SECRET, PSK, counting_random

HERE = PeerPath(0, ("192.0.2.1", 50_000), "198.51.100.1")
ELSEWHERE = PeerPath(1, ("2001:db8::7", 50_001, 0, 0), "2001:db8::1")
ANYWHERE = PeerPath(0, ("203.0.113.5", 40_000), "198.51.100.1")
IDENTIFIER = bytes(range(100, 132))
OTHER_IDENTIFIER = bytes(range(50, 82))
CLOSE_NOTIFY = b"\x01\x00"
_OFFERS = {"gcm": "OC-DTLS1_2-AES256-GCM", "gcm-128": "OC-DTLS1_2-AES128-GCM", "old": "AES256-SHA"}


class Established:
    """What the owner was told when a handshake was complete."""

    def __init__(
        self, keys: RecordKeys, suite: Suite, path: PeerPath, early_records: tuple[bytes, ...]
    ) -> None:
        self.keys = keys
        self.suite = suite
        self.path = path
        self.early_records = early_records


class Owner:
    """A tunnel, as far as the door knows it; `when_told` is called at each word of the door's."""

    def __init__(self, kind: str, identifier: bytes, random: Callable[[int], bytes]) -> None:
        self.kind = kind
        self.identifier = identifier
        self.begun = 0
        self.established: list[Established] = []
        self.closed: list[str] = []
        self.failed: list[str] = []
        self.when_told: Callable[[], None] = lambda: None
        self._random = random
        self._handshakes: list[weakref.ref[Handshake]] = []

    def live_handshakes(self) -> list[Handshake]:
        """Those that somebody still holds."""
        return [each for ref in self._handshakes if (each := ref()) is not None]

    def new_handshake(self) -> Handshake:
        self.begun += 1
        handshake: ServerPSK | ServerResumption
        if self.kind == "psk":
            handshake = ServerPSK(psk=PSK, random=self._random)
        else:
            version, suite = OFFERS[DTLS_HEADER][_OFFERS[self.kind]]
            handshake = ServerResumption(
                version=version,
                suite=suite,
                session_id=self.identifier,
                master_secret=MASTER_SECRET,
                random=self._random,
            )
        self._handshakes.append(weakref.ref(handshake))
        return handshake

    def dtls_established(
        self, keys: RecordKeys, suite: Suite, path: PeerPath, early_records: tuple[bytes, ...]
    ) -> None:
        self.established.append(Established(keys, suite, path, early_records))
        self.when_told()

    def dtls_closed(self, reason: str) -> None:
        self.closed.append(reason)
        self.when_told()

    def dtls_failed(self, reason: str) -> None:
        self.failed.append(reason)
        self.when_told()


class Scene:
    """A door, its clock, and what it has sent."""

    def __init__(
        self,
        hello_allowed: Callable[[str], bool] = lambda host: True,
        cookies: HelloCookies | None = None,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.random = counting_random(1)
        self.door = DatagramDoor(Timers(self.clock), self._send, hello_allowed, cookies)
        self._sent: list[tuple[PeerPath, bytes]] = []

    def _send(self, path: PeerPath, datagrams: list[bytes]) -> None:
        self._sent += [(path, each) for each in datagrams]

    def owner(self, kind: str = "psk", identifier: bytes = IDENTIFIER, host: str = "") -> Owner:
        """A tunnel that the door expects hellos for, its CSTP channel with that host."""
        owner = Owner(kind, identifier, self.random)
        self.door.expect(identifier, owner, host)
        return owner

    def client(self, owner: Owner, path: PeerPath = HERE, *, knows_secret: bool = True) -> Client:
        """Somebody who knows the tunnel's identifier, and its secret if he is no impostor."""
        handshake: Handshake
        if owner.kind == "psk":
            psk = PSK if knows_secret else bytes(len(PSK))
            handshake = ClientPSK(psk=psk, session_id=owner.identifier, random=self.random)
        else:
            version, suite = OFFERS[DTLS_HEADER][_OFFERS[owner.kind]]
            handshake = ClientResumption(
                version=version,
                suite=suite,
                session_id=owner.identifier,
                master_secret=MASTER_SECRET if knows_secret else bytes(len(MASTER_SECRET)),
                random=self.random,
            )
        return Client(self, handshake, path)

    def tunnel(self, kind: str = "psk", path: PeerPath = HERE) -> tuple[Owner, Client]:
        """A tunnel whose DTLS channel is up, long enough for another handshake to be let in."""
        owner = self.owner(kind)
        client = self.client(owner, path)
        client.shake_hands()
        assert len(owner.established) == 1
        self.clock.advance(BETWEEN_HANDSHAKES_S)
        return owner, client

    def give(self, path: PeerPath, *datagrams: bytes) -> list[bytes]:
        """Let these come from there; gives what went out, all of which must go back there."""
        for each in datagrams:
            self.door.datagram_received(path, each)
        sent = self.take_sent()
        assert all(to == path for to, _ in sent)
        return [each for _, each in sent]

    def take_sent(self) -> list[tuple[PeerPath, bytes]]:
        """What went out since the last call."""
        sent, self._sent = self._sent, []
        return sent

    def is_idle(self) -> bool:
        """Whether no timer runs and no address is remembered."""
        return not self.clock.getDelayedCalls() and not self.door._by_path


class Client:
    """A peer: a handshake and the way its datagrams take."""

    def __init__(self, scene: Scene, handshake: Handshake, path: PeerPath) -> None:
        self.handshake = handshake
        self.path = path
        self._scene = scene

    def hello(self) -> bytes:
        """Its first datagram."""
        (datagram,) = self.handshake.start(self._scene.clock.seconds())
        return datagram

    def answers(self, datagrams: list[bytes]) -> list[bytes]:
        """What it says to these."""
        now_s = self._scene.clock.seconds()
        return [answer for each in datagrams for answer in self.handshake.receive(each, now_s)]

    def last_flight(self) -> list[bytes]:
        """Go on until its Finished is due; gives the datagrams with it, not yet delivered."""
        return self.answers(self._scene.give(self.path, self.hello()))

    def shake_hands(self) -> None:
        """The whole handshake, as far as it goes."""
        flight = [self.hello()]
        while flight:
            flight = self.answers(self._scene.give(self.path, *flight))

    def repeat(self) -> list[bytes]:
        """Deliver the last flight once more, as if its answer had been lost; gives the answer."""
        assert isinstance(self.handshake, ClientPSK | ClientResumption)
        return self._scene.give(self.path, *self.handshake._send_flight())

    def close(self) -> None:
        """Close the channel by an alert that authenticates."""
        assert self.handshake.keys is not None
        alert = RecordSealer(self.handshake.keys).seal(CLOSE_NOTIFY, ALERT)
        self._scene.give(self.path, alert)


def application_record(keys: RecordKeys, payload: bytes) -> bytes:
    return RecordSealer(keys).seal(payload)


def impostors_flight(scene: Scene, owner: Owner, path: PeerPath) -> list[bytes]:
    """A whole handshake up to a Finished that does not fit; what came of it is not looked at."""
    impostor = scene.client(owner, path, knows_secret=False)
    try:
        return impostor.last_flight()
    except HandshakeFailed:  # the impostor cannot read the gateway's Finished, which comes first
        return []


def fragments(hello: bytes, first_bytes: int) -> list[bytes]:
    """One hello as two records, the first with so many bytes of the message's body."""
    record, message, body = hello[:13], hello[13:25], hello[25:]
    cut = []
    for number, (start, end) in enumerate(((0, first_bytes), (first_bytes, len(body)))):
        part = body[start:end]
        head = message[:6] + start.to_bytes(3, "big") + len(part).to_bytes(3, "big")
        sequence = int.from_bytes(record[3:11], "big") + number
        length = (len(head) + len(part)).to_bytes(2, "big")
        cut.append(record[:3] + sequence.to_bytes(8, "big") + length + head + part)
    return cut
