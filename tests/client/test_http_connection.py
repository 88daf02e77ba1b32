"""Tests of anyvpn.client.http_connection: answers that are good, bad, late or without end."""

from __future__ import annotations

import pytest

from anyvpn.client.http_connection import (
    LARGEST_BODY_BYTES,
    LARGEST_HEAD_BYTES,
    Answer,
    Request,
)
from anyvpn.errors import GatewayUnreachable, MalformedMessage, MessageTooLarge
from tests.client.scripted import HTTPScene, result_of

GET = Request("GET", "/", ((b"Host", b"vpn.example.com"),))
CONNECT = Request("CONNECT", "/CSCOSSLC/tunnel", ((b"Host", b"vpn.example.com"),))
TIME_S = 30.0


class ExchangeTests:
    def setup_method(self) -> None:
        self.scene = HTTPScene()

    def exchange(self, answer: bytes, request: Request = GET) -> Answer:
        asked = self.scene.ask(self.scene.http.exchange(request, TIME_S))
        self.scene.answer(answer)
        found = result_of(asked)
        assert isinstance(found, Answer)
        return found

    def test_an_answer_comes_whole(self) -> None:
        answer = self.exchange(b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 5\r\n\r\nhello")
        assert (answer.status, answer.body, answer.first("x-one")) == (200, b"hello", "1")

    def test_header_names_keep_their_case(self) -> None:
        answer = self.exchange(b"HTTP/1.1 200 OK\r\nX-CSTP-MTU: 9\r\nContent-Length: 0\r\n\r\n")
        assert (b"X-CSTP-MTU", b"9") in answer.headers

    def test_chunks_are_joined(self) -> None:
        answer = self.exchange(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        )
        assert answer.body == b"hello"

    def test_a_connection_serves_one_request_after_the_other(self) -> None:
        for _ in range(3):
            self.exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert self.scene.http.exchanges == 3
        assert self.scene.gateway.received.count(b"GET / HTTP/1.1\r\n") == 3

    def test_a_post_says_how_long_it_is(self) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        self.exchange(answer, Request("POST", "/auth", GET.headers, b"<xml/>"))
        assert b"Content-Length: 6\r\n" in self.scene.gateway.received
        assert self.scene.gateway.received.endswith(b"\r\n\r\n<xml/>")

    def test_a_body_may_end_with_the_connection(self) -> None:
        asked = self.scene.ask(self.scene.http.exchange(GET, TIME_S))
        self.scene.answer(b"HTTP/1.1 200 OK\r\n\r\nhel")
        self.scene.answer(b"lo")
        self.scene.gateway.close()
        self.scene.wire.pump()
        answer = result_of(asked)
        assert isinstance(answer, Answer)
        assert answer.body == b"hello"
        assert not self.scene.http.is_open

    def test_closed_without_an_answer_is_no_error_yet(self) -> None:
        asked = self.scene.ask(self.scene.http.exchange(GET, TIME_S))
        self.scene.gateway.close()
        self.scene.wire.pump()
        assert result_of(asked) is None

    def test_closed_within_an_answer_is_one(self) -> None:
        asked = self.scene.ask(self.scene.http.exchange(GET, TIME_S))
        self.scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        self.scene.gateway.close()
        self.scene.wire.pump()
        with pytest.raises(GatewayUnreachable, match="broke within an answer"):
            result_of(asked)

    def test_an_answer_to_nothing_closes(self) -> None:
        self.scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert not self.scene.http.is_open


class HostileGatewayTests:
    def setup_method(self) -> None:
        self.scene = HTTPScene()
        self.asked = self.scene.ask(self.scene.http.exchange(GET, TIME_S))

    def test_no_answer_in_time(self) -> None:
        self.scene.wire.clock.advance(TIME_S)
        with pytest.raises(GatewayUnreachable, match="did not answer within 30 s"):
            result_of(self.asked)

    def test_an_answer_that_trickles_is_cut_off_too(self) -> None:
        self.scene.answer(b"HTTP/1.1 200 OK\r\n")
        for _ in range(int(TIME_S)):
            self.scene.answer(b"X")
            self.scene.wire.clock.advance(1)
        with pytest.raises(GatewayUnreachable):
            result_of(self.asked)

    def test_a_head_without_end(self) -> None:
        self.scene.answer(b"HTTP/1.1 200 OK\r\n")
        for _ in range(LARGEST_HEAD_BYTES // 16384 + 3):
            self.scene.answer(b"X-A: " + b"a" * 16000 + b"\r\n")
        with pytest.raises((MessageTooLarge, MalformedMessage)):
            result_of(self.asked)

    def test_a_body_that_is_announced_as_too_long(self) -> None:
        self.scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        for _ in range(LARGEST_BODY_BYTES // 16384 + 1):
            self.scene.answer(bytes(16384))
        with pytest.raises(MessageTooLarge):
            result_of(self.asked)

    def test_chunks_without_end(self) -> None:
        self.scene.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(LARGEST_BODY_BYTES // 4096 + 1):
            self.scene.answer(b"1000\r\n" + bytes(4096) + b"\r\n")
        with pytest.raises(MessageTooLarge):
            result_of(self.asked)

    @pytest.mark.parametrize("garbage", [b"\0" * 64 + b"\r\n\r\n", b"220 smtp\r\n\r\n"])
    def test_no_http_at_all(self, garbage: bytes) -> None:
        self.scene.answer(garbage)
        with pytest.raises(MalformedMessage, match="no HTTP"):
            result_of(self.asked)

    def test_a_cancelled_request_leaves_nothing(self) -> None:
        self.asked.addErrback(lambda _: None)
        self.asked.cancel()
        self.scene.wire.pump()
        assert self.scene.wire.clock.getDelayedCalls() == []
        assert self.scene.wire.near.lost


class ConnectTests:
    def setup_method(self) -> None:
        self.scene = HTTPScene()
        self.asked = self.scene.ask(self.scene.http.exchange(CONNECT, TIME_S))

    def test_what_follows_the_head_belongs_to_the_tunnel(self) -> None:
        self.scene.answer(b"HTTP/1.1 200 CONNECTED\r\nX-CSTP-MTU: 1400\r\n\r\nSTF\1first")
        answer = result_of(self.asked)
        assert isinstance(answer, Answer)
        assert answer.status == 200
        taken: list[bytes] = []
        self.scene.stream.take_over(taken.append, lambda: None)
        self.scene.stream.resume_reading()
        self.scene.answer(b"second")
        assert b"".join(taken) == b"STF\1firstsecond"

    def test_a_refusal_needs_no_body(self) -> None:
        """ocserv's has neither a length nor an end."""
        self.scene.answer(b"HTTP/1.1 401 Cookie is not acceptable\r\n\r\n")
        answer = result_of(self.asked)
        assert isinstance(answer, Answer)
        assert (answer.status, answer.reason) == (401, "Cookie is not acceptable")
