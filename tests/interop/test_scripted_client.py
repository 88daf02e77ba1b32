"""The scripted client against our gateway: like any other, and what ours does in particular."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from anyvpn.testing.inner_packets import ipv4_packet
from anyvpn.testing.programs import wait_until
from anyvpn.testing.scripted_requests import http_request, init, lying_frame, reply
from anyvpn.wire.cstp import PacketKind, frame_packet
from tests.backends.hostile_credentials import MEGABYTE, PLANES
from tests.interop.network import Network
from tests.interop.scripted_ways import (
    ANSWERS,
    PROBE,
    BadWays,
    GoodWays,
    client_of,
    run_the_page_s_example,
)
from tests.interop.site import MANY_FAILURES, Site

REQUEST_TIME_S = 3
EVERY_KIND = b"".join(frame_packet(kind, b"") for kind in range(10, 256))


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"limits": {**MANY_FAILURES, "request_time_s": REQUEST_TIME_S}}


class GatewayTests(GoodWays, BadWays):
    @pytest.fixture
    def peer(self, site: Site) -> Site:
        return site

    def test_a_note_that_was_forged_begins_a_login_of_its_own(self, site: Site) -> None:
        wrong = {**ANSWERS, "password": "wrong"}
        note = b"<opaque><aggauth-handle>0123456789abcdef.1</aggauth-handle></opaque>"
        with client_of(site) as client:
            asked = client.post("/", init()).expect_form("username", "password")
            client.cookies.clear()
            answer = client.post(asked.action, reply(asked, wrong, opaque=note))
            again = answer.expect_form("username", "password")
            assert again.opaque is not None and asked.opaque is not None
            assert again.opaque.handle.split(".")[0] != asked.opaque.handle.split(".")[0]

    def test_garbage_before_a_handshake_disturbs_it_not(self, site: Site) -> None:
        with client_of(site) as client:
            client.log_in(**ANSWERS)
            datagrams = client.connect().datagrams()
            datagrams.send_raw(b"", b"\x00", bytes(1200), b"\x16\xfe\xfd" + bytes(60))
            datagrams.expect_silence(limit_s=0.3)
            datagrams.shake_hands()

    @pytest.mark.parametrize("field", ["username", "password"])
    def test_hostile_credentials_are_refused_in_peace(self, site: Site, field: str) -> None:
        """The gateway's log is looked through at the end: nothing of this is an error of ours."""
        texts = (*PLANES, "a\nb", "\r\n\r\n", "*)(uid=*", "%{User-Name}", "x" * 20_000)
        with client_of(site) as client:
            for text in texts:
                asked = client.post("/", init()).expect_form("username", "password")
                answers = {**ANSWERS, field: text}
                client.post(asked.action, reply(asked, answers)).expect_form("username", "password")
            long = reply(asked, {**ANSWERS, field: MEGABYTE})
            client.send(http_request("POST", "/", long[:1000], content_length=len(long)))
            client.answer().expect(413)

    def test_half_a_request_is_cut_in_time(self, site: Site) -> None:
        with client_of(site) as client:
            client.send(http_request("POST", "/", init())[:150])
            began_at_s = time.monotonic()
            client.wait_closed()
            assert REQUEST_TIME_S - 1 < time.monotonic() - began_at_s < REQUEST_TIME_S + 3

    def test_lengths_that_lie_are_told_from_bodies(self, site: Site) -> None:
        with client_of(site) as client:
            client.send(http_request("POST", "/", init(), content_length=1 << 40))
            client.answer().expect(413)

    @pytest.mark.parametrize(
        "lie",
        [
            lying_frame(0, bytes(60), length=60, magic=b"GET "),
            lying_frame(0, b"\x45", length=0xFFFF),
            b"STF\x01\x00\x04\x00\x07" + bytes(4),
        ],
        ids=["magic", "longer than a record", "reserved byte"],
    )
    def test_what_is_no_frame_ends_the_tunnel(self, site: Site, lie: bytes) -> None:
        with client_of(site) as client:
            client.log_in(**ANSWERS)
            tunnel = client.connect()
            tunnel.send(lie)
            tunnel.wait_closed()

    def test_a_frame_that_says_more_than_comes_waits_for_the_rest(self, site: Site) -> None:
        with client_of(site) as client:
            client.log_in(**ANSWERS)
            tunnel = client.connect()
            probe = frame_packet(PacketKind.DPD_REQUEST, PROBE)
            tunnel.send(lying_frame(0, b"", length=len(probe)))
            tunnel.send(probe + probe, piece_bytes=3, pause_s=0.01)
            assert tunnel.frame_of(PacketKind.DPD_RESPONSE) == PROBE

    def test_frames_of_unknown_kinds_and_packets_of_others_are_dropped(self, site: Site) -> None:
        with client_of(site) as client:
            client.log_in(**ANSWERS)
            tunnel = client.connect()
            stolen = ipv4_packet(bytes((10, 77, 0, 250)), bytes((10, 77, 0, 1)), b"not mine")
            tunnel.send(EVERY_KIND)
            for packet in (stolen, b"\x45", b"", bytes(1300)):
                tunnel.send(frame_packet(PacketKind.DATA, packet))
            tunnel.send(frame_packet(PacketKind.DPD_REQUEST, PROBE))
            assert tunnel.frame_of(PacketKind.DPD_RESPONSE) == PROBE


def test_the_page_s_example_passes(site: Site, tmp_path: Path) -> None:
    run_the_page_s_example(site, tmp_path)


def test_nothing_is_left_of_all_this(network: Network, site: Site) -> None:
    descriptors = f"/proc/{site.gateway.program.pid}/fd"
    count = lambda: len(network.gateway.run("ls", descriptors).split())  # noqa: E731
    before = count()
    for _ in range(5):
        with client_of(site) as client:
            client.log_in(**ANSWERS)
            client.connect()
    wait_until(lambda: count() <= before, "every descriptor is closed")
