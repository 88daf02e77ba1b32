"""Tests of anyvpn.client.outer_connection, with a proxy on loopback that says what a test wants."""

from __future__ import annotations

import gc
import socket
from base64 import b64decode
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from anyvpn.client.outer_connection import LARGEST_PROXY_ANSWER_BYTES, connect_outer
from anyvpn.client.settings import ProxySettings
from anyvpn.errors import GatewayUnreachable

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"
TIME_S = 5.0


class Proxy(Protocol):
    """Sends one answer after each thing that it hears; None closes, and so does the last."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.heard = b""
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if not self.answers:
            return
        answer = self.answers.pop(0)
        assert self.transport is not None
        if answer is None:
            self.transport.loseConnection()
        else:
            self.transport.write(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class Stream(Protocol):
    """Stands for the TLS stream: what it is handed once the way is open."""

    def __init__(self) -> None:
        self.received = b""
        self.made = False

    def connectionMade(self) -> None:
        self.made = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class ProxyCase(TestCase):
    kind = "http"

    async def connect(
        self,
        *answers: bytes | None,
        host: str = "vpn.example.com",
        login: tuple[str, str] = ("", ""),
        time_s: float = TIME_S,
    ) -> Stream:
        """Dial through a proxy that gives these answers."""
        self.proxy, self.stream = Proxy(*answers), Stream()
        listening = cast(IReactorTCP, reactor).listenTCP(
            0, Factory.forProtocol(lambda: self.proxy), interface="127.0.0.1"
        )
        self.addCleanup(listening.stopListening)
        settings = ProxySettings(self.kind, "127.0.0.1", listening.getHost().port, *login)
        try:
            await connect_outer(
                cast(Any, reactor),
                cast(Any, self.stream),
                host,
                443,
                proxy=settings,
                time_s=time_s,
            )
        finally:
            if self.stream.transport is not None:
                self.stream.transport.loseConnection()
            await self.proxy.gone
        return self.stream

    async def refusal(self, *answers: bytes | None, **options: Any) -> str:
        """What is said of a proxy that does not let us through."""
        error = await self.assertFailure(
            Deferred.fromCoroutine(self.connect(*answers, **options)), GatewayUnreachable
        )
        assert not self.stream.made
        text = str(error)
        assert text.startswith("the proxy 127.0.0.1: ")
        return text.removeprefix("the proxy 127.0.0.1: ")


class HTTPTests(ProxyCase):
    async def test_the_stream_gets_the_connection_once_the_way_is_open(self) -> None:
        stream = await self.connect(ESTABLISHED)
        assert stream.made and stream.received == b""
        head, _, rest = self.proxy.heard.partition(b"\r\n")
        assert head == b"CONNECT vpn.example.com:443 HTTP/1.1"
        assert b"Host: vpn.example.com:443\r\n" in rest
        assert b"authorization" not in rest.lower()
        assert rest.endswith(b"\r\n\r\n")

    async def test_what_follows_the_answer_is_the_streams(self) -> None:
        stream = await self.connect(ESTABLISHED + b"\x16\x03\x03")
        assert stream.received == b"\x16\x03\x03"

    async def test_preliminary_answers_are_waited_out(self) -> None:
        stream = await self.connect(b"HTTP/1.1 100 Continue\r\n\r\n" + ESTABLISHED)
        assert stream.made

    async def test_a_login_is_sent(self) -> None:
        await self.connect(ESTABLISHED, login=("älice", "p:w"))
        [line] = [each for each in self.proxy.heard.split(b"\r\n") if b"Basic " in each]
        assert b64decode(line.partition(b"Basic ")[2]) == "älice:p:w".encode()

    async def test_an_ipv6_address_stands_in_brackets(self) -> None:
        await self.connect(ESTABLISHED, host="2001:db8::1")
        assert self.proxy.heard.startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")

    async def test_each_refusal_is_told(self) -> None:
        for answer, why in (
            (b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n", "it wants a user name"),
            (
                b"HTTP/1.0 403 Not\x1bhere\r\n\r\n<html>",
                "it refuses the way to vpn.example.com port 443: 403",
            ),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "port 443: 502 Bad Gateway"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "its answer is no HTTP"),
            (b"HTTP/1.1 200 OK\r\nA: " + bytes([65]) * LARGEST_PROXY_ANSWER_BYTES, "no HTTP"),
            (None, "it closed the connection without an answer"),
        ):
            said = await self.refusal(answer)
            assert why in said or (b"\x1b" in (answer or b"") and "no HTTP" in said), said
            assert "\x1b" not in said

    async def test_a_silent_proxy_is_left(self) -> None:
        assert await self.refusal(time_s=0.1) == "no answer within 0.1 s"

    async def test_a_proxy_that_is_there_too_late_is_left(self) -> None:
        connect = HostnameEndpoint.connect
        later = lambda *about: deferLater(cast(Any, reactor), 0.1, connect, *about)  # noqa: E731
        self.patch(HostnameEndpoint, "connect", later)
        assert await self.refusal(time_s=0.05) == "no answer within 0.05 s"
        assert self.proxy.heard == b""

    async def test_a_way_to_the_proxy_that_takes_too_long_is_told_once(self) -> None:
        self.patch(
            HostnameEndpoint,
            "connect",
            lambda *_: deferLater(cast(Any, reactor), 0.1, fail, ConnectError()),
        )
        dialing = connect_outer(
            cast(Any, reactor),
            cast(Any, Stream()),
            "a",
            443,
            proxy=ProxySettings("http", "127.0.0.1", 1),
            time_s=0.05,
        )
        await self.assertFailure(Deferred.fromCoroutine(dialing), GatewayUnreachable)
        gc.collect()
        assert self.flushLoggedErrors() == []

    async def test_nobody_listens(self) -> None:
        stream = Stream()
        proxy = ProxySettings("http", "127.0.0.1", 1)
        dialing = connect_outer(
            cast(Any, reactor), cast(Any, stream), "a", 443, proxy=proxy, time_s=TIME_S
        )
        error = await self.assertFailure(Deferred.fromCoroutine(dialing), GatewayUnreachable)
        assert str(error) == "the proxy 127.0.0.1 port 1: Connection refused"

    async def test_what_is_no_name_of_a_host_is_told(self) -> None:
        for host in ("vpn_gw.example.com", "ab--cd.example.com", "xn--a.com"):
            dialing = connect_outer(
                cast(Any, reactor), cast(Any, Stream()), host, 443, proxy=None, time_s=TIME_S
            )
            error = await self.assertFailure(Deferred.fromCoroutine(dialing), GatewayUnreachable)
            assert str(error).startswith(f"{host}: ")

    async def test_a_way_that_leads_nowhere_can_be_given_up(self) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            others = [socket.socket() for _ in range(4)]
            for each in others:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            dialing = Deferred.fromCoroutine(
                connect_outer(
                    cast(Any, reactor),
                    cast(Any, Stream()),
                    "127.0.0.1",
                    port,
                    proxy=None,
                    time_s=TIME_S,
                )
            )
            await _a_moment()
            dialing.cancel()
            await self.assertFailure(dialing, CancelledError)
            for each in others:
                each.close()

    async def test_whoever_gives_up_leaves_nothing(self) -> None:
        waiting = Deferred.fromCoroutine(self.connect())
        waiting.addErrback(lambda _: None)
        while not hasattr(self, "proxy") or not self.proxy.heard:
            await _a_moment()
        waiting.cancel()
        await waiting


class SOCKSTests(ProxyCase):
    kind = "socks5"
    CHOSEN, OPEN = b"\x05\x00", b"\x05\x00\x00\x01\xc0\x00\x02\x01\x01\xbb"

    async def test_the_stream_gets_the_connection_once_the_way_is_open(self) -> None:
        stream = await self.connect(self.CHOSEN, self.OPEN + b"\x16\x03\x03")
        assert stream.made and stream.received == b"\x16\x03\x03"
        assert b"\x03\x0fvpn.example.com\x01\xbb" in self.proxy.heard

    async def test_a_login_is_given_when_asked(self) -> None:
        login = ("alice", "secret")
        assert (await self.connect(b"\x05\x02", b"\x01\x00", self.OPEN, login=login)).made
        assert b"\x01\x05alice\x06secret" in self.proxy.heard

    async def test_a_password_may_be_empty(self) -> None:
        login = ("alice", "")
        assert (await self.connect(b"\x05\x02", b"\x01\x00", self.OPEN, login=login)).made
        assert b"\x01\x05alice\x00" in self.proxy.heard

    async def test_refusals_are_told(self) -> None:
        assert "password" in await self.refusal(b"\x05\xff")
        refused = b"\x05\x05\x00\x01" + bytes(6)
        assert "refused" in await self.refusal(self.CHOSEN, refused)
        assert await self.refusal(b"HTTP/1.1 400\r\n")
        assert "closed" in await self.refusal(self.CHOSEN, None)


def _a_moment() -> Deferred[None]:
    moment: Deferred[None] = Deferred()
    cast(Any, reactor).callLater(0.001, moment.callback, None)
    return moment
