"""Our client in a tunnel with a gateway that sends what it must not, over real TLS on loopback."""

from __future__ import annotations

import pytest

from anyvpn.client.trust import TrustSettings
from anyvpn.client.tunnel import VPNTunnel
from anyvpn.errors import GatewayUnreachable, GatewayUntrusted
from anyvpn.model.client_events import Retrying
from anyvpn.testing.scripted_answers import (
    changing_certificate,
    cut,
    form,
    grant,
    page,
    success,
)
from anyvpn.testing.scripted_connection import ScriptedTunnel
from anyvpn.testing.scripted_gateway import ScriptedGateway, ScriptedStep, connect, containing, post
from anyvpn.wire.cstp import PacketKind, frame_packet
from tests.interop.hostile_case import ASK, PASSWORD, HostileCase, asynchronous

IN = post("/auth", success())
PROBE = b"are you there"


def packet(version_and_length: int, *, total_bytes: int, size_bytes: int) -> bytes:
    """An IPv4 packet that says of itself that it is `total_bytes` long."""
    head = bytes([version_and_length, 0, *total_bytes.to_bytes(2, "big"), 0, 0, 0, 0, 64, 17])
    return (head + b"\0\0" + b"\xc0\0\x02\x01" + b"\xc0\0\x02\x64").ljust(size_bytes, b"\0")


class HostileTunnelTests(HostileCase):
    async def tunnel(self, *further: ScriptedStep) -> tuple[VPNTunnel, ScriptedTunnel]:
        """Both ends of a tunnel; the script goes on with `further`."""
        self.site = await self.gateway(ASK, IN, connect(grant()), *further)
        ours = await self.client(self.site).connect()
        return ours, await self.site.tunnel()

    async def works(self, theirs: ScriptedTunnel) -> None:
        """Whether probes are answered."""
        theirs.send(frame_packet(PacketKind.DPD_REQUEST, PROBE))
        while await theirs.frame() != (PacketKind.DPD_RESPONSE, PROBE):
            pass

    async def leave(self, ours: VPNTunnel, site: ScriptedGateway) -> None:
        """The end that a user wants."""
        await ours.disconnect()
        await site.wait_until_left()
        assert all(each.is_closed for each in self.adapters.adapters)
        await site.close()

    @asynchronous
    async def test_garbage_costs_the_link_and_nothing_else(self) -> None:
        garbage = (
            b"HTTP/1.1 500 Oops\r\n\r\n",
            b"STF\x01\xff\xff\x00\x00",  # longer than any packet
            b"STF\x01\x00\x00\x00\x01",  # the last byte is 0
            b"\0" * 16384,
        )
        for data in garbage:
            ours, theirs = await self.tunnel(connect(grant()))
            await self.works(theirs)
            theirs.send(data)
            await theirs.wait_closed()
            await self.works(await self.site.tunnel())
            assert ours.status().reconnects == 1
            await self.leave(ours, self.site)
        assert len(self.adapters.adapters) == len(garbage)

    @asynchronous
    async def test_packets_that_are_none_go_nowhere(self) -> None:
        ours, theirs = await self.tunnel()
        hostile = (
            b"",
            b"\x45",
            b"\x00" * 20,
            packet(0x41, total_bytes=28, size_bytes=28),
            packet(0x4F, total_bytes=28, size_bytes=28),
            packet(0x45, total_bytes=65535, size_bytes=28),
            packet(0x45, total_bytes=0, size_bytes=28),
            b"\x60" + bytes(10),
            b"\xff" * 1400,
        )
        for data in hostile:
            theirs.send(frame_packet(PacketKind.DATA, data))
        theirs.send(frame_packet(PacketKind.COMPRESSED, b"\x11\x22\x33"))
        for kind in (2, 77, 255):
            theirs.send(frame_packet(kind, b"of no kind"))
        good = packet(0x45, total_bytes=28, size_bytes=28)
        theirs.send(frame_packet(PacketKind.DATA, good))
        await self.works(theirs)
        [adapter] = self.adapters.adapters
        assert adapter.written[-1] == good
        assert ours.status().is_connected
        await self.leave(ours, self.site)

    @asynchronous
    async def test_a_flood_of_probes_is_answered_or_cut_but_not_kept(self) -> None:
        ours, theirs = await self.tunnel()
        for _ in range(5000):
            theirs.send(frame_packet(PacketKind.DPD_REQUEST, bytes(100)))
        await self.works(theirs)
        await self.leave(ours, self.site)

    @asynchronous
    async def test_a_gateway_that_is_gone_for_good_is_given_up(self) -> None:
        for broken in (cut(grant(), after_bytes=0), page(status=503), grant(("X-CSTP-MTU", "0"))):
            ours, theirs = await self.tunnel(connect(broken))
            theirs.reset()
            with pytest.raises(GatewayUnreachable, match="could not be got back"):
                await ours.wait_closed()
            await self.site.wait_until_left()
            assert any(isinstance(each, Retrying) for each in self.events)
            assert all(each.is_closed for each in self.adapters.adapters)

    @asynchronous
    async def test_a_session_that_is_forgotten_takes_a_new_login(self) -> None:
        password = containing(b"<password>" + PASSWORD.encode() + b"</password>")
        again = (post("/", form("username", "password")), post("/auth", success(), password))
        ours, theirs = await self.tunnel(connect(page(status=401)), *again, connect(grant()))
        theirs.close()
        await self.works(await self.site.tunnel())
        await self.leave(ours, self.site)

    @asynchronous
    async def test_another_gateway_gets_no_token_when_the_link_is_lost(self) -> None:
        site = await self.gateway(ASK, IN, connect(changing_certificate(grant())))
        trust = TrustSettings(system_trust=False, pins=(site.pin,))
        ours = await self.client(site, trust=trust).connect()
        (await site.tunnel()).reset()
        with pytest.raises(GatewayUntrusted):
            await ours.wait_closed()
        await site.wait_until_left()
        await site.close()
        assert site.connections_made > 1
        assert all(each.is_closed for each in self.adapters.adapters)

    @asynchronous
    async def test_a_goodbye_ends_it_and_its_reason_is_harmless(self) -> None:
        for kind in (PacketKind.DISCONNECT, PacketKind.TERMINATE):
            ours, theirs = await self.tunnel()
            theirs.send(frame_packet(kind, b"\xb0\x1b]0;owned\x07\xff\n" + b"a" * 10_000))
            reason = await ours.wait_closed()
            assert reason.isprintable(), ascii(reason)
            assert len(reason) < 500
            await self.site.wait_until_left()
            await self.site.close()
