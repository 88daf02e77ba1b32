"""Tests of anyvpn.client.tunnel: links that come, go and are got back, on a clock of the test's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import AcceptedCertificate
from anyvpn.errors import (
    GatewayUnreachable,
    GatewayUntrusted,
    LoginDenied,
    TokenRejected,
    TunnelRefused,
    TunUnavailable,
)
from anyvpn.model.adapter import AdapterSettings
from anyvpn.model.channels import ChannelName
from anyvpn.model.client_events import (
    AdapterChanged,
    ChannelChanged,
    Disconnected,
    MessageShown,
    Phase,
    PhaseEntered,
    Retrying,
    TunnelReady,
)
from anyvpn.model.tunnel_settings import Lease
from anyvpn.testing.inner_packets import ipv4_packet
from anyvpn.wire.cstp import GOODBYE_BY_USER, Goodbye, PacketKind, read_goodbye, write_goodbye
from tests.client.links import (
    GRANT,
    LEASE,
    LOGIN,
    ClientDatagrams,
    LinkStream,
    TunnelScene,
    opened,
    stream_of,
)

NEW_LOGIN = replace(LOGIN, token="the second token")
UNREACHABLE = GatewayUnreachable("nobody there")
INSIDE = IPv4Address("10.9.0.1").packed
OWN = str(LEASE.addresses[0])


def outgoing(payload: bytes = b"out", source: str = OWN) -> bytes:
    return ipv4_packet(IPv4Address(source).packed, INSIDE, payload)


def incoming(payload: bytes = b"in", target: str = OWN) -> bytes:
    return ipv4_packet(INSIDE, IPv4Address(target).packed, payload)


def error_of(scene: TunnelScene) -> BaseException:
    [end] = scene.ends
    assert isinstance(end, Failure)
    assert end.value is not None
    return end.value


class UpTests:
    def test_packets_go_both_ways(self) -> None:
        scene = TunnelScene()
        scene.adapter.inject([outgoing()])
        scene.stream.feed_packet(PacketKind.DATA, incoming())
        assert [frame[8:] for frame in scene.stream.frames] == [outgoing()]
        assert scene.adapter.written == [incoming()]
        assert scene.stream.is_reading

    def test_it_says_what_there_is(self) -> None:
        scene = TunnelScene(opened(banner="Welcome"))
        [ready] = scene.told(TunnelReady)
        assert (ready.device, ready.mtu_bytes) == ("memory0", 1400)
        assert ready.tls == "TLSv1.3 TLS_AES_256_GCM_SHA384"
        assert scene.told(MessageShown) == [MessageShown("Welcome")]
        scene.clock.advance(5)
        status = scene.tunnel.status()
        assert status.is_connected
        assert (status.channel, status.cipher) == (ChannelName.CSTP, ready.tls)
        assert (status.mtu_bytes, status.reconnects, status.connected_at_s) == (1400, 0, 0)

    def test_without_an_adapter_the_connection_is_closed(self) -> None:
        class Broken:
            async def open(self, settings: AdapterSettings) -> object:
                raise TunUnavailable("no tun device")

        scene = TunnelScene(adapters=Broken())
        with pytest.raises(TunUnavailable):
            scene.started.result.raiseException()  # type: ignore[union-attr]  # a failure
        scene.started.addErrback(lambda _: None)
        assert scene.stream.aborted

    def test_a_probe_measures_the_round_trip(self) -> None:
        scene = TunnelScene()
        scene.clock.advance(1)
        scene.tunnel.probe()
        assert scene.stream.kinds == [PacketKind.DPD_REQUEST]
        scene.clock.advance(0.25)
        scene.stream.feed_packet(PacketKind.DPD_RESPONSE)
        assert scene.tunnel.status().round_trip_s == 0.25


class EndTests:
    def test_goodbye_logout_and_nothing_left(self) -> None:
        scene = TunnelScene()
        scene.run(scene.tunnel.disconnect())
        assert scene.stream.kinds == [PacketKind.DISCONNECT]
        assert read_goodbye(scene.stream.frames[0][8:]).reason == GOODBYE_BY_USER
        assert scene.ends == ["disconnected by the user"]
        assert scene.adapter.is_closed and scene.stream.is_closed
        assert scene.source.logged_out == [LOGIN.token]
        assert scene.told(Disconnected) == [Disconnected("disconnected by the user")]
        assert scene.clock.getDelayedCalls() == []
        assert scene.tunnel.is_ending

    def test_a_second_goodbye_waits_for_the_first(self) -> None:
        scene = TunnelScene()
        ends = [scene.run(scene.tunnel.disconnect()) for _ in range(2)]
        assert all(each.called for each in ends)
        assert scene.stream.kinds == [PacketKind.DISCONNECT]

    def test_detaching_says_nothing(self) -> None:
        scene = TunnelScene()
        scene.run(scene.tunnel.detach())
        assert scene.stream.kinds == []
        assert scene.adapter.is_closed and scene.stream.is_closed
        assert scene.source.logged_out == []
        assert scene.clock.getDelayedCalls() == []

    def test_the_gateway_says_goodbye(self) -> None:
        scene = TunnelScene()
        goodbye = write_goodbye(Goodbye(GOODBYE_BY_USER, "maintenance"))
        scene.stream.feed_packet(PacketKind.DISCONNECT, goodbye)
        assert scene.ends == ["the gateway ended the session: maintenance"]
        assert scene.stream.kinds == [PacketKind.DISCONNECT]
        assert scene.adapter.is_closed
        assert scene.source.logged_out == []

    def test_an_adapter_that_is_gone_is_the_end(self) -> None:
        scene = TunnelScene()
        scene.adapter.on_lost("somebody removed it")
        assert isinstance(error_of(scene), TunUnavailable)
        assert str(error_of(scene)) == "somebody removed it"
        assert scene.stream.is_closed
        scene.adapter.on_lost("once more")
        assert len(scene.ends) == 1

    def test_what_comes_after_the_end_is_nothing(self) -> None:
        scene = TunnelScene()
        scene.run(scene.tunnel.disconnect())
        scene.stream.break_off()
        scene.tunnel.reconnect_now()
        scene.pass_time(100)
        assert scene.source.asked == []
        assert len(scene.ends) == 1

    def test_an_adapter_that_cannot_be_undone_is_no_reason_to_stay(self) -> None:
        scene = TunnelScene()

        async def close() -> None:
            raise TunUnavailable("the routes are stuck")

        scene.adapter.close = close  # type: ignore[method-assign]
        ended = scene.run(scene.tunnel.disconnect())
        ended.addErrback(lambda _: None)
        assert scene.source.logged_out == [LOGIN.token]
        assert len(scene.ends) == 1

    def test_cancelling_the_end_is_no_reason_to_wait_for_ever(self) -> None:
        scene = TunnelScene()
        scene.source.log_out = lambda login: Deferred()  # type: ignore[method-assign, assignment, return-value]
        ending = scene.run(scene.tunnel.disconnect())
        ending.addErrback(lambda _: None)
        assert scene.ends == []
        ending.cancel()
        assert scene.ends == ["disconnected by the user"]

    def test_who_disconnects_while_it_is_lost_says_no_goodbye_but_logs_out(self) -> None:
        scene = TunnelScene(None, Deferred())
        scene.stream.break_off()
        scene.run(scene.tunnel.disconnect())
        assert scene.stream.kinds == []
        assert scene.source.logged_out == [LOGIN.token]
        assert scene.ends == ["disconnected by the user"]
        assert scene.clock.getDelayedCalls() == []


class LossTests:
    def test_a_lost_link_is_got_back_at_once_with_the_same_addresses(self) -> None:
        second = opened()
        scene = TunnelScene(None, second)
        scene.stream.break_off()
        assert scene.source.asked == [(LOGIN.token, LEASE.addresses)]
        assert scene.adapter.reconnects_prepared == 1
        assert scene.stream.is_closed
        scene.adapter.inject([outgoing()])
        assert stream_of(second).kinds == [PacketKind.DATA]
        stream_of(second).feed_packet(PacketKind.DATA, incoming())
        assert scene.adapter.written == [incoming()]
        assert PhaseEntered(Phase.RECONNECTING) in scene.events
        assert PhaseEntered(Phase.CONNECTED, "again") in scene.events
        assert scene.tunnel.status().reconnects == 1
        assert scene.adapter.applied == scene.adapter.applied[:1]

    def test_counters_go_on(self) -> None:
        scene = TunnelScene(None, opened())
        scene.adapter.inject([outgoing()])
        before = scene.tunnel.status().counters.sent_packets
        scene.stream.break_off()
        scene.adapter.inject([outgoing()])
        assert scene.tunnel.status().counters.sent_packets == before + 1

    def test_tries_come_at_growing_distances(self) -> None:
        scene = TunnelScene(None, *[UNREACHABLE] * 5, opened())
        scene.stream.break_off()
        scene.pass_time(14.75)
        assert len(scene.source.asked) == 4
        assert not scene.tunnel.status().is_connected
        scene.pass_time(1)
        assert len(scene.source.asked) == 5
        scene.pass_time(15)
        assert scene.tunnel.status().is_connected
        delays = [each.delay_s for each in scene.told(Retrying)]
        assert delays == [0, 1, 2, 4, 8, 15]
        assert scene.told(Retrying)[0].reason == "the peer closed the TLS connection"
        assert scene.told(Retrying)[1].reason == "nobody there"

    def test_it_is_given_up_when_the_time_is_up(self) -> None:
        settings = ClientSettings(reconnect_time_s=10)
        scene = TunnelScene(None, *[UNREACHABLE] * 9, settings=settings)
        scene.stream.break_off()
        scene.pass_time(20)
        assert len(scene.source.asked) == 4
        assert isinstance(error_of(scene), GatewayUnreachable)
        assert "within 7 s: nobody there" in str(error_of(scene))
        assert scene.adapter.is_closed
        assert scene.clock.getDelayedCalls() == []

    def test_without_time_one_try_is_made(self) -> None:
        scene = TunnelScene(None, UNREACHABLE, settings=ClientSettings(reconnect_time_s=0))
        scene.stream.break_off()
        assert len(scene.source.asked) == 1
        assert isinstance(error_of(scene), GatewayUnreachable)

    def test_a_gateway_that_grants_no_tunnel_now_is_asked_again(self) -> None:
        scene = TunnelScene(None, TunnelRefused("full", 503), opened())
        scene.stream.break_off()
        scene.pass_time(1)
        assert scene.tunnel.status().is_connected

    @pytest.mark.parametrize("why", [TokenRejected("who?"), GatewayUntrusted("another key")])
    def test_a_dead_token_takes_a_new_login(self, why: Any) -> None:
        scene = TunnelScene(None, why, opened(), logins=[NEW_LOGIN])
        scene.stream.break_off()
        assert [token for token, _ in scene.source.asked] == [LOGIN.token, NEW_LOGIN.token]
        assert scene.tunnel.login is NEW_LOGIN
        assert scene.tunnel.status().is_connected

    def test_a_denied_login_is_the_end(self) -> None:
        scene = TunnelScene(None, TokenRejected("who?"), logins=[LoginDenied("no")])
        scene.stream.break_off()
        assert isinstance(error_of(scene), LoginDenied)
        assert scene.adapter.is_closed

    def test_asked_to_reconnect(self) -> None:
        scene = TunnelScene(None, opened())
        scene.tunnel.reconnect_now()
        assert scene.told(Retrying)[0].reason == "asked to reconnect"
        assert scene.tunnel.status().is_connected

    def test_links_that_do_not_live_are_not_taken_without_end(self) -> None:
        """A gateway that grants each CONNECT, and drops it, must not keep us busy."""
        links = [opened() for _ in range(9)]
        scene = TunnelScene(None, *links, settings=ClientSettings(reconnect_time_s=20))
        scene.stream.break_off()
        for link in links[:4]:
            stream_of(link).break_off()
            scene.pass_time(8)
        assert [each.delay_s for each in scene.told(Retrying)] == [0, 1, 2, 4]
        assert isinstance(error_of(scene), GatewayUnreachable)

    def test_after_a_steady_link_tries_begin_anew(self) -> None:
        links = [opened() for _ in range(3)]
        scene = TunnelScene(None, *links)
        for stream in (scene.stream, *map(stream_of, links[:2])):
            scene.pass_time(10)
            stream.break_off()
        assert [each.delay_s for each in scene.told(Retrying)] == [0, 0, 0]

    def test_a_goodbye_that_comes_with_the_new_link_is_one(self) -> None:
        class Hasty(LinkStream):
            def resume_reading(self) -> None:
                super().resume_reading()
                self.feed_packet(PacketKind.DISCONNECT)

        waiting: Deferred[Any] = Deferred()
        scene = TunnelScene(None, waiting)
        scene.stream.break_off()
        waiting.callback(replace(opened(), stream=cast(Any, Hasty())))
        assert scene.ends == ["the gateway ended the session"]
        assert len(scene.source.asked) == 1

    def test_a_new_login_goes_where_the_old_one_was(self) -> None:
        """A name's resolver may be behind the tunnel that is lost."""
        scene = TunnelScene(None, TokenRejected("who?"), opened(), logins=[NEW_LOGIN])
        scene.stream.break_off()
        assert scene.source.addresses == [LOGIN.address]

    def test_nobody_in_between_gets_the_password_of_a_lenient_user(self) -> None:
        certificate = AcceptedCertificate(b"", "an unknown authority")
        scene = TunnelScene(
            None, GatewayUntrusted("another key"), login=replace(LOGIN, certificate=certificate)
        )
        scene.stream.break_off()
        assert isinstance(error_of(scene), GatewayUntrusted)
        assert scene.source.addresses == []

    def test_a_gateway_that_moves_is_looked_up_again(self) -> None:
        scene = TunnelScene(opened(dynamic_dns=True), UNREACHABLE, opened())
        scene.stream.break_off()
        assert scene.source.went_to == ["", LOGIN.address]
        assert scene.tunnel.status().is_connected

    def test_a_link_that_is_lost_while_another_is_made_is_not_tried_twice(self) -> None:
        waiting: Deferred[Any] = Deferred()
        scene = TunnelScene(None, waiting)
        scene.stream.break_off()
        scene.tunnel.reconnect_now()
        assert len(scene.source.asked) == 1
        waiting.callback(opened())
        assert scene.tunnel.status().is_connected

    def test_news_of_a_link_that_is_gone_mean_nothing(self) -> None:
        scene = TunnelScene(None, opened())
        scene.stream.break_off()
        scene.stream.break_off()
        scene.stream.feed_packet(PacketKind.DISCONNECT, write_goodbye(Goodbye(1, "")))
        assert scene.tunnel.status().is_connected
        assert scene.ends == []

    def test_packets_wait_for_the_next_link(self) -> None:
        waiting: Deferred[Any] = Deferred()
        second = opened()
        scene = TunnelScene(None, waiting)
        scene.stream.break_off()
        scene.adapter.inject([outgoing(b"waits")])
        waiting.callback(second)
        assert [each[8:] for each in stream_of(second).frames] == [outgoing(b"waits")]


