"""What a scripted client does to a gateway, whichever it is: good and bad ways."""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from anyvpn.testing.ocserv import NAME, PASSWORD, PORT
from anyvpn.testing.programs import Program, UnmetExpectation
from anyvpn.testing.scripted_answers import Ending
from anyvpn.testing.scripted_client import TUNNEL_PATH, ScriptedClient
from anyvpn.testing.scripted_requests import http_request, init, offer
from anyvpn.wire.cstp import PacketKind, frame_packet
from tests.interop.gateway import REPOSITORY
from tests.interop.network import GATEWAY_ADDRESS
from tests.interop.ocserv_site import OcservSite
from tests.interop.site import Site

PAGE = REPOSITORY / "docs" / "testing.md"
HOST = 3
ANSWERS = {"username": "alice", "password": PASSWORD}
PROBE = b"are you there"
_ALL_LINES = re.DOTALL | re.MULTILINE


def client_of(site: Site | OcservSite, **options: Any) -> ScriptedClient:
    namespace = site.network.host(HOST).namespace
    return ScriptedClient(
        GATEWAY_ADDRESS,
        PORT,
        name=NAME,
        ca_file=site.gateway.ca_file,
        new_socket=namespace.socket,
        **options,
    )


class GoodWays:
    """What any AnyConnect gateway does."""

    def test_a_login_step_by_step(self, peer: Any) -> None:
        with client_of(peer) as client:
            token = client.log_in(**ANSWERS)
            assert token
            assert client.token == token

    def test_a_tunnel_over_tls(self, peer: Any) -> None:
        with client_of(peer) as client:
            client.log_in(**ANSWERS)
            tunnel = client.connect(("X-CSTP-Base-MTU", "1300"))
            assert tunnel.settings.mtu_bytes < 1300
            tunnel.send(frame_packet(PacketKind.DPD_REQUEST, PROBE))
            assert tunnel.frame_of(PacketKind.DPD_RESPONSE) == PROBE
            tunnel.send(frame_packet(PacketKind.DISCONNECT, b"\xb0over"))
            assert tunnel.wait_closed() in (Ending.CLOSE, Ending.CUT, Ending.RESET)

    def test_a_tunnel_over_dtls(self, peer: Any) -> None:
        with client_of(peer) as client:
            client.log_in(**ANSWERS)
            tunnel = client.connect()
            datagrams = tunnel.datagrams()
            datagrams.shake_hands()
            datagrams.send(PacketKind.DPD_REQUEST, PROBE)
            assert datagrams.receive_of(PacketKind.DPD_RESPONSE) == PROBE
            datagrams.send(PacketKind.DPD_REQUEST, PROBE)
            with pytest.raises(UnmetExpectation, match=r"within|no datagram"):
                datagrams.receive_of(PacketKind.DISCONNECT, limit_s=0.3)
            datagrams.close()

    def test_slow_bytes_are_bytes(self, peer: Any) -> None:
        with client_of(peer) as client:
            client.send(http_request("POST", "/", init()), piece_bytes=97, pause_s=0.02)
            client.answer().expect(200)


class BadWays:
    """What no gateway may fall over, nor take for right."""

    def test_a_wrong_password_is_not_let_in(self, peer: Any) -> None:
        with (
            client_of(peer) as client,
            pytest.raises(UnmetExpectation, match="expected: the session"),
        ):
            client.log_in(**{**ANSWERS, "password": "wrong"})

    def test_half_a_request_is_not_answered(self, peer: Any) -> None:
        for ending in (ScriptedClient.close, ScriptedClient.cut, ScriptedClient.reset):
            with client_of(peer) as client:
                client.send(http_request("POST", "/", init())[:150])
                with pytest.raises(UnmetExpectation, match="nothing comes within"):
                    client.line.receive(limit_s=0.3)
                ending(client)
        self.is_well(peer)

    def test_a_token_of_nobody_opens_no_tunnel(self, peer: Any) -> None:
        with client_of(peer) as client:
            wanted = offer(secrets.token_hex(32))
            client.send(http_request("CONNECT", TUNNEL_PATH, b"", *wanted))
            assert client.answer("CONNECT").status in (401, 403, 503)

    def test_bytes_below_tls_end_the_connection(self, peer: Any) -> None:
        with client_of(peer) as client:
            client.post("/", init()).expect(200)
            client.send_below(b"no record of TLS at all\r\n\r\n")
            client.wait_closed()
        self.is_well(peer)

    def test_garbage_beside_a_tunnel_disturbs_nobody(self, peer: Any) -> None:
        with client_of(peer) as client:
            client.log_in(**ANSWERS)
            tunnel = client.connect()
            datagrams = tunnel.datagrams()
            datagrams.shake_hands()
            good = datagrams.seal(PacketKind.DPD_REQUEST, PROBE)
            garbage = (b"\x00", b"\x16\xfe\xfd" + bytes(60), secrets.token_bytes(1000))
            datagrams.send_raw(*garbage, good[:-1] + bytes((good[-1] ^ 1,)), good[:20], good, good)
            assert datagrams.receive_of(PacketKind.DPD_RESPONSE) == PROBE
            tunnel.send(frame_packet(PacketKind.DPD_REQUEST, PROBE))
            assert tunnel.frame_of(PacketKind.DPD_RESPONSE) == PROBE

    @pytest.mark.parametrize("ending", ["close", "cut", "reset"])
    def test_a_tunnel_may_end_anyhow(self, peer: Any, ending: str) -> None:
        with client_of(peer) as client:
            client.log_in(**ANSWERS)
            tunnel = client.connect()
            getattr(tunnel, ending)()
        self.is_well(peer)

    def is_well(self, peer: Any) -> None:
        """The next one is served."""
        with client_of(peer) as client:
            assert client.log_in(**ANSWERS)


def run_the_page_s_example(site: Site | OcservSite, directory: Path) -> None:
    """The test file of docs/testing.md, copied out and run as somebody else's."""
    found = re.search(r"`(test_\w+\.py)`:\n\n```python\n(.*?)^```", PAGE.read_text(), _ALL_LINES)
    assert found is not None
    (directory / found[1]).write_text(found[2])
    program = Program(
        "pytest",
        site.network.host(HOST).namespace.command(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(directory)]
        ),
        environment={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "VPN_ADDRESS": GATEWAY_ADDRESS,
            "VPN_PORT": str(PORT),
            "VPN_NAME": NAME,
            "VPN_AUTHORITY": str(site.gateway.ca_file),
            "VPN_USER": ANSWERS["username"],
            "VPN_PASSWORD": ANSWERS["password"],
        },
        directory=directory,
    )
    assert program.wait_for_end(60) == 0, program.output()
    assert program.find(r"^5 passed"), program.output()
