"""Two sides of a handshake joined in memory, under a clock and a network that tests control."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from anyvpn.dtls.handshake import Handshake
from anyvpn.dtls.psk import ClientPSK, ServerPSK
from anyvpn.dtls.records import RecordOpener, RecordSealer, split_datagram
from anyvpn.dtls.resumption import ClientResumption, ServerResumption
from anyvpn.dtls.suites import DTLS12_HEADER, DTLS_HEADER, OFFERS
from anyvpn.errors import HandshakeFailed

PSK = bytes(range(32))
SESSION_ID = bytes(range(100, 132))
MASTER_SECRET = bytes(range(48))
KINDS = ("psk", "gcm", "old")
_NAMES = {
    "gcm": (DTLS_HEADER, "OC-DTLS1_2-AES256-GCM"),
    "cbc": (DTLS12_HEADER, "AES256-SHA"),
    "old": (DTLS_HEADER, "AES256-SHA"),
}

Fault = Callable[[int], tuple[float, ...]]
"""By the number of a datagram: the delays after which it arrives, none when it is lost."""


def counting_random(seed: int) -> Callable[[int], bytes]:
    """Different bytes each time, the same in each run."""
    numbers = count(seed)
    return lambda size: next(numbers).to_bytes(4, "big").rjust(size, b"\x5a")[-size:]


def make_pair(kind: str) -> tuple[Handshake, Handshake]:
    """A client and a server who agree: PSK, or a resumption of one kind or of one offer."""
    if kind == "psk":
        client = ClientPSK(psk=PSK, session_id=SESSION_ID, random=counting_random(1))
        return client, ServerPSK(psk=PSK, random=counting_random(1000))
    return make_resumption(*_NAMES[kind])


def make_resumption(header: str, name: str) -> tuple[ClientResumption, ServerResumption]:
    version, suite = OFFERS[header][name]
    client, server = (
        side(
            version=version,
            suite=suite,
            session_id=SESSION_ID,
            master_secret=MASTER_SECRET,
            random=counting_random(seed),
        )
        for side, seed in ((ClientResumption, 1), (ServerResumption, 1000))
    )
    assert isinstance(client, ClientResumption) and isinstance(server, ServerResumption)
    return client, server


class Joined:
    """Carries datagrams and time between two sides until nothing is left to do."""

    def __init__(self, client: Handshake, server: Handshake, fault: Fault | None = None) -> None:
        self.sides = {"client": client, "server": server}
        self.sent: dict[str, list[bytes]] = {"client": [], "server": []}
        self.now_s = 0.0
        self._fault = fault or (lambda number: (0.01,))
        self._numbers = count()
        self._orders = count()
        self._on_their_way: list[tuple[float, int, str, bytes]] = []

    def send(self, sender: str, datagrams: list[bytes]) -> None:
        receiver = "server" if sender == "client" else "client"
        for datagram in datagrams:
            self.sent[sender].append(datagram)
            for delay_s in self._fault(next(self._numbers)):
                arrival = (self.now_s + delay_s, next(self._orders), receiver, datagram)
                heapq.heappush(self._on_their_way, arrival)

    def run(self, until_s: float = 100.0) -> None:
        """Start the client and go on until both are quiet, or it is too late."""
        self.send("client", self.sides["client"].start(self.now_s))
        self.go_on(until_s)

    def go_on(self, until_s: float = 100.0) -> None:
        while True:
            timeouts = [
                (at_s, name)
                for name, side in self.sides.items()
                if (at_s := side.next_timeout_s()) is not None
            ]
            next_timeout_s, name = min(timeouts, default=(until_s, ""))
            arrives_s = self._on_their_way[0][0] if self._on_their_way else until_s
            if min(next_timeout_s, arrives_s) >= until_s:
                return
            if arrives_s <= next_timeout_s:
                self.now_s, _, name, datagram = heapq.heappop(self._on_their_way)
                self.send(name, self.sides[name].receive(datagram, self.now_s))
            else:
                self.now_s = next_timeout_s
                self.send(name, self.sides[name].handle_timeout(self.now_s))

    def sequence_numbers(self, sender: str, epoch: int) -> list[int]:
        return [
            record.sequence
            for datagram in self.sent[sender]
            for record in split_datagram(datagram)
            if record.epoch == epoch
        ]


def feed(side: Handshake, datagrams: list[bytes], now_s: float = 0.0) -> list[bytes]:
    """Give datagrams to one side, whatever it makes of them; gives its answers until it fails."""
    answers: list[bytes] = []
    try:
        for datagram in datagrams:
            answers += side.receive(datagram, now_s)
    except HandshakeFailed:
        pass  # the one error that bad input may cause
    return answers


def assert_in_agreement(client: Handshake, server: Handshake) -> None:
    assert client.keys is not None and server.keys is not None
    assert client.suite == server.suite == client.keys.suite
    for ours, theirs in ((client.keys, server.keys), (server.keys, client.keys)):
        sealed = RecordSealer(ours).seal_packets(0, [b"packet"])
        assert RecordOpener(theirs).open_records(sealed) == [b"\x00packet"]


def flights_of(kind: str) -> list[tuple[str, bytes]]:
    """Every datagram of an undisturbed handshake, in order, with its receiver."""
    client, server = make_pair(kind)
    flights: list[tuple[str, bytes]] = []
    sides = {"client": client, "server": server}
    receiver, datagrams = "server", client.start(0.0)
    while datagrams:
        flights += [(receiver, datagram) for datagram in datagrams]
        answers: list[bytes] = []
        for datagram in datagrams:
            answers += sides[receiver].receive(datagram, 0.0)
        receiver = "client" if receiver == "server" else "server"
        datagrams = answers
    return flights