class AnewTests:
    """What a new link grants is applied."""

    def test_another_address(self) -> None:
        lease = Lease(IPv4Interface("10.1.0.8/24"))
        second = opened(lease=lease, banner="Moved")
        scene = TunnelScene(opened(banner="Welcome"), second)
        scene.adapter.inject([outgoing()])
        scene.stream.break_off()
        assert scene.adapter.applied[-1].granted.lease == lease
        assert scene.told(AdapterChanged)[-1].mtu_bytes == 1400
        scene.adapter.inject([outgoing(source="10.1.0.8")])
        assert stream_of(second).kinds == [PacketKind.DATA]
        assert scene.tunnel.status().counters.sent_packets == 2
        assert [each.text for each in scene.told(MessageShown)] == ["Welcome", "Moved"]

    def test_the_same_banner_is_shown_once(self) -> None:
        scene = TunnelScene(opened(banner="Welcome"), opened(banner="Welcome"))
        scene.stream.break_off()
        assert len(scene.told(MessageShown)) == 1

    def test_another_mtu(self) -> None:
        scene = TunnelScene(None, opened(mtu_bytes=1300))
        scene.stream.break_off()
        assert [each.mtu_bytes for each in scene.adapter.applied] == [1400, 1300]
        assert scene.tunnel.status().mtu_bytes == 1300

    def test_what_changes_with_every_link_does_not_touch_the_adapter(self) -> None:
        scene = TunnelScene(opened(rekey_s=100), opened(rekey_s=200))
        scene.stream.break_off()
        assert len(scene.adapter.applied) == 1

    def test_one_change_after_the_other(self) -> None:
        scene = TunnelScene(None, opened(mtu_bytes=1300), opened(mtu_bytes=1200))
        gates: list[Deferred[None]] = []
        apply = scene.adapter.apply

        async def slowly(settings: AdapterSettings) -> None:
            gates.append(Deferred())
            await gates[-1]
            await apply(settings)

        scene.adapter.apply = slowly  # type: ignore[method-assign]
        scene.stream.break_off()
        scene.tunnel.reconnect_now()
        assert len(gates) == 1
        gates[0].callback(None)
        gates[1].callback(None)
        assert [each.mtu_bytes for each in scene.adapter.applied] == [1400, 1300, 1200]

    def test_an_adapter_that_cannot_change_is_the_end(self) -> None:
        scene = TunnelScene(None, opened(mtu_bytes=1300))

        async def apply(settings: AdapterSettings) -> None:
            raise TunUnavailable("the device is gone")

        scene.adapter.apply = apply  # type: ignore[method-assign]
        scene.stream.break_off()
        assert isinstance(error_of(scene), TunUnavailable)


