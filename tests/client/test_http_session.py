"""Tests of anyvpn.client.http_session: cookies, connections that were idle, other gateways."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from anyvpn.client.gateway_url import GatewayURL
from anyvpn.client.http_connection import Answer
from anyvpn.client.http_session import MOST_COOKIES, HTTPSession
from anyvpn.client.settings import ClientSettings
from anyvpn.errors import GatewayUnreachable
from tests.client.scripted import HTTPScene, result_of

URL = GatewayURL("vpn.example.com")
OTHER = GatewayURL("other.example")
OK = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"


class Dialer:
    """Stands for a Dialer: a new scripted gateway for each connection."""

    def __init__(self) -> None:
        self.scenes: list[HTTPScene] = []

    async def dial(self, url: object, address: str = "", accepted: object = None) -> object:
        self.scenes.append(HTTPScene())
        return self.scenes[-1].stream, None


class SessionTests:
    def setup_method(self) -> None:
        self.dialer = Dialer()
        first = HTTPScene()
        self.session = HTTPSession(
            first.wire.clock,
            self.dialer,  # type: ignore[arg-type]
            ClientSettings(),
            lambda _: None,
            URL,
        )

    def ask(self) -> Deferred[object]:
        asked: Deferred[object] = Deferred.fromCoroutine(self.session.request("GET"))  # type: ignore[arg-type]
        self.dialer.scenes[-1].wire.pump()
        return asked

    def exchange(self, *headers: str) -> Answer:
        asked = self.ask()
        lines = "".join(f"{each}\r\n" for each in headers)
        self.dialer.scenes[-1].answer(f"{OK}{lines}\r\n".encode())
        answer = result_of(asked)
        assert isinstance(answer, Answer)
        return answer

    def said(self) -> bytes:
        return self.dialer.scenes[-1].gateway.received

    def test_cookies_come_back_until_they_are_deleted(self) -> None:
        self.exchange("Set-Cookie: one=1; path=/", "Set-Cookie: two=2")
        self.exchange("Set-Cookie: one=; expires=Thu, 01 Jan 1970 22:00:00 GMT")
        assert b"Cookie: one=1; two=2\r\n" in self.said()
        self.exchange()
        assert self.said().endswith(b"Cookie: two=2\r\n\r\n")

    def test_no_gateway_fills_us_with_cookies(self) -> None:
        self.exchange(*(f"Set-Cookie: c{number}=x" for number in range(3 * MOST_COOKIES)))
        assert len(self.session.cookies) == MOST_COOKIES

    def test_another_gateway_gets_none_of_them(self) -> None:
        self.exchange("Set-Cookie: one=1")
        self.session.move_to(OTHER)
        self.exchange()
        assert len(self.dialer.scenes) == 2
        assert b"Cookie" not in self.said()
        assert b"Host: other.example\r\n" in self.said()

    def test_another_path_keeps_connection_and_cookies(self) -> None:
        self.exchange("Set-Cookie: one=1")
        self.session.move_to(URL.resolve("/auth"))
        self.exchange()
        assert len(self.dialer.scenes) == 1
        assert b"GET /auth HTTP/1.1\r\n" in self.said()

    def test_a_connection_that_was_closed_while_idle_is_replaced(self) -> None:
        self.exchange()
        scene = self.dialer.scenes[0]
        asked = self.ask()
        scene.gateway.close()
        scene.wire.pump()
        assert len(self.dialer.scenes) == 2
        self.dialer.scenes[1].wire.pump()
        self.dialer.scenes[1].answer(f"{OK}\r\n".encode())
        assert isinstance(result_of(asked), Answer)

    def test_a_new_connection_that_is_closed_is_an_error(self) -> None:
        asked = self.ask()
        scene = self.dialer.scenes[0]
        scene.gateway.close()
        scene.wire.pump()
        with pytest.raises(GatewayUnreachable, match="closed the connection without an answer"):
            result_of(asked)
        assert len(self.dialer.scenes) == 1
