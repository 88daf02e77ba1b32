"""Packets in flight while a TLS connection becomes a tunnel, and what its peer may say later on."""

from __future__ import annotations

import os
import re
import selectors
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping
from ipaddress import ip_address
from itertools import count
from types import TracebackType
from typing import Self

import pytest

from anyvpn.testing.inner_packets import ipv4_packet
from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_client import TUNNEL_PATH
from anyvpn.testing.scripted_requests import http_request, offer
from anyvpn.wire.cstp import PacketKind, frame_packet
from tests.interop.gateway import ENGINES, NAME, PORT
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.scripted_ways import ANSWERS, HOST, client_of
from tests.interop.site import Site

LIMIT_S = 10.0
LARGEST_ANSWER_BYTES = 16384
TLSv1_2, TLSv1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
FORGED, TOO_LONG = b"\x17\3\3\0\x20" + bytes(32), b"\x17\3\3\xff\xff"
ROUNDS = 20
NUMBER_BYTES, PADDING_BYTES = 8, 1000
PIECES = ((700, 0.0003), (1100, 0.0))  # bytes and pause: in time, and faster than they are read
BEGINNINGS, FRAMES, EARLY_FRAMES, ENOUGH_BYTES = 5, 300, 100, 20_000
DATAGRAM_PORT, DATAGRAM_INTERVAL_S, FEWEST_DATAGRAMS = 4001, 0.0003, 100

# From Linux
SO_RCVBUFFORCE = 33

# From OpenSSL: what a line of s_client's input begins with
NEW_KEYS, NEW_KEYS_OF_BOTH, ANOTHER_HANDSHAKE = b"k\n", b"K\n", b"R\n"

# OpenSSL's names of alerts that end a tunnel
GARBAGE = (
    pytest.param(TLSv1_3, FORGED, "BAD_RECORD_MAC", id="forged"),
    pytest.param(TLSv1_3, TOO_LONG, "RECORD_OVERFLOW", id="too long"),
    pytest.param(TLSv1_3, b"\x17\2\3\0\x20", "DECODE_ERROR", id="of another version"),
    pytest.param(TLSv1_3, b"\x16\3\3\0\1\1", "UNEXPECTED_MESSAGE", id="in clear"),
    pytest.param(TLSv1_2, FORGED, "BAD_RECORD_MAC", id="forged, TLS 1.2"),
    pytest.param(TLSv1_2, TOO_LONG, "RECORD_OVERFLOW", id="too long, TLS 1.2"),
    pytest.param(TLSv1_2, b"GET / HTTP/1.1\r\n", "PROTOCOL_VERSION", id="no TLS, TLS 1.2"),
)


@pytest.fixture(scope="module", params=ENGINES)
def gateway_changes(request: pytest.FixtureRequest) -> Mapping[str, object]:
    return {"gateway": {"engine": request.param}}