class DTLSTests:
    @pytest.fixture(autouse=True)
    def no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.datagrams = ClientDatagrams()
        monkeypatch.setattr("anyvpn.client.tunnel.GatewayDatagrams", lambda _: self.datagrams)

    def test_the_user_is_told_where_data_goes(self) -> None:
        scene = TunnelScene(opened(dtls=GRANT, dpd_s=10))
        assert PhaseEntered(Phase.DTLS, "data goes over TLS meanwhile") in scene.events
        self.datagrams.shake_hands(0)
        assert [each.channel for each in scene.told(ChannelChanged)] == [ChannelName.DTLS]
        assert scene.tunnel.status().channel is ChannelName.DTLS
        assert scene.told(AdapterChanged) == []
        assert scene.adapter.applied[0].mtu_bytes == 1380

    def test_without_dtls_the_adapter_gets_the_mtu_of_tls(self) -> None:
        scene = TunnelScene(opened(dtls=GRANT))
        scene.pass_time(32)
        assert [each.mtu_bytes for each in scene.adapter.applied] == [1380, 1400]
        [told] = scene.told(AdapterChanged)
        assert (told.mtu_bytes, told.reason[:16]) == (1400, "there is no DTLS")

    def test_it_is_told_as_a_reconnect_even_if_the_mtu_stays(self) -> None:
        scene = TunnelScene(opened(dtls=replace(GRANT, mtu_bytes=1400)))
        scene.pass_time(32)
        assert len(scene.adapter.applied) == 1
        assert len(scene.told(AdapterChanged)) == 1

    def test_the_mtu_of_dtls_comes_back_with_it(self) -> None:
        scene = TunnelScene(opened(dtls=GRANT))
        scene.pass_time(32 + 61)
        self.datagrams.shake_hands(scene.clock.seconds())
        assert [each.mtu_bytes for each in scene.adapter.applied] == [1380, 1400, 1380]

    def test_a_link_that_is_lost_takes_its_channel_along(self) -> None:
        waiting: Deferred[Any] = Deferred()
        scene = TunnelScene(opened(dtls=GRANT), waiting)
        self.datagrams.shake_hands(0)
        scene.stream.break_off()
        assert self.datagrams.path is None
        waiting.callback(opened(dtls=GRANT))
        self.datagrams.shake_hands(0)
        assert scene.tunnel.status().channel is ChannelName.DTLS


