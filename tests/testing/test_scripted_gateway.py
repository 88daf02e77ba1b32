"""The scripted gateway, asked by Python's own TLS and HTTP in a thread."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any
from xml.etree import ElementTree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_answers import (
    TOKEN,
    Ending,
    ScriptedAnswer,
    announce,
    changing_certificate,
    cut,
    endlessly,
    form,
    grant,
    page,
    raw,
    redirect,
    refusal,
    slowly,
    success,
)
from anyvpn.testing.scripted_gateway import (
    ScriptedGateway,
    ScriptedStep,
    connect,
    containing,
    get,
    post,
)
from anyvpn.wire.cstp import PacketKind, frame_packet

PATIENCE_S = 5.0
GET = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
CONNECT = b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: gateway\r\n\r\n"


def asynchronous(
    test: Callable[[Any], Coroutine[Deferred[Any], Any, None]],
) -> Callable[[Any], Deferred[None]]:
    return lambda case: Deferred.fromCoroutine(test(case))


def posted(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Peer:
    """A client whose calls wait, each in a thread."""

    def __init__(self, gateway: ScriptedGateway) -> None:
        context = ssl.create_default_context(cadata=gateway.authority_pem.decode())
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        tcp = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_S)
        self.tls = context.wrap_socket(tcp, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    def say(self, data: bytes, until: bytes | None = None) -> bytes:
        """Send, and read until this has come; without it, to the end."""
        self.tls.sendall(data)
        received = b""
        while until is None or until not in received:
            chunk = self.tls.recv(65536)
            if not chunk:
                break
            received += chunk
        return received

    def say_and_read_below(self, data: bytes) -> None:
        """Send, and read to the end without TLS, which tells no reset from an end."""
        self.tls.sendall(data)
        with socket.socket(fileno=os.dup(self.tls.fileno())) as tcp:
            tcp.settimeout(PATIENCE_S)
            while tcp.recv(65536):
                pass

    def pin(self) -> str:
        """The key that it was shown."""
        der = self.tls.getpeercert(binary_form=True)
        assert der is not None
        key = x509.load_der_x509_certificate(der).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return "pin-sha256:" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


class GatewayCase(TestCase):
    timeout = 20

    async def begin(self, *steps: ScriptedStep) -> Peer:
        self.gateway = ScriptedGateway(reactor, steps)  # type: ignore[arg-type]  # it has it all
        await self.gateway.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.gateway.close(all_steps=False)))
        return await self.peer()

    async def peer(self) -> Peer:
        peer: Peer = await deferToThread(Peer, self.gateway)
        self.addCleanup(peer.tls.close)
        return peer

    async def say(self, peer: Peer, data: bytes, until: bytes | None = None) -> bytes:
        said: bytes = await deferToThread(peer.say, data, until)
        return said

    async def answer(self, answer: ScriptedAnswer) -> bytes:
        """All that a client gets to see of it."""
        return await self.say(await self.begin(get("/", answer)), GET)


class ScriptTests(GatewayCase):
    @asynchronous
    async def test_requests_are_answered_in_their_order(self) -> None:
        peer = await self.begin(
            get("/", page(b"first")),
            post("/auth", page(b"second"), containing(b"secret", without=[b"guess"])),
        )
        assert (await self.say(peer, GET, b"first")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert (await self.say(peer, posted("/auth", b"my secret"), b"second")).endswith(b"second")
        first, second = self.gateway.requests
        assert (first.method, first.path, first.header("host")) == ("GET", "/", "gateway")
        assert (second.path, second.body, second.connection) == ("/auth", b"my secret", 1)
        await self.gateway.close()

    @asynchronous
    async def test_requests_that_come_at_once_are_answered_one_by_one(self) -> None:
        peer = await self.begin(get("/", page(b"first")), get("/", page(b"second")))
        assert b"first" in await self.say(peer, GET + GET, b"second")

    @asynchronous
    async def test_another_request_fails_the_test_and_says_what_came(self) -> None:
        peer = await self.begin(post("/auth", page(), containing(b"secret")))
        answer = await self.say(peer, posted("/auth", b"a\x1bguess"), b"guess")
        assert answer.startswith(b"HTTP/1.1 500 Not in the script")
        with pytest.raises(UnmetExpectation, match=r"(?s)expected: POST /auth.*came: .*a.guess"):
            await self.gateway.close(all_steps=False)
        assert self.gateway.unused_steps
        self.gateway.failures.clear()

    @asynchronous
    async def test_one_request_too_many_fails_whoever_waits(self) -> None:
        peer = await self.begin()
        await self.say(peer, GET, b"script")
        with pytest.raises(UnmetExpectation, match="the script is at its end"):
            await self.gateway.tunnel()
        self.gateway.failures.clear()

    @asynchronous
    async def test_what_is_no_http_fails_the_test(self) -> None:
        peer = await self.begin()
        await self.say(peer, b"STF\1\0\0\0\0\r\n\r\n", b"HTTP request")
        with pytest.raises(UnmetExpectation, match="no HTTP request"):
            await self.gateway.close()
        self.gateway.failures.clear()

    @asynchronous
    async def test_steps_that_nobody_asks_for_fail_the_test(self) -> None:
        await self.begin(get("/", page()))
        with pytest.raises(UnmetExpectation, match="before it asked for:\n  GET / with any"):
            await self.gateway.close()

    @asynchronous
    async def test_a_script_can_go_on(self) -> None:
        peer = await self.begin()
        self.gateway.add(get("", page(b"more")))
        assert b"more" in await self.say(peer, GET, b"more")

    @asynchronous
    async def test_it_knows_when_the_client_has_left(self) -> None:
        peer = await self.begin()
        assert self.gateway.open_connections == 1
        with pytest.raises(UnmetExpectation, match=r"not within 0\.02 s"):
            await self.gateway.wait_until_left(limit_s=0.02)
        peer.tls.close()
        await self.gateway.wait_until_left()
        assert self.gateway.open_connections == 0


class DocumentTests(GatewayCase):
    def body(self, answer: ScriptedAnswer) -> ElementTree.Element:
        return ElementTree.fromstring(answer.data.partition(b"\r\n\r\n")[2])

    def test_a_form_hides_what_is_secret(self) -> None:
        root = self.body(form("username", "password", message="Hello", error="No"))
        inputs = root.findall("auth/form/input")
        assert [(each.get("name"), each.get("type")) for each in inputs] == [
            ("username", "text"),
            ("password", "password"),
        ]
        assert root.findtext("auth/message") == "Hello"
        action = root.find("auth/form")
        assert action is not None
        assert action.get("action") == "/auth"

    def test_success_has_the_token_twice_and_the_profiles(self) -> None:
        answer = success(announce("/profile.xml", b"abc"), session_id="7")
        assert f"Set-Cookie: webvpn={TOKEN};".encode() in answer.data
        root = self.body(answer)
        assert root.findtext("session-token") == TOKEN
        assert root.findtext(".//vpn-profile-manifest/vpn/file/hash") == (
            hashlib.sha1(b"abc").hexdigest().upper()
        )

    def test_both_versions_of_the_protocol_are_there(self) -> None:
        assert self.body(form(version=1)).tag == "auth"
        assert self.body(form()).tag == "config-auth"
        assert self.body(refusal("Go away", version=1)).findtext("error") == "Go away"

    def test_headers_of_the_grant_can_be_replaced_and_left_out(self) -> None:
        data = grant(("X-CSTP-Address", "nonsense"), without=["X-CSTP-MTU"]).data
        assert data.count(b"X-CSTP-Address") == 1
        assert b"X-CSTP-Address: nonsense" in data
        assert b"X-CSTP-MTU" not in data
        assert b"X-CSTP-Netmask" in data

    def test_a_head_may_lie(self) -> None:
        assert b"Content-Length: 1000" in page(b"short", content_length=1000).data
        assert b"Location: https://elsewhere/" in redirect("https://elsewhere/").data


class FaultTests(GatewayCase):
    @asynchronous
    async def test_anything_at_all_can_be_sent(self) -> None:
        assert await self.answer(raw(b"\0\1\2")) == b"\0\1\2"

    @asynchronous
    async def test_slow_answers_take_their_time(self) -> None:
        began_at_s = time.monotonic()
        answer = slowly(raw(b"0123456789"), pause_s=0.005, piece_bytes=2)
        assert await self.answer(answer) == b"0123456789"
        assert time.monotonic() - began_at_s >= 0.02

    @asynchronous
    async def test_endless_answers_end_with_the_client(self) -> None:
        peer = await self.begin(get("/", endlessly(b"begin", b"again" * 100)))
        received = await self.say(peer, GET, b"again" * 2000)
        assert received.startswith(b"beginagain")
        peer.tls.close()
        await self.gateway.wait_until_left()

    @asynchronous
    async def test_endless_answers_wait_for_a_client_that_does_not_read(self) -> None:
        peer = await self.begin(get("/", endlessly(b"", bytes(4096))))
        await self.say(peer, GET, b"\0")
        await self.gateway.close()
        assert self.gateway.open_connections == 0

    @asynchronous
    async def test_a_close_is_one_of_tls(self) -> None:
        peer = await self.begin(get("/", cut(page(b"text"), after_bytes=8, ending=Ending.CLOSE)))
        assert await self.say(peer, GET) == b"HTTP/1.1"

    @asynchronous
    async def test_a_cut_is_none(self) -> None:
        peer = await self.begin(get("/", cut(page(b"text"), after_bytes=8)))
        with pytest.raises(ssl.SSLError, match="EOF"):
            await self.say(peer, GET)

    @asynchronous
    async def test_a_reset_is_a_reset(self) -> None:
        peer = await self.begin(get("/", cut(page(), after_bytes=0, ending=Ending.RESET)))
        with pytest.raises(ConnectionResetError):
            await deferToThread(peer.say_and_read_below, GET)

    @asynchronous
    async def test_a_silence_lasts_until_the_client_leaves(self) -> None:
        peer = await self.begin(get("/", cut(page(), after_bytes=8, ending=Ending.HANG)))
        assert await self.say(peer, GET, b"HTTP/1.1") == b"HTTP/1.1"
        peer.tls.settimeout(0.02)
        with pytest.raises(TimeoutError):
            await self.say(peer, GET)

    @asynchronous
    async def test_the_certificate_changes_for_the_next_connection(self) -> None:
        peer = await self.begin(get("/", changing_certificate(page(b"text"))))
        assert peer.pin() == self.gateway.pin
        await self.say(peer, GET)
        assert (await self.peer()).pin() == self.gateway.other_pin != self.gateway.pin


class TunnelTests(GatewayCase):
    @asynchronous
    async def test_after_connect_the_bytes_are_the_tests(self) -> None:
        peer = await self.begin(connect(grant()))
        await self.say(peer, CONNECT + b"at once", b"\r\n\r\n")
        tunnel = await self.gateway.tunnel()
        assert await tunnel.receive(7) == b"at once"
        tunnel.send(b"to the client")
        packet = frame_packet(PacketKind.DPD_RESPONSE, b"x")
        assert await self.say(peer, packet, b"client") == b"to the client"
        assert await tunnel.frame() == (PacketKind.DPD_RESPONSE, b"x")
        with pytest.raises(UnmetExpectation, match="1 bytes from the client"):
            await tunnel.receive(1, limit_s=0.02)
        peer.tls.close()
        await tunnel.wait_closed()
        with pytest.raises(UnmetExpectation, match="has ended the tunnel"):
            await tunnel.frame()
        await self.gateway.close()

    @asynchronous
    async def test_the_test_may_end_it(self) -> None:
        peer = await self.begin(connect(grant()))
        await self.say(peer, CONNECT, b"\r\n\r\n")
        (await self.gateway.tunnel()).close()
        assert await self.say(peer, b"") == b""
        peer.tls.close()
        await self.gateway.wait_until_left()
