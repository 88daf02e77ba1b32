"""A hundred tunnels of one process to one gateway, each with its own traffic."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from anyvpn.testing.programs import Program
from tests.interop.gateway import NAME, PASSWORD, PORT
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.site import Site

TUNNELS = 100

DRIVER = f"""
import sys
from ipaddress import ip_address
from pathlib import Path
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults
from anyvpn.backends import responder_given
from anyvpn.client.settings import ClientSettings
from anyvpn.client.trust import TrustSettings
from anyvpn.client.vpn_client import VPNClient
from anyvpn.testing.memory_tun import MemoryAdapterBackend
from anyvpn.packets.checksums import internet_checksum

def echo_request(source, destination):
    body = b"\\x08\\0\\0\\0\\0\\1\\0\\1" + bytes(48)
    body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
    head = b"\\x45\\0" + (20 + len(body)).to_bytes(2, "big") + b"\\0\\1\\0\\0\\x40\\1\\0\\0"
    head += source.packed + destination.packed
    head = head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:]
    return head + body

async def one(adapters, settings):
    given = responder_given.build(responder_given.Settings("alice", "{PASSWORD}"), reactor)
    return await VPNClient(reactor, "{NAME}:{PORT}", given, adapters, settings).connect()

async def main(reactor):
    adapters = MemoryAdapterBackend()
    trust = TrustSettings(ca_file=Path(sys.argv[1]))
    settings = ClientSettings(trust=trust, resolve={{"{NAME}": "{GATEWAY_ADDRESS}"}}, ipv6=False)
    inside = ip_address(sys.argv[2])
    tunnels = []
    for _ in range({TUNNELS // 10}):
        ten = [Deferred.fromCoroutine(one(adapters, settings)) for _ in range(10)]
        tunnels += await gatherResults(ten)
    addresses = {{each.settings.lease.ipv4.ip for each in tunnels}}
    async def until(look, limit_s=60):
        for _ in range(limit_s * 10):
            if look():
                return
            await task.deferLater(reactor, 0.1)
    await until(lambda: all(each.status().channel.value == "dtls" for each in tunnels))
    for tunnel in tunnels:
        source = tunnel.settings.lease.ipv4.ip
        tunnel.adapter.inject([echo_request(source, inside)])
    def answers():
        return sum(
            any(
                each[16:20] == tunnel.settings.lease.ipv4.ip.packed and each[20] == 0
                for each in tunnel.adapter.written
            )
            for tunnel in tunnels
        )
    await until(lambda: answers() == len(tunnels))
    answered = answers()
    channels = {{tunnel.status().channel.value for tunnel in tunnels}}
    print("addresses", len(addresses), "answered", answered, "channels", *channels)
    await gatherResults([Deferred.fromCoroutine(each.disconnect()) for each in tunnels])
    print("closed", sum(each.is_closed for each in adapters.adapters))

task.react(main)
"""


def test_a_hundred_tunnels_in_one_process(site: Site) -> None:
    host = site.network.host(5)
    program = Program(
        "the driver",
        host.namespace.command(
            [
                *(sys.executable, "-c", DRIVER),
                *(str(site.gateway.ca_file), site.gateway.inner_addresses[0]),
            ]
        ),
        environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert program.wait_for_end(240) == 0, program.output()[-2000:]
    finally:
        program.stop()
    assert program.find(f"addresses {TUNNELS} answered {TUNNELS} channels dtls"), program.output()
    assert program.find(f"closed {TUNNELS}")
