"""Tests of anyvpn.client.link: a granted CONNECT with its DTLS channel, at a test's pace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from anyvpn.client.link import EVERYTHING, TUNNEL_ID, Farewell, Link
from anyvpn.dtls.records import RecordOpener, RecordSealer
from anyvpn.interfaces import IPacketObserver
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.channels import ChannelName, PeerPath
from anyvpn.model.tunnel_settings import LARGEST_TUNNEL_MTU_BYTES
from anyvpn.packets.engine import PythonPacketEngine
from anyvpn.testing.inner_packets import ipv4_packet
from anyvpn.testing.memory_tun import MemoryAdapter
from anyvpn.wire.cstp import PacketKind
from tests.client.links import (
    GRANT,
    LEASE,
    ClientDatagrams,
    LinkStream,
    opened,
    stream_of,
)

OWN, INSIDE = LEASE.addresses[0].packed, bytes([10, 9, 0, 1])
OUT, IN = ipv4_packet(OWN, INSIDE, b"out"), ipv4_packet(INSIDE, OWN, b"in")
UP = "data over dtls: the DTLS handshake is complete"


@implementer(IPacketObserver)
class Scene:
    """A link, the engine that moves its packets, and the gateway at the other end of UDP."""

    def __init__(self, *, dtls: dict[str, Any] | None = None, **granted: Any) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.datagrams = ClientDatagrams()
        grant = None if dtls is None else replace(GRANT, **dtls)
        self.opened = opened(dtls=grant, **granted)
        settings = AdapterSettings(self.opened.granted, 1400)
        self.adapter = MemoryAdapter("memory0", settings)
        self.engine = PythonPacketEngine(
            cast(Any, self.clock), self.adapter, self.datagrams, follows_client=False
        )
        self.engine.start()
        self.engine.attach(TUNNEL_ID, LEASE, EVERYTHING, LARGEST_TUNNEL_MTU_BYTES, self)
        self.link = Link(
            self.clock,
            self.engine,
            cast(Any, self.datagrams),
            self,
            self.opened,
            dpd_s=0,
            random=bytes,
        )
        self.link.begin()

    @property
    def stream(self) -> LinkStream:
        return stream_of(self.opened)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)

    # --- the link's owner, and the engine's observer

    def link_lost(self, link: Link, reason: str) -> None:
        self.told.append(f"lost: {reason}")

    def gateway_disconnected(self, link: Link, reason: str) -> None:
        self.told.append(reason)

    def channel_changed(self, link: Link, reason: str) -> None:
        self.told.append(f"data over {link.channel.value}: {reason}")

    def mtu_changed(self, link: Link, reason: str) -> None:
        self.told.append(f"MTU {link.mtu_bytes}: {reason}")

    def new_keys_due(self, link: Link) -> None:
        self.told.append("new keys")

    def control_received(self, name: ChannelName, kind: int, payload: bytes) -> None:
        self.link.control_received(name, kind, payload)

    def peer_moved(self, path: PeerPath) -> None:
        raise AssertionError("gateways do not move")

    # --- the gateway

    def shake_hands(self) -> None:
        """Answer hellos until both sides have keys."""
        keys = self.datagrams.shake_hands(self.clock.seconds())
        self.sealer, self.opener = RecordSealer(keys), RecordOpener(keys)

    def send(self, kind: PacketKind, payload: bytes = b"") -> None:
        assert self.datagrams.path is not None
        self.datagrams.feed(self.datagrams.path, self.sealer.seal_packets(kind, [payload]))

    def received(self) -> list[bytes]:
        """What came over DTLS: the kind, and the packet."""
        assert self.datagrams.path is not None
        return self.opener.open_records(self.datagrams.take_sent(self.datagrams.path))


class CSTPTests:
    def test_data_goes_over_the_stream_alone(self) -> None:
        scene = Scene()
        scene.adapter.inject([OUT])
        scene.stream.feed_packet(PacketKind.DATA, IN)
        assert scene.stream.kinds == [PacketKind.DATA]
        assert scene.adapter.written == [IN]
        assert not scene.link.is_trying_dtls
        assert (scene.link.channel, scene.link.mtu_bytes) == (ChannelName.CSTP, 1400)

    def test_a_lost_stream_is_told_once(self) -> None:
        scene = Scene()
        scene.stream.break_off("reset")
        assert scene.told == ["lost: reset"]
        scene.link.end()
        scene.stream.break_off("closed")
        assert scene.told == ["lost: reset"]

    @pytest.mark.parametrize(
        ("kind", "payload", "reason"),
        [
            (PacketKind.DISCONNECT, b"", "the gateway ended the session"),
            (PacketKind.DISCONNECT, b"\xb0bye", "the gateway ended the session: bye"),
            (PacketKind.TERMINATE, b"\xb0bye", "the gateway ended the session"),
        ],
    )
    def test_a_goodbye_is_told(self, kind: PacketKind, payload: bytes, reason: str) -> None:
        scene = Scene()
        scene.stream.feed_packet(kind, payload)
        assert scene.told == [reason]

    def test_packets_of_unknown_kinds_change_nothing(self) -> None:
        scene = Scene()
        for _ in range(3):
            scene.stream.feed_packet(cast(PacketKind, 77), b"what")
        assert scene.told == []

    def test_nothing_goes_on_after_the_end(self) -> None:
        scene = Scene(dtls={}, dpd_s=5, keepalive_s=5, rekey_s=5)
        scene.link.end()
        scene.link.end()
        assert scene.stream.is_closed
        assert scene.clock.getDelayedCalls() == []
        scene.stream.feed_packet(PacketKind.DISCONNECT)
        scene.link.new_keys_in(1)
        scene.pass_time(60)
        assert scene.told == []


class DTLSTests:
    def test_data_goes_over_dtls_when_it_is_up(self) -> None:
        scene = Scene(dtls={})
        scene.adapter.inject([OUT])
        assert scene.stream.kinds == [PacketKind.DATA]
        assert (scene.link.channel, scene.link.mtu_bytes) == (ChannelName.CSTP, 1380)
        scene.shake_hands()
        assert scene.told == [UP, "MTU 1380: DTLS is up"]
        assert scene.link.cipher == "DTLS TLS_PSK_WITH_AES_256_GCM_SHA384"
        scene.adapter.inject([OUT])
        assert scene.received() == [bytes([PacketKind.DATA]) + OUT]
        scene.send(PacketKind.DATA, IN)
        assert scene.adapter.written == [IN]
        assert scene.stream.kinds == [PacketKind.DATA]

    def test_what_still_comes_over_the_stream_is_taken(self) -> None:
        scene = Scene(dtls={})
        scene.shake_hands()
        scene.stream.feed_packet(PacketKind.DATA, IN)
        assert scene.adapter.written == [IN]

    def test_a_silent_channel_is_probed_then_data_goes_over_the_stream(self) -> None:
        scene = Scene(dtls={"dpd_s": 10})
        scene.shake_hands()
        scene.pass_time(10.5)
        assert scene.received() == [bytes([PacketKind.DPD_REQUEST])]
        scene.pass_time(10)
        assert scene.told[2:] == ["data over cstp: no sign of life for 20 s"]
        scene.adapter.inject([OUT])
        assert scene.stream.kinds == [PacketKind.DATA]
        assert scene.datagrams.sockets == 2

    def test_another_handshake_brings_it_back(self) -> None:
        scene = Scene(dtls={"dpd_s": 10})
        scene.shake_hands()
        scene.pass_time(21)
        scene.shake_hands()
        assert scene.told[-2:] == [UP, "MTU 1380: DTLS is up"]
        scene.adapter.inject([OUT])
        assert scene.received() == [bytes([PacketKind.DATA]) + OUT]

    def test_an_answer_is_life(self) -> None:
        scene = Scene(dtls={"dpd_s": 10})
        scene.shake_hands()
        for _ in range(5):
            scene.pass_time(11)
            scene.send(PacketKind.DPD_RESPONSE)
        assert scene.told == [UP, "MTU 1380: DTLS is up"]

    def test_it_is_kept_alive(self) -> None:
        scene = Scene(dtls={"keepalive_s": 20})
        scene.shake_hands()
        scene.pass_time(41)
        assert scene.received() == [bytes([PacketKind.KEEPALIVE])] * 2

    def test_a_goodbye_there_is_about_that_channel_alone(self) -> None:
        scene = Scene(dtls={})
        scene.shake_hands()
        scene.pass_time(10)
        scene.send(PacketKind.DISCONNECT, b"\xb0")
        assert scene.told[2:] == ["data over cstp: the gateway closes it"]
        assert scene.link.channel is ChannelName.CSTP

    def test_without_an_answer_the_adapter_gets_the_mtu_of_the_stream(self) -> None:
        scene = Scene(dtls={})
        scene.pass_time(30)
        assert scene.link.mtu_bytes == 1380
        scene.pass_time(2)
        assert len(scene.told) == 1
        assert scene.told[0].startswith("MTU 1400: there is no DTLS: ")

    def test_a_probe_asks_on_the_channel_in_use(self) -> None:
        scene = Scene(dtls={})
        scene.shake_hands()
        scene.link.probe()
        assert scene.received() == [bytes([PacketKind.DPD_REQUEST])]

    def test_goodbye_is_said_on_the_stream(self) -> None:
        scene = Scene(dtls={})
        scene.shake_hands()
        scene.link.say_goodbye(Farewell.OURS)
        assert scene.stream.kinds == [PacketKind.DISCONNECT]
        assert scene.received() == []


class RekeyTests:
    @pytest.mark.parametrize(
        ("dtls", "granted", "at_s"),
        [
            (None, {"rekey_s": 40}, 40),
            (None, {"rekey_s": 40, "rekey_method": "ssl"}, 40),
            ({"rekey_s": 20, "rekey_method": "ssl"}, {"rekey_s": 40}, 20),
            ({"rekey_s": 20, "rekey_method": "new-tunnel"}, {"rekey_s": 40}, 40),
            ({"rekey_s": 20, "rekey_method": "ssl"}, {"rekey_s": 0}, 20),
        ],
    )
    def test_the_sooner_time_counts(
        self, dtls: dict[str, Any] | None, granted: dict[str, Any], at_s: float
    ) -> None:
        scene = Scene(dtls=dtls, **granted)
        scene.pass_time(at_s - 0.5)
        assert "new keys" not in scene.told
        scene.pass_time(1)
        assert scene.told.count("new keys") == 1
        scene.pass_time(50)
        assert scene.told.count("new keys") == 1

    def test_no_gateway_can_ask_without_end(self) -> None:
        scene = Scene(rekey_s=1)
        scene.pass_time(4.5)
        assert scene.told == []
        scene.pass_time(1)
        assert scene.told == ["new keys"]

    def test_it_can_be_put_off(self) -> None:
        scene = Scene(rekey_s=40)
        scene.pass_time(41)
        scene.link.new_keys_in(10)
        scene.pass_time(9)
        assert scene.told == ["new keys"]
        scene.pass_time(2)
        assert scene.told == ["new keys"] * 2

    def test_never_means_never(self) -> None:
        scene = Scene(rekey_s=40, rekey_method="none")
        scene.pass_time(100)
        assert scene.told == []
