"""Phases 5 and 6: bytes through the tunnel, over every kind of channel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from anyvpn.testing.namespaces import Namespace
from anyvpn.testing.openconnect import OpenConnect
from tests.interop.site import Site

MEGABYTES = 100
MANY_DATAGRAMS = 50_000
FEW_DATAGRAMS = 100
BURST_PINGS = 150
"""As many answers as ping's own socket holds: of more, some are lost when ping has to wait."""
GCM_MTU_BYTES = 1434


@dataclass(frozen=True, slots=True)
class Mode:
    """How openconnect is told to connect, and what it must then say.

    `mtu_bytes` is what the tunnel has room for on a link of 1500 bytes; over DTLS to the byte.
    """

    name: str
    options: tuple[str, ...]
    mtu_bytes: int
    tls: str = r"\(TLS1\.[23]\)"
    dtls: str = ""


MODES = (
    Mode(
        "tls-1.2",
        ("--no-dtls", "--gnutls-priority", "NORMAL:-VERS-TLS1.3"),
        1420,
        tls=r"\(TLS1\.2\)",
    ),
    Mode("tls-1.3", ("--no-dtls",), 1420, tls=r"\(TLS1\.3\)"),
    Mode("psk-negotiate", (), GCM_MTU_BYTES, dtls="(DTLS1.2)-(PSK)-(AES-256-GCM)"),
    Mode(
        "oc-dtls1_2-aes128-gcm",
        ("--dtls-ciphers", "OC-DTLS1_2-AES128-GCM"),
        GCM_MTU_BYTES,
        dtls="(DTLS1.2)-(RSA)-(AES-128-GCM)",
    ),
    Mode(
        "oc-dtls1_2-aes256-gcm",
        ("--dtls-ciphers", "OC-DTLS1_2-AES256-GCM"),
        GCM_MTU_BYTES,
        dtls="(DTLS1.2)-(RSA)-(AES-256-GCM)",
    ),
    Mode(
        "dtls12-aes256-gcm-sha384",
        ("--dtls12-ciphers", "AES256-GCM-SHA384"),
        GCM_MTU_BYTES,
        dtls="(DTLS1.2)-(RSA)-(AES-256-GCM)",
    ),
    Mode(
        "legacy-aes256-sha",
        ("--dtls-ciphers", "AES256-SHA"),
        1418,
        dtls="(DTLS0.9)-(RSA)-(AES-256-CBC)-(SHA1)",
    ),
)


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"dtls": {"legacy": True}}


def datagrams(namespace: Namespace) -> tuple[int, int]:
    """How many datagrams a host has received and sent; DTLS is all of its UDP."""
    counts = counters(namespace, "Udp")
    return counts["InDatagrams"], counts["OutDatagrams"]


def fragments(namespace: Namespace) -> int:
    """How many pieces of packets a host has sent and received over IPv4."""
    counts = counters(namespace, "Ip")
    return counts["FragCreates"] + counts["ReasmReqds"]


def counters(namespace: Namespace, protocol: str) -> dict[str, int]:
    """What the kernel has counted."""
    lines = namespace.run("cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith(f"{protocol}:"))
    return dict(zip(names[1:], map(int, values[1:]), strict=True))


def burst(client: OpenConnect, address: str) -> tuple[int, int]:
    """Many packets in flight at a time; gives how many came back, and how many twice.

    TCP would repair both, and a hash tells nothing of it.
    """
    output = client.namespace.run(
        *("ping", "-n", "-q", "-c", str(BURST_PINGS), "-l", "20", "-i", "0.002", "-W", "3"),
        *("-I", client.device, address),
        may_fail=True,
    )
    received = re.search(r"(\d+) received", output)
    doubled = re.search(r"\+(\d+) duplicates", output)
    assert received is not None, output
    return int(received[1]), 0 if doubled is None else int(doubled[1])


class TrafficTests:
    @pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
    def test_bytes_arrive_whole_in_both_directions_and_families(
        self, site: Site, mode: Mode, record_property: Callable[[str, object], None]
    ) -> None:
        client = site.connect(options=mode.options)
        assert client.find(f"Connected to HTTPS on .* with ciphersuite {mode.tls}")
        if mode.dtls:
            assert mode.dtls in client.wait_for_dtls()
        mtu_bytes = int(client.environment()["INTERNAL_IP4_MTU"])
        assert mtu_bytes == mode.mtu_bytes
        # openconnect would set right what we told it wrong
        assert client.find(f"^X-CSTP-MTU: {mode.mtu_bytes}$")
        hosts = (client.namespace, site.gateway.namespace)
        pieces = [fragments(each) for each in hosts]
        before, moved_before = datagrams(client.namespace), client.moved_bytes()
        for address, header_bytes in zip(site.gateway.inner_addresses, (28, 48), strict=True):
            assert client.ping(address)
            assert client.ping(address, size_bytes=mtu_bytes - header_bytes)
            assert burst(client, address) == (BURST_PINGS, 0)
            for wanted in ("download", "upload"):
                done = site.transfer(client.namespace, wanted, address, megabytes=MEGABYTES)
                assert done.matches
                record_property(f"{wanted} {address} Mbit/s", round(done.megabits_per_s))
        assert [fragments(each) for each in hosts] == pieces
        assert client.moved_bytes() - moved_before > 4 * MEGABYTES * 10**6
        for was, now in zip(before, datagrams(client.namespace), strict=True):
            if mode.dtls:
                assert now - was > MANY_DATAGRAMS
            else:
                assert now - was < FEW_DATAGRAMS

    def test_packets_larger_than_the_tunnel_arrive_in_fragments(self, site: Site) -> None:
        client = site.connect()
        client.wait_for_dtls()
        assert client.ping(site.gateway.inner_addresses[0], size_bytes=4000)
        # An IPv6 host fragments by itself: its first reply is lost and tells it how far
        client.ping(site.gateway.inner_addresses[1], count=1, size_bytes=4000)
        assert client.ping(site.gateway.inner_addresses[1], size_bytes=4000)