class OpenSSLTunnel:
    """A tunnel of OpenSSL's own client, which does what no library of ours can."""

    def __init__(self, site: Site, token: str, *options: str) -> None:
        command = [
            *("openssl", "s_client", "-connect", f"{GATEWAY_ADDRESS}:{PORT}"),
            *("-servername", NAME, "-CAfile", str(site.gateway.ca_file), *options),
        ]
        self._process = subprocess.Popen(
            site.network.host(HOST).namespace.command(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self._probes = 0
        self.output = b""
        self._token = token

    def __enter__(self) -> Self:
        try:
            self.wait_for(b"Verify return code: 0 (ok)")
            self.write(http_request("CONNECT", TUNNEL_PATH, b"", *offer(self._token)))
            self.wait_for(b"HTTP/1.1 200 ")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def write(self, data: bytes) -> None:
        """Bytes for the tunnel, or a command; each is read by OpenSSL on its own."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        time.sleep(0.02)

    def wait_for(self, text: bytes, *, count: int = 1) -> None:
        """Wait until it has printed this so often, or has got it from the gateway."""
        while self.output.count(text) < count:
            if not self._read():
                raise UnmetExpectation(f"{text!r} does not come; {self.output[-2000:]!r}")

    def wait_closed(self) -> None:
        """Wait until the connection is over."""
        while self._read():
            continue
        assert self._process.wait(LIMIT_S) is not None

    def assert_carries(self) -> None:
        """A probe is answered."""
        self._probes += 1
        probe = b"probe %d of %d" % (self._probes, id(self))
        self.write(frame_packet(PacketKind.DPD_REQUEST, probe))
        self.wait_for(frame_packet(PacketKind.DPD_RESPONSE, probe))

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(LIMIT_S):
                raise UnmetExpectation(f"nothing comes; {self.output[-2000:]!r}")
        data = os.read(self._process.stdout.fileno(), 65536)
        self.output += data
        return data


class Traffic:
    """Numbered datagrams to a client's inner address, all the time, and what comes from there."""

    def __init__(self, site: Site, client: str) -> None:
        inner, _ = site.gateway.inner_addresses
        self.client, self._inner = client, inner
        self._socket = site.gateway.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        self._socket.bind((inner, DATAGRAM_PORT))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="datagrams")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._socket.close()

    def frame(self, number: int) -> bytes:
        """A numbered datagram from the client."""
        addresses = (ip_address(each).packed for each in (self.client, self._inner))
        text = b"%08d" % number + bytes(PADDING_BYTES)
        return frame_packet(PacketKind.DATA, ipv4_packet(*addresses, text))

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self._thread.join()

    def expect(self, frames: int) -> None:
        """The client's own have all come, once and in order."""
        self._socket.settimeout(LIMIT_S)
        numbers = [int(self._socket.recv(NUMBER_BYTES)) for _ in range(frames)]
        assert numbers == list(range(frames))

    def _send(self) -> None:
        for number in count():
            self._socket.sendto(b"<%08d>" % number, (self.client, DATAGRAM_PORT))
            if self._over.wait(DATAGRAM_INTERVAL_S):
                return


def assert_no_gap(received: bytes) -> None:
    """Each of the datagrams since the first one came, once and in order."""
    numbers = [int(each) for each in re.findall(rb"<(\d{8})>", received)]
    assert len(numbers) > FEWEST_DATAGRAMS
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def log_in(site: Site) -> tuple[str, str]:
    """A session's token and its inner address."""
    with client_of(site) as client:
        token = client.log_in(**ANSWERS)
        return token, client.connect().header("X-CSTP-Address")


class BeginningTests:
    """The moment at which the compiled engine takes the records over."""

    def test_nothing_is_lost_in_either_direction(self, site: Site) -> None:
        token, address = log_in(site)
        for piece_bytes, pause_s in PIECES * BEGINNINGS:
            with client_of(site) as client, Traffic(site, address) as traffic:
                frames = [traffic.frame(number) for number in range(FRAMES)]
                request = http_request("CONNECT", TUNNEL_PATH, b"", *offer(token))
                client.send(request + b"".join(frames[:EARLY_FRAMES]))
                later = b"".join(frames[EARLY_FRAMES:])
                client.send(later, piece_bytes=piece_bytes, pause_s=pause_s)
                received = b""
                while len(received) < ENOUGH_BYTES:
                    data = client.line.receive()
                    assert data, "the gateway has ended it"
                    received += data
                traffic.stop()
                assert_no_gap(received)
                traffic.expect(FRAMES)


class NewKeysTests:
    @pytest.mark.parametrize("command", [NEW_KEYS, NEW_KEYS_OF_BOTH], ids=["its own", "both"])
    def test_keys_change_again_and_again_and_nothing_is_lost(
        self, site: Site, command: bytes
    ) -> None:
        token, address = log_in(site)
        with (
            OpenSSLTunnel(site, token, "-tls1_3") as tunnel,
            Traffic(site, address) as traffic,
        ):
            for number in range(ROUNDS):
                tunnel.write(command)
                tunnel.wait_for(b"KEYUPDATE", count=number + 1)  # or it would take both as one
                tunnel.write(traffic.frame(number))
                tunnel.assert_carries()
            traffic.stop()
            tunnel.assert_carries()
            assert tunnel.output.count(b"KEYUPDATE") == ROUNDS
            assert_no_gap(tunnel.output)
            traffic.expect(ROUNDS)


def last_words(site: Site, token: str, version: ssl.TLSVersion, garbage: bytes) -> str:
    """The alert, in OpenSSL's name of it, that answers these bytes in the middle of a tunnel."""
    context = ssl.create_default_context(cafile=str(site.gateway.ca_file))
    context.maximum_version = version
    tcp = site.network.host(HOST).namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.settimeout(LIMIT_S)
    tcp.connect((GATEWAY_ADDRESS, PORT))
    probe = frame_packet(PacketKind.DPD_REQUEST, b"")
    with context.wrap_socket(tcp, server_hostname=NAME) as tls:
        tls.sendall(http_request("CONNECT", TUNNEL_PATH, b"", *offer(token)))
        assert tls.recv(LARGEST_ANSWER_BYTES).startswith(b"HTTP/1.1 200 ")
        tls.sendall(probe)
        assert tls.recv(len(probe)) == frame_packet(PacketKind.DPD_RESPONSE, b"")
        with socket.socket(fileno=os.dup(tls.fileno())) as below:
            below.sendall(garbage)
        try:
            assert tls.recv(1) == b""
        except ssl.SSLError as error:
            return str(error.reason)
        return "CLOSE_NOTIFY"


class LastWordsTests:
    """An alert ends a connection on which something else than TLS comes."""

    @pytest.mark.parametrize(("version", "garbage", "alert"), GARBAGE)
    def test_the_peer_hears_why(
        self, site: Site, version: ssl.TLSVersion, garbage: bytes, alert: str
    ) -> None:
        token, _ = log_in(site)
        since = site.gateway.program.position
        assert last_words(site, token, version, garbage).endswith(f"ALERT_{alert}")
        why = "TLS failed: .+"
        site.gateway.wait_for_event("tunnel_closed", user="alice", detail=why, since=since)


class AnotherHandshakeTests:
    def test_it_is_refused_and_the_session_goes_on(self, site: Site) -> None:
        other = site.connect(options=("--no-dtls",))
        inner, _ = site.gateway.inner_addresses
        token, _ = log_in(site)
        since = site.gateway.program.position
        with OpenSSLTunnel(site, token, "-tls1_2") as tunnel:
            tunnel.assert_carries()
            tunnel.write(ANOTHER_HANDSHAKE)
            tunnel.wait_closed()
        why = (
            "TLS failed: (no renegotiation|tls alert handshake failure)"  # whose side says so first
        )
        site.gateway.wait_for_event("tunnel_closed", user="alice", detail=why, since=since)
        assert other.ping(inner)
        with OpenSSLTunnel(site, token, "-tls1_2") as again:
            again.assert_carries()
