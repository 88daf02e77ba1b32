"""Tests of anyvpn.backends.responder_browser, with a browser that is a script."""

from __future__ import annotations

import socket
import sys
from typing import Any, cast
from urllib.parse import quote

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from anyvpn.backends.responder_browser import BrowserResponder, Settings, build
from anyvpn.errors import LoginAborted
from anyvpn.interfaces import IResponder
from anyvpn.model.authentication import PASSWORD_FORM, Answer, BrowserLogin
from anyvpn.testing.responder_contract import ResponderContract

FINAL = "https://gateway.test/+CSCOE+/saml_ac_login.html"
STEP = BrowserLogin("https://gateway.test/login?a=1&b=2", FINAL, external=True)
BLOB = "AAE+/w=="
RETURN = f"return={quote(FINAL, safe='')}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    """What the responder says to these bytes."""
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(request)
        said = b""
        try:
            while data := connection.recv(4096):
                said += data
        except ConnectionResetError:
            return said
        return said


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class ContractTests(TestCase, ResponderContract):
    timeout = 30
    step = STEP

    def setUp(self) -> None:
        self.port = free_port()

    def make_responder(self) -> IResponder:
        settings = Settings(command=("true",))
        return BrowserResponder(settings, cast(Any, reactor), lambda _: None, self.port)

    def is_right(self, answer: Answer) -> bool:
        return answer == BLOB

    def let_it_happen(self) -> None:
        came_back = deferToThread(exchange, self.port, get(f"/api/sso/{BLOB}"))
        came_back.addErrback(lambda failure: failure.trap(ConnectionRefusedError))


class BrowserTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.port = free_port()
        self.shown: list[str] = []

    def begin(self, step: BrowserLogin = STEP, **settings: Any) -> Deferred[Any]:
        chosen: dict[str, Any] = {"command": ("true",), **settings}
        responder = BrowserResponder(
            Settings(**chosen), cast(Any, reactor), self.shown.append, self.port
        )
        return Deferred.fromCoroutine(responder.answer(step))

    async def say(self, request: bytes, host: str = "127.0.0.1") -> bytes:
        said: bytes = await deferToThread(exchange, self.port, request, host)
        return said

    def assert_nothing_listens(self) -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5)

    async def test_the_blob_comes_back_and_the_browser_goes_on(self) -> None:
        waiting = self.begin()
        said = await self.say(get(f"/api/sso/{quote(BLOB, safe='')}?{RETURN}"))
        assert said.startswith(b"HTTP/1.1 302 ")
        assert f"\r\nLocation: {FINAL}\r\n".encode() in said
        assert await waiting == BLOB
        assert self.shown == [STEP.login_url]
        self.assert_nothing_listens()

    async def test_it_need_not_be_quoted_and_may_come_over_ipv6(self) -> None:
        waiting = self.begin()
        said = await self.say(get(f"/api/sso/{BLOB}"), "::1")
        assert said.startswith(b"HTTP/1.1 200 ")
        assert await waiting == BLOB

    async def test_the_browser_is_sent_nowhere_else(self) -> None:
        for address in (
            "https://evil.test/",
            "http://gateway.test/",
            "https://gateway.test:444/",
            "https://gateway.test@evil.test/",
            "https://gateway.test/\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
        ):
            waiting = self.begin()
            said = await self.say(get(f"/api/sso/{BLOB}?return={quote(address, safe='')}"))
            assert said.startswith(b"HTTP/1.1 200 "), address
            assert b"Location" not in said
            assert await waiting == BLOB

    async def test_stray_requests_find_nothing_and_end_nothing(self) -> None:
        waiting = self.begin()
        for path in ("/", "/api/sso/", "/api/sso/?return=x", "/api/sso/%ff", "/api/sso/a"):
            assert (await self.say(get(path))).startswith(b"HTTP/1.1 404 "), path
        head = await self.say(get(f"/api/sso/{BLOB}").replace(b"GET", b"HEAD"))
        assert head.startswith(b"HTTP/1.1 404 ")
        assert not waiting.called
        await self.say(get(f"/api/sso/{BLOB}"))
        assert await waiting == BLOB

    async def test_floods_and_bodies_are_cut_off(self) -> None:
        waiting = self.begin()
        path = get(f"/api/sso/{BLOB}")
        body = path.replace(b"\r\n\r\n", b"\r\nContent-Length: 9999999\r\n\r\n")
        chunks = path.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello")
        for request in (get(f"/api/sso/{'A' * 40000}"), body, chunks):
            assert b"logged in" not in await self.say(request)
        assert not waiting.called
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)

    async def test_the_browser_gets_the_address_as_one_word(self) -> None:
        script = (
            "import sys, urllib.request\n"
            "assert sys.argv[2:] == ['https://gateway.test/login?a=1&b=2'], sys.argv\n"
            "urllib.request.urlopen(sys.argv[1])\n"
        )
        back = f"http://127.0.0.1:{self.port}/api/sso/{BLOB}"
        assert await self.begin(command=(sys.executable, "-c", script, back)) == BLOB

    async def test_a_browser_that_does_not_start_leaves_the_address(self) -> None:
        waiting = self.begin(command=("no-such-program-here",))
        assert self.shown == [STEP.login_url]
        await self.say(get(f"/api/sso/{BLOB}"))
        assert await waiting == BLOB

    async def test_nobody_waits_for_ever(self) -> None:
        error = await self.assertFailure(self.begin(time_s=0.1), LoginAborted)
        assert "nobody has logged in" in str(error)
        self.assert_nothing_listens()

    async def test_cancelling_stops_listening(self) -> None:
        waiting = self.begin()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.assert_nothing_listens()

    async def test_a_taken_port_is_named_and_nothing_is_opened(self) -> None:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as other:
                other.bind((host, self.port))
                other.listen()
                error = await self.assertFailure(self.begin(), LoginAborted)
            assert str(self.port) in str(error)
        assert self.shown == []
        self.assert_nothing_listens()

    async def test_an_address_that_is_none_is_not_opened(self) -> None:
        step = BrowserLogin("file:///etc/passwd", FINAL, external=True)
        error = await self.assertFailure(self.begin(step), LoginAborted)
        assert "not safe" in str(error)
        assert self.shown == []

    async def test_other_steps_are_left_to_others(self) -> None:
        responder = build(Settings(), cast(Any, reactor))
        assert await responder.answer(PASSWORD_FORM) == {}
        assert await responder.answer(BrowserLogin("https://a/", "https://b/")) == ""

    def test_impossible_settings_are_refused(self) -> None:
        for wrong in ({"command": ("",)}, {"time_s": 0}):
            with pytest.raises(ValueError):
                Settings(**cast(Any, wrong))
