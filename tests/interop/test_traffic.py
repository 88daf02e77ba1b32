"""Phases 5 and 6: bytes through the tunnel, over every kind of channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from tests.interop.site import Site

MEGABYTES = 100
MANY_DATAGRAMS = 50_000
FEW_DATAGRAMS = 100


@dataclass(frozen=True, slots=True)
class Mode:
    """How openconnect is told to connect, and what it must then say."""

    name: str
    options: tuple[str, ...]
    tls: str = r"\(TLS1\.[23]\)"
    dtls: str = ""


MODES = (
    Mode("tls-1.2", ("--no-dtls", "--gnutls-priority", "NORMAL:-VERS-TLS1.3"), tls=r"\(TLS1\.2\)"),
    Mode("tls-1.3", ("--no-dtls",), tls=r"\(TLS1\.3\)"),
    Mode("psk-negotiate", (), dtls="(DTLS1.2)-(PSK)-(AES-256-GCM)"),
    Mode(
        "oc-dtls1_2-aes128-gcm",
        ("--dtls-ciphers", "OC-DTLS1_2-AES128-GCM"),
        dtls="(DTLS1.2)-(RSA)-(AES-128-GCM)",
    ),
    Mode(
        "oc-dtls1_2-aes256-gcm",
        ("--dtls-ciphers", "OC-DTLS1_2-AES256-GCM"),
        dtls="(DTLS1.2)-(RSA)-(AES-256-GCM)",
    ),
    Mode(
        "dtls12-aes256-gcm-sha384",
        ("--dtls12-ciphers", "AES256-GCM-SHA384"),
        dtls="(DTLS1.2)-(RSA)-(AES-256-GCM)",
    ),
    Mode(
        "legacy-aes256-sha",
        ("--dtls-ciphers", "AES256-SHA"),
        dtls="(DTLS0.9)-(RSA)-(AES-256-CBC)-(SHA1)",
    ),
)


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"dtls": {"legacy": True}}


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
        before, moved_before = site.datagrams(client.namespace), client.moved_bytes()
        for address, header_bytes in zip(site.gateway.inner_addresses, (28, 48), strict=True):
            assert client.ping(address)
            assert client.ping(address, size_bytes=mtu_bytes - header_bytes)
            for wanted in ("download", "upload"):
                done = site.transfer(client.namespace, wanted, address, megabytes=MEGABYTES)
                assert done.matches
                record_property(f"{wanted} {address} Mbit/s", round(done.megabits_per_s))
        assert client.moved_bytes() - moved_before > 4 * MEGABYTES * 10**6
        datagrams = site.datagrams(client.namespace) - before
        if mode.dtls:
            assert datagrams > MANY_DATAGRAMS
        else:
            assert datagrams < FEW_DATAGRAMS

    def test_packets_larger_than_the_tunnel_arrive_in_fragments(self, site: Site) -> None:
        client = site.connect()
        client.wait_for_dtls()
        assert client.ping(site.gateway.inner_addresses[0], size_bytes=4000)
        # An IPv6 host fragments by itself: its first reply is lost and tells it how far
        client.ping(site.gateway.inner_addresses[1], count=1, size_bytes=4000)
        assert client.ping(site.gateway.inner_addresses[1], size_bytes=4000)
