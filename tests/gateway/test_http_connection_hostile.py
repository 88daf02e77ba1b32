"""HTTP on the VPN port: what clients get that are slow, greedy or no clients at all."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from anyvpn.gateway.http_connection import (
    LARGEST_BODY_BYTES,
    LARGEST_HEAD_BYTES,
    MOST_HEADERS,
    Request,
    Response,
)
from tests.gateway.http_site import HTTPCase

POST = b"POST / HTTP/1.1\r\nHost: vpn\r\n"


class SlowClientTests(HTTPCase):
    def drip(self, data: bytes) -> int:
        """Send a byte a second until the connection closes; gives the seconds."""
        for seconds, byte in enumerate(data):
            if self.client.is_closed:
                return seconds
            self.send(bytes((byte,)))
            self.pass_time(1)
        return len(data)

    def test_a_client_that_sends_nothing_is_cut(self) -> None:
        self.pass_time(14.5)
        self.assertFalse(self.client.is_closed)
        self.pass_time(0.5)
        self.assertEqual(self.site.refusals, ["no request came"])
        self.assert_closed()

    def test_a_dripping_head_is_cut(self) -> None:
        self.assertEqual(self.drip(b"GET /" + b"a" * 100), 15)
        self.assertEqual(
            [each.status_line for each in self.answers()], ["HTTP/1.1 408 Request Timeout"]
        )
        self.assert_closed()

    def test_a_dripping_body_is_cut(self) -> None:
        self.send(POST + b"Content-Length: 100\r\n\r\n")
        self.assertEqual(self.drip(b"a" * 100), 15)
        self.assertEqual([each.status for each in self.answers()], [408])
        self.assert_closed()

    def test_a_dripping_later_request_has_as_much_time(self) -> None:
        self.exchange(b"GET / HTTP/1.1\r\nHost: vpn\r\n\r\n")
        self.pass_time(100)
        self.assertEqual(self.drip(b"GET /" + b"a" * 100), 15)
        self.assertEqual(self.site.refusals, ["the request took too long"])
        self.assert_closed()

    def test_dripping_empty_chunks_are_cut(self) -> None:
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(14):
            self.send(b"1\r\na\r\n")
            self.pass_time(1)
        self.assertFalse(self.client.is_closed)
        self.pass_time(1)
        self.assert_closed()


class GreedyClientTests(HTTPCase):
    def test_an_endless_target_is_cut(self) -> None:
        self.send(b"GET /" + b"a" * (LARGEST_HEAD_BYTES + 1))
        self.assertEqual([each.status for each in self.answers()], [431])
        self.assert_closed()

    def test_a_head_that_is_too_large_is_cut_though_it_came_at_once(self) -> None:
        head = b"GET / HTTP/1.1\r\nHost: vpn\r\nX-Large: " + b"a" * LARGEST_HEAD_BYTES
        self.assertEqual(self.statuses(head + b"\r\n\r\n"), [431])
        self.assertEqual(self.requests, [])
        self.assert_closed()

    def test_a_large_head_is_taken(self) -> None:
        head = b"GET / HTTP/1.1\r\nHost: vpn\r\nX-Large: " + b"a" * (LARGEST_HEAD_BYTES - 100)
        self.assertEqual(self.statuses(head + b"\r\n\r\n"), [200])

    def test_headers_are_counted(self) -> None:
        headers = b"".join(b"X%d: 1\r\n" % number for number in range(MOST_HEADERS))
        self.assertEqual(self.statuses(b"GET / HTTP/1.1\r\n" + headers + b"\r\n"), [400])

    def test_as_many_headers_as_allowed_are_taken(self) -> None:
        headers = b"".join(b"X%d: 1\r\n" % number for number in range(MOST_HEADERS - 1))
        request = b"GET / HTTP/1.1\r\nHost: vpn\r\n" + headers
        self.assertEqual(self.statuses(request + b"\r\n"), [200])
        self.assertEqual(self.statuses(request + b"X: 1\r\n\r\n"), [431])
        self.assert_closed()

    def test_the_largest_body_is_taken(self) -> None:
        self.send(POST + b"Content-Length: %d\r\n\r\n" % LARGEST_BODY_BYTES)
        self.send(b"a" * LARGEST_BODY_BYTES)
        self.assertEqual([len(each.body) for each in self.requests], [LARGEST_BODY_BYTES])

    def test_a_body_that_says_it_is_too_large_is_not_waited_for(self) -> None:
        head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        self.assertEqual(self.statuses(head % (LARGEST_BODY_BYTES + 1)), [413])
        self.assert_closed()

    def test_a_length_beyond_all_numbers_is_refused(self) -> None:
        self.assertEqual(
            self.statuses(POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"), [400]
        )
        self.assert_closed()

    def test_chunks_that_come_to_too_much_are_cut(self) -> None:
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
        for _ in range(LARGEST_BODY_BYTES // 0x4000):
            self.send(chunk)
        self.assertFalse(self.client.is_closed)
        self.assertEqual(self.statuses(b"1\r\na"), [413])
        self.assertEqual(self.requests, [])
        self.assert_closed()

    def test_endless_trailers_are_cut(self) -> None:
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: ")
        self.assertEqual(self.statuses(b"a" * (LARGEST_HEAD_BYTES + 1)), [431])
        self.assert_closed()


class GarbageTests(HTTPCase):
    def test_what_is_no_http_gets_400(self) -> None:
        for data in (
            b"\r\n\r\n\r\n",
            b"hello\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"STF\x01\x00\x00\x03\x00\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: vpn\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: vpn\r\nBad Name: 1\r\n\r\n",
            POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            POST + b"Content-Length: -1\r\n\r\n",
            POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ):
            with self.subTest(data=data):
                self.setUp()
                self.send(data)
                self.pass_time(15)
                statuses = [each.status for each in self.answers()]
                self.assertIn(statuses, ([400], [408]))
                self.assertEqual(self.requests, [])
                self.assertEqual(len(self.site.refusals), 1)
                self.assert_closed()

    def test_an_unknown_transfer_encoding_gets_501(self) -> None:
        self.assertEqual(self.statuses(POST + b"Transfer-Encoding: gzip\r\n\r\n"), [501])
        self.assert_closed()

    def test_nothing_is_read_after_a_refusal(self) -> None:
        get = b"GET / HTTP/1.1\r\nHost: vpn\r\n\r\n"
        self.assertEqual(self.statuses(b"garbage\r\n\r\n" + get), [400])
        self.assertEqual(self.requests, [])

    def test_garbage_in_tls_closes(self) -> None:
        self.client.transport.write(b"\x17\x03\x03\x00\x10" + bytes(16))
        self.wire.pump()
        self.assert_closed()


_PARTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /auth HTTP/1.1\r\n",
        b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n",
        b"HEAD * HTTP/1.0\r\n",
        b"Host: vpn\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: close\r\n",
        b"X-Folded: a\r\n b\r\n",
        b"\r\n",
        b"\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffffffff\r\n",
        b"STF\x01\x00\x00\x03\x00",
    ]
)
_REQUESTS = st.lists(_PARTS | st.binary(max_size=12), max_size=14).map(b"".join)


class FuzzTests(SynchronousTestCase):
    @settings(max_examples=100)
    @given(data=_REQUESTS, cuts=st.lists(st.integers(0, 200), max_size=4), waits=st.booleans())
    def test_nothing_comes_of_any_bytes_but_answers_and_an_end(
        self, data: bytes, cuts: list[int], waits: bool
    ) -> None:
        case = FuzzedConnection()
        case.setUp()
        case.waits = waits
        case.send_in_pieces(data, cuts)
        case.pass_time(600)
        self.assertEqual(self.flushLoggedErrors(), [])
        if not case.tunnelled:
            case.assert_closed()
        case.client.vanish()
        case.wire.pump()
        self.assertEqual(case.clock.getDelayedCalls(), [])


class FuzzedConnection(HTTPCase):
    """Answers some requests later than others, and grants every CONNECT."""

    def runTest(self) -> None: ...

    def setUp(self) -> None:
        super().setUp()
        self.waits = False
        self.tunnelled = False

    async def answer(self, request: Request) -> Response:
        if request.method == "CONNECT":
            return Response(200, reason=b"CONNECTED", take_over=self.take_over)
        if self.waits:
            waiting: Deferred[None] = Deferred()
            self.clock.callLater(0, waiting.callback, None)
            await waiting
        return Response(200, request.body)

    def take_over(self) -> None:
        self.tunnelled = True
        self.site.stream.take_over(lambda data: None, lambda: None)

    def send_in_pieces(self, data: bytes, cuts: list[int]) -> None:
        edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
        for begin, end in itertools.pairwise(edges):
            if not self.client.is_closed:
                self.send(data[begin:end])
