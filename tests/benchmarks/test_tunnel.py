"""Data that took another way than it should have is found."""

from __future__ import annotations

import os

import pytest

from anyvpn.testing.programs import UnmetExpectation
from bench.processes import Processes
from bench.tunnel import Channel, Counters, OpenTunnel

RECEIVED_BYTES = 1_000_000.0
BEFORE = Counters(inner=500, outer=700, outer_tcp=300)


def after(*, inner: int, outer: int, outer_tcp: int) -> Counters:
    """So much more than before."""
    return Counters(BEFORE.inner + inner, BEFORE.outer + outer, BEFORE.outer_tcp + outer_tcp)


def check(channel: Channel, counters: Counters) -> None:
    """What a measure asks when it has received its bytes."""
    tunnel = OpenTunnel(
        host=None,  # type: ignore[arg-type]  # nobody looks at it
        device="tun9",
        channel=channel,
        cipher="AES-256-GCM",
        mtu_bytes=1400,
        gateway=Processes(os.getpid()),
        send_signal=lambda _: None,
        close=lambda: None,
    )
    tunnel.check(BEFORE, counters, RECEIVED_BYTES)


class CheckTests:
    def test_data_on_its_channel_passes(self) -> None:
        check(Channel.DATAGRAMS, after(inner=1_050_000, outer=1_100_000, outer_tcp=2_000))
        check(Channel.STREAM, after(inner=1_050_000, outer=1_100_000, outer_tcp=1_080_000))

    def test_data_around_the_tunnel_is_found(self) -> None:
        with pytest.raises(UnmetExpectation, match="did not go through tun9"):
            check(Channel.DATAGRAMS, after(inner=9_000, outer=1_100_000, outer_tcp=0))

    def test_data_around_the_cable_is_found(self) -> None:
        with pytest.raises(UnmetExpectation, match="did not go over wan"):
            check(Channel.DATAGRAMS, after(inner=1_050_000, outer=9_000, outer_tcp=0))

    def test_data_over_tls_instead_of_udp_is_found(self) -> None:
        with pytest.raises(UnmetExpectation, match="did not go over UDP"):
            check(Channel.DATAGRAMS, after(inner=1_050_000, outer=1_100_000, outer_tcp=1_080_000))

    def test_data_over_udp_instead_of_tls_is_found(self) -> None:
        with pytest.raises(UnmetExpectation, match="did not go over TLS"):
            check(Channel.STREAM, after(inner=1_050_000, outer=1_100_000, outer_tcp=2_000))