class RekeyTests:
    def rekeying(self, *links: Any, **options: Any) -> TunnelScene:
        return TunnelScene(opened(rekey_s=100, rekey_method="new-tunnel"), *links, **options)

    def test_the_next_link_is_made_beside_the_old_one(self) -> None:
        waiting: Deferred[Any] = Deferred()
        second = opened(rekey_s=100, rekey_method="new-tunnel")
        scene = self.rekeying(waiting)
        scene.pass_time(99.5)
        assert scene.source.asked == []
        scene.pass_time(1)
        assert scene.source.asked == [(LOGIN.token, LEASE.addresses)]
        scene.adapter.inject([outgoing(b"one")])
        assert scene.stream.kinds == [PacketKind.DATA]
        assert PhaseEntered(Phase.CSTP, "new keys") in scene.events
        waiting.callback(second)
        assert scene.stream.is_closed
        scene.adapter.inject([outgoing(b"two")])
        assert stream_of(second).kinds == [PacketKind.DATA]
        assert PhaseEntered(Phase.CONNECTED, "with new keys") in scene.events
        assert scene.tunnel.status().reconnects == 0
        assert scene.adapter.reconnects_prepared == 0

    def test_the_gateways_goodbye_to_the_old_link_is_none(self) -> None:
        """As ocserv says it when the new CONNECT takes the session over."""
        waiting: Deferred[Any] = Deferred()
        scene = self.rekeying(waiting)
        scene.pass_time(101)
        scene.stream.feed_packet(PacketKind.DISCONNECT, write_goodbye(Goodbye(1, "taken over")))
        scene.stream.break_off()
        assert scene.ends == []
        waiting.callback(opened())
        assert scene.tunnel.status().is_connected
        assert len(scene.source.asked) == 1

    def test_without_new_keys_the_old_ones_stay_for_a_while(self) -> None:
        scene = self.rekeying(UNREACHABLE, opened())
        scene.pass_time(101)
        scene.adapter.inject([outgoing()])
        assert scene.stream.kinds == [PacketKind.DATA]
        scene.pass_time(58)
        assert len(scene.source.asked) == 1
        scene.pass_time(3)
        assert len(scene.source.asked) == 2
        assert PhaseEntered(Phase.CONNECTED, "with new keys") in scene.events

    def test_a_goodbye_while_new_keys_are_refused_is_the_end(self) -> None:
        waiting: Deferred[Any] = Deferred()
        scene = self.rekeying(waiting)
        scene.pass_time(101)
        scene.stream.feed_packet(PacketKind.DISCONNECT, write_goodbye(Goodbye(1, "you are out")))
        waiting.errback(TokenRejected("who?"))
        assert scene.ends == ["the gateway ended the session: you are out"]
        assert scene.source.addresses == []

    def test_without_new_keys_and_without_the_old_link_it_is_got_back(self) -> None:
        waiting: Deferred[Any] = Deferred()
        scene = self.rekeying(waiting, opened())
        scene.pass_time(101)
        scene.stream.break_off()
        waiting.errback(UNREACHABLE)
        assert len(scene.source.asked) == 2
        assert PhaseEntered(Phase.CONNECTED, "again") in scene.events
        assert scene.tunnel.status().is_connected

    def test_whoever_disconnects_meanwhile_gets_no_other_link(self) -> None:
        waiting: Deferred[Any] = Deferred()
        scene = self.rekeying(waiting)
        scene.pass_time(101)
        scene.run(scene.tunnel.disconnect())
        assert waiting.called
        assert scene.stream.is_closed
        assert scene.clock.getDelayedCalls() == []

    def test_no_method_no_new_keys(self) -> None:
        scene = TunnelScene(opened(rekey_s=100, rekey_method="none"))
        scene.pass_time(300)
        assert scene.source.asked == []


