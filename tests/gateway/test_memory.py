"""What a session costs in memory, which is printed (pytest -rP), and that all of it is given back.

Python's objects are counted by tracemalloc, what OpenSSL holds by the C library; large objects of
Python's are in both. Sockets and the heap's gaps come on top in a real process.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone

from anyvpn.backends.addresses_pool import AddressPools, PoolSettings
from anyvpn.backends.addresses_pool import Settings as PoolsSettings
from anyvpn.dtls.flights import FlightExchange
from anyvpn.gateway.front_door import FrontDoor
from anyvpn.gateway.http_connection import HTTPConnection
from anyvpn.gateway.login import Login
from anyvpn.gateway.session import Session
from anyvpn.gateway.settings import Limits
from anyvpn.gateway.tunnel import Tunnel
from anyvpn.packets.channels import LiveCSTPChannel, LiveDTLSChannel
from anyvpn.packets.stream import TLSStream
from anyvpn.packets.tunnels import Tunnel as MovingTunnel
from anyvpn.wire.cstp import PacketKind
from tests.gateway.gateway_in_memory import PSK_OFFER, GatewayCase
from tests.gateway.memory_tls import MemoryTransport
from tests.heap import heap_bytes

SESSIONS = 80
MOST_PYTHON_KB = 16
MOST_KB = 60  # of 64, the target, of which a real socket takes some

OF_A_LOGIN = (Login, HTTPConnection, FrontDoor)
OF_A_TUNNEL = (
    Session,
    Tunnel,
    MovingTunnel,
    LiveCSTPChannel,
    LiveDTLSChannel,
    FlightExchange,
    TLSStream,
    SSL.Connection,
)


def alive(kinds: tuple[type, ...]) -> Counter[type]:
    """How many objects of each kind there are."""
    return Counter(type(each) for each in gc.get_objects() if isinstance(each, kinds))


@contextmanager
def only_counted_references() -> Iterator[None]:
    """Nothing is found by the collector: what is gone is gone at once."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class MemoryTests(GatewayCase):
    limits = Limits(connections_per_address=1000, hellos_per_address_per_s=1000.0)

    def setUp(self) -> None:
        super().setUp()
        networks = ("10.9.0.0/16", "fd09::/64")
        pools = [PoolSettings(each, ip_network(each)) for each in networks]
        self.addresses = AddressPools(PoolsSettings(tuple(pools)))
        self.set_policy(dpd_s=0.0)
        self.near: list[MemoryTransport] = []
        self.open_gateway()

    def open_session(self) -> None:
        """A session with both channels, whose client says nothing more; our end alone is kept."""
        client = self.tunnel(offer=PSK_OFFER)
        peer = self.dtls_peer(client, port=20_000 + len(self.near))
        assert peer.shake_hands()
        peer.send(PacketKind.DPD_REQUEST, b"")
        client.send_frame(PacketKind.DPD_REQUEST)
        self.near.append(client.wire.near)
        self.forget()

    def tearDown(self) -> None:
        for near in self.near:
            near.lose(ConnectionDone())
        self.near.clear()
        super().tearDown()

    def forget(self) -> None:
        """What the test itself holds, but for our ends of the connections."""
        self.clients.clear()
        self.datagrams.sent.clear()
        self.listener.events.clear()
        self.authorizer.requests.clear()

    def cost(self, measure: Callable[[], int]) -> float:
        """By how many KB each session makes the measure grow."""
        for _ in range(10):  # caches fill
            self.open_session()
        self.clock.advance(60)
        gc.collect()  # the clients
        before = measure()
        for _ in range(SESSIONS):
            self.open_session()
        self.clock.advance(60)  # a verdict is not asked for again any more
        gc.collect()
        return (measure() - before) / SESSIONS / 1024

    def test_an_idle_session_costs_little(self) -> None:
        heap = self.cost(heap_bytes)
        tracemalloc.start()
        try:
            python = self.cost(lambda: tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        print(
            f"\nAn idle session costs {python:.1f} KB of Python's objects and {heap:.1f} KB of the "
            "C library's heap."
        )
        self.assertLess(python, MOST_PYTHON_KB)
        self.assertLess(python + heap, MOST_KB)

    def test_a_tunnel_keeps_nothing_of_its_login_and_its_end_leaves_nothing(self) -> None:
        with only_counted_references():
            logins, tunnels = alive(OF_A_LOGIN), alive(OF_A_TUNNEL)  # of other tests
            client = self.tunnel(offer=PSK_OFFER)
            peer = self.dtls_peer(client)
            assert peer.shake_hands()
            self.clock.advance(60)
            self.assertEqual(alive(OF_A_LOGIN), logins)
            client.send_frame(PacketKind.DISCONNECT, b"\xb0bye")
            self.pass_time(1)
            del client, peer
            self.forget()
            self.assertEqual(alive(OF_A_TUNNEL), tunnels)

    def test_a_connection_that_is_lost_leaves_nothing(self) -> None:
        with only_counted_references():
            logins, tunnels = alive(OF_A_LOGIN), alive(OF_A_TUNNEL)
            client = self.client()
            client.log_in()
            client.vanish()
            self.clock.advance(60)
            del client
            self.forget()
            self.assertEqual(alive(OF_A_LOGIN), logins)
            tunnels[Session] += 1  # it waits for its CONNECT
            self.assertEqual(alive(OF_A_TUNNEL), tunnels)
