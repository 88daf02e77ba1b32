"""Peers that are slow, silent or hostile, beside one that works."""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import pytest

from anyvpn.testing.programs import Program, UnmetExpectation, wait_until
from tests.interop.gateway import NAME, PORT
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import Site

GARBAGE_DATAGRAMS = 10_000
HALF_OPEN_CONNECTIONS = 1_000
HANDSHAKE_TIME_S = 3
REQUEST_TIME_S = 4
PATIENCE_S = 8.0
HOSTILE_HOST = 4


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "limits": {
            "handshake_time_s": HANDSHAKE_TIME_S,
            "request_time_s": REQUEST_TIME_S,
            "connections_per_address": 2 * HALF_OPEN_CONNECTIONS,
        }
    }


def connection(site: Site) -> socket.socket:
    """A TCP connection from the hostile host."""
    namespace = site.network.host(HOSTILE_HOST).namespace
    made = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(PATIENCE_S)
    made.connect((GATEWAY_ADDRESS, PORT))
    return made


def secured_connection(site: Site) -> ssl.SSLSocket:
    """The same with TLS."""
    context = ssl.create_default_context(cafile=str(site.gateway.ca_file))
    return context.wrap_socket(connection(site), server_hostname=NAME)


def seconds_until_cut(peer: socket.socket, send_one: Callable[[bytes], object]) -> float:
    """Send a byte a second until the gateway hangs up; gives how long that took."""
    began_at_s = time.monotonic()
    peer.settimeout(0)  # a record that holds no data, such as a ticket, must not make us wait
    with selectors.DefaultSelector() as selector:
        selector.register(peer, selectors.EVENT_READ)
        while (passed_s := time.monotonic() - began_at_s) < REQUEST_TIME_S + PATIENCE_S:
            try:
                send_one(b"a")
                if not _reads_on(peer, selector):
                    return time.monotonic() - began_at_s
            except (ConnectionError, ssl.SSLError):
                return time.monotonic() - began_at_s
    raise UnmetExpectation(f"still connected after {passed_s:.0f} s")


def _reads_on(peer: socket.socket, selector: selectors.BaseSelector) -> bool:
    """Read for a second; whether there may be more to come."""
    ends_at_s = time.monotonic() + 1
    while (left_s := ends_at_s - time.monotonic()) > 0:
        if selector.select(left_s):
            try:
                if not peer.recv(4096):
                    return False
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
    return True