class ProbeTests:
    """Dead peer detection of the CSTP channel."""

    def test_a_silent_gateway_is_probed_then_given_up(self) -> None:
        scene = TunnelScene(opened(dpd_s=10), opened())
        scene.pass_time(9.5)
        assert scene.stream.kinds == []
        scene.pass_time(1)
        assert scene.stream.kinds == [PacketKind.DPD_REQUEST]
        scene.pass_time(9)
        assert scene.source.asked == []
        scene.pass_time(1)
        assert len(scene.source.asked) == 1
        assert "no sign of life for 20 s" in scene.told(Retrying)[0].reason

    def test_an_answer_is_life(self) -> None:
        scene = TunnelScene(opened(dpd_s=10))
        for _ in range(6):
            scene.pass_time(11)
            scene.stream.feed_packet(PacketKind.DPD_RESPONSE)
        assert scene.source.asked == []

    def test_our_own_interval_counts_before_the_gateways(self) -> None:
        scene = TunnelScene(opened(dpd_s=100), opened(), settings=ClientSettings(dpd_s=2))
        scene.pass_time(2.5)
        assert scene.stream.kinds == [PacketKind.DPD_REQUEST]

    def test_a_quiet_tunnel_is_kept_alive(self) -> None:
        scene = TunnelScene(opened(keepalive_s=20))
        scene.pass_time(61)
        assert scene.stream.kinds == [PacketKind.KEEPALIVE] * 3

    def test_probes_of_the_gateway_are_answered(self) -> None:
        scene = TunnelScene()
        scene.stream.feed_packet(PacketKind.DPD_REQUEST, b"abc")
        assert scene.stream.frames[0][6:] == bytes([PacketKind.DPD_RESPONSE, 0]) + b"abc"


def test_the_gateways_address_is_the_adapters_to_keep_reachable() -> None:
    scene = TunnelScene()
    settings = scene.adapter.applied[0]
    assert settings.gateway_address == IPv4Address("192.0.2.1")
    assert settings.gateway_name == "vpn.example.com"
