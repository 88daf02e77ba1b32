"""Compression that a policy switches on: less goes over the wire, and it arrives whole."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Mapping
from random import Random

import pytest

from anyvpn.testing.anyvpn_client import AnyvpnClient
from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.openconnect import OpenConnect
from anyvpn.testing.tunnel_client import TunnelClient
from tests.interop.site import Site

PORT = 7100
PATIENCE_S = 60.0
TEXT_BYTES = 2_000_000
WORDS = tuple(f"word{number} " for number in range(200))
ENCODINGS = ("oc-lz4", "lzs")


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {
        "authorizer": {
            "policies": {name: {"compression": [name]} for name in ENCODINGS},
            "by_user": {name: name for name in ENCODINGS},
        }
    }


@pytest.fixture(scope="module")
def gateway_users() -> tuple[str, ...]:
    return ("alice", *ENCODINGS)


def text(seed: int) -> bytes:
    """What compresses well, and is nowhere the same."""
    random = Random(seed)
    parts: list[str] = []
    size = 0
    while size < TEXT_BYTES:
        parts.append(random.choice(WORDS))
        size += len(parts[-1])
    return "".join(parts).encode()


def carry(sender: Namespace, receiver: Namespace, address: str, content: bytes) -> bytes:
    """Send content over one TCP connection; gives the hash of what arrives."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    digest = hashlib.sha256()

    def send() -> None:
        with sender.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect((address, PORT))
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # nothing: it is not closed until all of it has arrived

    with receiver.socket(family, socket.SOCK_STREAM) as listener:
        listener.settimeout(PATIENCE_S)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen()
        thread = threading.Thread(target=send, name=f"to {address}")
        thread.start()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            while part := connection.recv(1 << 18):
                digest.update(part)
        thread.join(PATIENCE_S)
    return digest.digest()


def wire_bytes(client: TunnelClient) -> tuple[int, int]:
    """What the Ethernet device of a client's host has received and sent so far."""
    line = re.search(r"wan:(.*)", client.namespace.run("cat", "/proc/net/dev"))
    assert line is not None
    counters = [int(each) for each in line[1].split()]
    return counters[0], counters[8]


class CompressionTests:
    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("channel", ["cstp", "dtls"])
    @pytest.mark.parametrize("whose", ["openconnect", "ours"])
    def test_text_arrives_whole_in_fewer_bytes(
        self, site: Site, whose: str, encoding: str, channel: str
    ) -> None:
        options = ("--no-dtls",) if channel == "cstp" else ()
        client: AnyvpnClient | OpenConnect
        if whose == "ours":
            options = ("--compression", "stateless", "-vv", *options)
            client = site.connect_ours(encoding, options=options)
        else:
            client = site.connect(encoding, options=options)
        assert client.find(f"X-CSTP-Content-Encoding: {encoding}$")
        if channel == "dtls":
            assert client.find(f"X-DTLS-Content-Encoding: {encoding}$")
            client.wait_for_dtls()
        gateway = site.gateway.namespace
        received, sent = wire_bytes(client)
        for inner, own in zip(site.gateway.inner_addresses, client.inner_addresses, strict=True):
            up, down = text(1), text(2)
            assert carry(client.namespace, gateway, inner, up) == hashlib.sha256(up).digest()
            assert carry(gateway, client.namespace, str(own), down) == hashlib.sha256(down).digest()
        most_bytes = 2 * TEXT_BYTES * 3 // 4  # IPv4 and IPv6; the acknowledgements are in it
        assert wire_bytes(client)[0] - received < most_bytes
        assert wire_bytes(client)[1] - sent < most_bytes

    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("channel", ["cstp", "dtls"])
    def test_noise_arrives_whole_as_it_is(self, site: Site, encoding: str, channel: str) -> None:
        client = site.connect(encoding, options=("--no-dtls",) if channel == "cstp" else ())
        if channel == "dtls":
            client.wait_for_dtls()
        for inner in site.gateway.inner_addresses:
            for wanted in ("download", "upload"):
                assert site.transfer(client.namespace, wanted, inner, megabytes=3).matches

    def test_nothing_is_compressed_unless_the_policy_says_so(self, site: Site) -> None:
        client = site.connect("alice", options=("--compression", "all"))
        assert not client.find("Content-Encoding: ")