class SlowPeerTests:
    """One byte a second, in each place where the gateway waits for bytes."""

    def test_slow_tls_handshake_is_cut(self, site: Site) -> None:
        record = iter(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
        with connection(site) as peer:
            took_s = seconds_until_cut(peer, lambda _: peer.send(bytes([next(record)])))
        assert HANDSHAKE_TIME_S - 1 < took_s < HANDSHAKE_TIME_S + 3

    def test_silent_connection_is_cut(self, site: Site) -> None:
        with connection(site) as peer:
            took_s = seconds_until_cut(peer, lambda _: None)
        assert HANDSHAKE_TIME_S - 1 < took_s < HANDSHAKE_TIME_S + 3

    def test_slow_request_head_is_cut(self, site: Site) -> None:
        with secured_connection(site) as peer:
            peer.sendall(b"POST / HTTP/1.1\r\nHost: vpn.test\r\nX-Slow: ")
            took_s = seconds_until_cut(peer, peer.send)
        assert REQUEST_TIME_S - 1 < took_s < REQUEST_TIME_S + 3

    def test_slow_request_body_is_cut(self, site: Site) -> None:
        with secured_connection(site) as peer:
            peer.sendall(b"POST / HTTP/1.1\r\nHost: vpn.test\r\nContent-Length: 5000\r\n\r\n")
            took_s = seconds_until_cut(peer, peer.send)
        assert REQUEST_TIME_S - 1 < took_s < REQUEST_TIME_S + 3


class HostilePeerTests:
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"GET / HTTP/1.1\r\nHost: vpn.test\r\nX-Bomb: " + b"a" * 100_000, b"431"),
            (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)), b"431"),
            (b"POST / HTTP/1.1\r\nHost: vpn.test\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
            (b"POST / HTTP/1.1\r\nHost: vpn.test\r\nContent-Length: -1\r\n\r\n", b"400"),
            (b"\x00" * 50_000, b"400"),
            (
                b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: vpn.test\r\n\r\n" + b"STF" * 9000,
                b"401",
            ),
        ],
        ids=["header", "headers", "length", "negative length", "zeros", "no token"],
    )
    def test_hostile_request_costs_its_connection_only(
        self, site: Site, request_bytes: bytes, status: bytes
    ) -> None:
        client = site.connect()
        began_at_s = time.monotonic()
        answer = b""
        with secured_connection(site) as peer:
            try:
                peer.sendall(request_bytes)
                while part := peer.recv(65536):
                    answer += part
            except (ConnectionError, ssl.SSLError):
                pass  # what we sent and nobody read takes the answer with it
        assert time.monotonic() - began_at_s < REQUEST_TIME_S - 1
        if answer or len(request_bytes) < 1000:
            assert answer.startswith(b"HTTP/1.1 " + status)
        assert client.ping(site.gateway.inner_addresses[0])

    def test_datagrams_of_garbage_are_not_answered_and_disturb_nobody(self, site: Site) -> None:
        client = site.connect()
        client.wait_for_dtls()
        inner, _ = site.gateway.inner_addresses
        position = client.position
        random = Random(2)
        heads = (b"", b"\x16\xfe\xfd" + bytes(8), b"\x17\xfe\xfd\x00\x01", b"\x16\x01\x00")
        ping = _long_ping(client.namespace.command, inner)
        namespace = site.network.host(HOSTILE_HOST).namespace
        with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect((GATEWAY_ADDRESS, PORT))
            for number in range(GARBAGE_DATAGRAMS):
                head = heads[number % len(heads)]
                peer.send(head + random.randbytes(random.randrange(1200)))
            peer.settimeout(1.0)
            with pytest.raises(TimeoutError):
                peer.recv(2048)
        _check_long_ping(ping)
        assert not client.find("DTLS Dead Peer|Established DTLS|reconnect", position)
        assert site.transfer(client.namespace, "download", inner, megabytes=10).matches

    def test_half_open_connections_disturb_nobody(self, site: Site) -> None:
        client = site.connect()
        client.wait_for_dtls()
        inner, _ = site.gateway.inner_addresses
        ping = _long_ping(client.namespace.command, inner)
        with ExitStack() as stack:
            peers = [stack.enter_context(connection(site)) for _ in range(HALF_OPEN_CONNECTIONS)]
            for peer in peers[::2]:
                peer.send(b"\x16\x03\x01")
            second = site.connect(host=2)
            assert second.ping(inner)
            assert site.transfer(client.namespace, "upload", inner, megabytes=10).matches
            assert all(is_cut(peer) for peer in peers)
        _check_long_ping(ping)

    def test_gateway_keeps_nothing_of_connections_that_are_gone(self, site: Site) -> None:
        before = opened(site)  # some of them may belong to connections that are closed meanwhile
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(secured_connection(site))
            new = opened(site) - before
            assert len(new) >= 100
        wait_until(lambda: not new & opened(site), "every descriptor is closed")


def opened(site: Site) -> set[str]:
    """What the gateway has open: each socket has a number of its own."""
    names = set()
    for descriptor in Path(f"/proc/{site.gateway.program.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.add(str(descriptor.readlink()))
    return names


def is_cut(peer: socket.socket) -> bool:
    """Whether the gateway hangs up within our patience; TimeoutError when it does not."""
    try:
        while peer.recv(4096):
            continue
    except ConnectionError:
        return True
    return True


def _long_ping(command: Callable[[list[str]], list[str]], address: str) -> Program:
    return Program("the ping", command(["ping", "-n", "-c", "40", "-i", "0.1", address]))


def _check_long_ping(ping: Program) -> None:
    ping.wait_for_end(30)
    received = re.search(r"(\d+) received", ping.output())
    assert received is not None
    assert int(received[1]) >= 39, ping.output()
