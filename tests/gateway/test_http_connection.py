"""HTTP on the VPN port: what a well-behaved client gets."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred

from anyvpn.gateway.http_connection import Request, Response
from tests.gateway.http_site import HTTPCase
from tests.gateway.memory_tls import read_answers

GET = b"GET /%s HTTP/1.1\r\nHost: vpn\r\n\r\n"


class RequestTests(HTTPCase):
    def test_a_request_comes_whole(self) -> None:
        self.send(
            b"POST /group?x HTTP/1.1\r\nHost: vpn\r\nX-Twice: a\r\nX-TWICE: B\r\n"
            b"Content-Length: 4\r\n\r\n<a/>"
        )
        (request,) = self.requests
        self.assertEqual((request.method, request.target), ("POST", "/group?x"))
        self.assertEqual(request.body, b"<a/>")
        self.assertEqual(request.all("X-Twice"), ["a", "B"])
        self.assertEqual(request.first("x-twice"), "a")
        self.assertEqual(request.first("absent"), "")

    def test_a_request_in_single_bytes_is_a_request(self) -> None:
        for byte in b"POST / HTTP/1.1\r\nHost: vpn\r\nContent-Length: 2\r\n\r\nab":
            self.send(bytes((byte,)))
        self.assertEqual([each.body for each in self.requests], [b"ab"])

    def test_a_chunked_body_is_put_together(self) -> None:
        answers = self.exchange(
            b"POST / HTTP/1.1\r\nHost: vpn\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n4;name=value\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n"
        )
        self.assertEqual(self.requests[0].body, b"abcdefg")
        self.assertEqual([each.status for each in answers], [200])

    def test_a_waiting_client_is_told_to_go_on(self) -> None:
        self.send(
            b"POST / HTTP/1.1\r\nHost: vpn\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 100 "))
        self.assertEqual(self.requests, [])
        self.assertEqual(self.statuses(b"ab"), [200])

    def test_neither_request_nor_response_shows_its_secrets(self) -> None:
        request = Request("POST", "/", ((b"cookie", b"webvpn=secret"),), b"secret")
        response = Response(200, b"secret", ((b"Set-Cookie", b"secret"),))
        self.assertNotIn("secret", repr(request) + repr(response))


class KeepAliveTests(HTTPCase):
    limits = replace(HTTPCase.limits, requests_per_connection=3)

    def test_one_request_after_another_is_answered(self) -> None:
        self.assertEqual([each.body for each in self.exchange(GET % b"1")], [b"/1"])
        self.pass_time(119)
        (answer,) = self.exchange(GET % b"2")
        self.assertEqual(answer.body, b"/2")
        self.assertEqual(answer.first("Connection"), "Keep-Alive")

    def test_a_silent_client_is_let_go_without_a_word(self) -> None:
        self.exchange(GET % b"1")
        self.pass_time(120)
        self.assertEqual(self.answers(), [])
        self.assertEqual(self.site.refusals, [])
        self.assert_closed()

    def test_the_last_request_that_a_connection_may_make_closes_it(self) -> None:
        answers = self.exchange(GET % b"1" + GET % b"2" + GET % b"3" + GET % b"4")
        self.assertEqual([each.body for each in answers], [b"/1", b"/2", b"/3"])
        self.assertEqual(answers[1].first("Connection"), "Keep-Alive")
        self.assertEqual(answers[2].first("Connection"), "close")
        self.assert_closed()

    def test_a_client_that_wants_to_close_is_closed(self) -> None:
        (answer,) = self.exchange(b"GET / HTTP/1.1\r\nHost: vpn\r\nConnection: close\r\n\r\n")
        self.assertEqual(answer.first("Connection"), "close")
        self.assert_closed()

    def test_http_1_0_is_answered_and_closed(self) -> None:
        (answer,) = self.exchange(b"GET /old HTTP/1.0\r\n\r\n")
        self.assertEqual((answer.status_line, answer.body), ("HTTP/1.1 200 OK", b"/old"))
        self.assertEqual(answer.first("Connection"), "close")
        self.assert_closed()


class AnswerTests(HTTPCase):
    async def answer(self, request: Request) -> Response:
        headers = ((b"X-CSTP-Version", b"1"), (b"X-DTLS-App-ID", b"ab"), (b"X-CSTP-DNS", b"c"))
        match request.target:
            case "/close":
                return Response(403, headers=headers, reason=b"Forbidden", closes=True)
            case "/fault":
                raise ZeroDivisionError("a fault of ours")
            case "/unwritable":
                return Response(200, headers=((b"X-Bad", b"a\r\nb"),))
        return Response(200, b"text", headers, b"OK")

    def test_headers_keep_their_case_and_their_order(self) -> None:
        (answer,) = self.exchange(GET % b"")
        names = [name for name, _ in answer.headers]
        wanted = ["X-CSTP-Version", "X-DTLS-App-ID", "X-CSTP-DNS", "Content-Length", "Connection"]
        self.assertEqual(names, wanted)
        self.assertEqual(answer.status_line, "HTTP/1.1 200 OK")

    def test_head_gets_the_length_and_no_body(self) -> None:
        self.send(b"HEAD / HTTP/1.1\r\nHost: vpn\r\n\r\n" * 2)
        first, second = read_answers(self.client.take(), head_only=True)
        self.assertEqual((first.status, first.first("Content-Length")), (200, "4"))
        self.assertEqual(second, first)

    def test_a_final_answer_closes(self) -> None:
        (answer,) = self.exchange(GET % b"close" + GET % b"")
        self.assertEqual(answer.status_line, "HTTP/1.1 403 Forbidden")
        self.assertEqual(answer.first("Connection"), "close")
        self.assertEqual(answer.first("Content-Length"), "0")
        self.assert_closed()

    def test_a_fault_of_ours_is_said_as_500_and_logged(self) -> None:
        (answer,) = self.exchange(GET % b"fault")
        self.assertEqual((answer.status, answer.body), (500, b""))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_closed()

    def test_an_answer_that_cannot_be_written_closes(self) -> None:
        self.send(GET % b"unwritable")
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(self.client.take(), b"")
        self.assert_closed()


class BrokenConnectionTests(HTTPCase):
    def test_a_connection_that_breaks_at_the_answer_leaves_nothing(self) -> None:
        def break_off(data: bytes) -> None:
            self.site.closed("TLS failed")

        self.site.stream.write = break_off  # type: ignore[method-assign]
        self.send(GET % b"1" + GET % b"2")
        self.assertEqual(len(self.requests), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PipeliningTests(HTTPCase):
    limits = replace(HTTPCase.limits, requests_per_connection=10_000)

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)
        if request.target.startswith("/late"):
            waiting: Deferred[None] = Deferred()
            self.clock.callLater(0, waiting.callback, None)
            await waiting
        return Response(200, request.target.encode())

    def test_many_requests_at_once_are_answered_in_order(self) -> None:
        answers = self.exchange(b"".join(GET % b"%d" % number for number in range(2000)))
        self.assertEqual([each.body for each in answers], [b"/%d" % n for n in range(2000)])

    def test_many_requests_that_wait_are_answered_in_order(self) -> None:
        answers = self.exchange(b"".join(GET % b"late%d" % number for number in range(300)))
        self.assertEqual([each.body for each in answers], [b"/late%d" % n for n in range(300)])

    def test_requests_of_both_kinds_are_answered_in_order(self) -> None:
        names = [b"late%d" % n if n % 3 else b"%d" % n for n in range(60)]
        answers = self.exchange(b"".join(GET % name for name in names))
        self.assertEqual([each.body for each in answers], [b"/" + name for name in names])

    def test_answers_that_nobody_takes_are_not_piled_up(self) -> None:
        self.wire.far.is_stalled = True
        self.send(b"".join(GET % (b"%d" % number * 50) for number in range(1000)))
        self.assertLess(len(self.requests), 600)
        self.wire.far.is_stalled = False
        self.wire.pump()
        self.assertEqual(len(self.requests), 1000)

    def test_client_that_takes_no_answer_is_cut(self) -> None:
        self.wire.far.is_stalled = True
        self.send(b"".join(GET % (b"%d" % number * 50) for number in range(1000)))
        self.pass_time(15)
        self.pass_time(10)
        self.assertTrue(self.wire.near.lost)

    def test_half_a_request_behind_a_whole_one_has_the_time_of_a_request(self) -> None:
        self.exchange(GET % b"1" + b"GET /2")
        self.pass_time(14)
        self.assertFalse(self.client.is_closed)
        self.pass_time(1)
        self.assertEqual([each.status for each in self.answers()], [408])
        self.assert_closed()


class WaitingTests(HTTPCase):
    def setUp(self) -> None:
        super().setUp()
        self.waiting: Deferred[Response] = Deferred(lambda _: self.ended.append("cancelled"))
        self.ended: list[str] = []

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)
        if len(self.requests) > 1:
            return Response(200)
        response = await self.waiting
        self.ended.append("answered")
        return response

    def test_time_does_not_run_while_we_are_at_work(self) -> None:
        self.send(GET % b"")
        self.pass_time(500)
        self.assertFalse(self.client.is_closed)
        self.waiting.callback(Response(200, b"late"))
        self.wire.pump()
        self.assertEqual([each.body for each in self.answers()], [b"late"])

    def test_little_more_is_read_while_we_are_at_work(self) -> None:
        self.send(GET % b"1")
        self.send(GET % b"2")
        self.assertFalse(self.wire.near.is_paused)
        self.send(GET % (b"3" + b"x" * 15_000))
        self.send(GET % (b"4" + b"x" * 15_000))
        self.assertTrue(self.wire.near.is_paused)
        self.assertEqual(len(self.requests), 1)
        self.waiting.callback(Response(200))
        self.wire.pump()
        self.assertEqual(len(self.requests), 4)

    def test_a_client_that_closes_ends_the_work(self) -> None:
        self.send(GET % b"")
        self.client.close()
        self.wire.pump()
        self.assertEqual(self.ended, ["cancelled"])

    def test_a_client_that_goes_away_ends_the_work(self) -> None:
        self.send(GET % b"")
        self.client.vanish()
        self.wire.pump()
        self.assertEqual(self.ended, ["cancelled"])
        self.assertTrue(self.wire.near.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_answer_to_nobody_is_dropped(self) -> None:
        """The work may go on without heed to its being cancelled."""
        taken_over: list[bool] = []
        for late in (
            Response(200, b"late"),
            Response(200, take_over=lambda: taken_over.append(True)),
        ):
            self.setUp()
            release: Deferred[Response] = Deferred()

            async def stubborn(request: Request, release: Deferred[Response] = release) -> Response:
                try:
                    return await self.waiting
                except Exception:
                    return await release

            assert self.site.http is not None
            self.site.http._answer = stubborn
            self.send(HandOverTests.CONNECT)
            self.client.vanish()
            self.wire.pump()
            release.callback(late)
            self.wire.pump()
            self.assertEqual(taken_over, [])
            self.assertEqual(self.clock.getDelayedCalls(), [])


class HandOverTests(HTTPCase):
    CONNECT = b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: vpn\r\n\r\n"

    def setUp(self) -> None:
        super().setUp()
        self.tunnelled: list[bytes] = []
        self.head_was_sent: list[bool] = []
        self.granted = True

    async def answer(self, request: Request) -> Response:
        headers = ((b"X-CSTP-Version", b"1"), (b"X-CSTP-MTU", b"1434"))
        if not self.granted:
            return Response(401, reason=b"Unauthorized", closes=True)
        return Response(200, headers=headers, reason=b"CONNECTED", take_over=self.take_over)

    def take_over(self) -> None:
        self.head_was_sent.append(bool(self.wire.near.outgoing))
        self.site.stream.take_over(self.tunnelled.append, lambda: None)
        self.site.stream.write_frames([b"frame 1", b"frame 2"])

    def test_the_head_is_a_record_of_its_own(self) -> None:
        self.send(self.CONNECT)
        head, *frames = self.client.take_records()
        self.assertEqual(
            head, b"HTTP/1.1 200 CONNECTED\r\nX-CSTP-Version: 1\r\nX-CSTP-MTU: 1434\r\n\r\n"
        )
        self.assertEqual(frames, [b"frame 1", b"frame 2"])
        self.assertEqual(self.head_was_sent, [True])

    def test_what_follows_the_request_is_handed_on_to_the_byte(self) -> None:
        self.send(self.CONNECT + b"STF\x01 first")
        self.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(b"".join(self.tunnelled), b"STF\x01 firstGET / HTTP/1.1\r\n\r\n")

    def test_http_has_no_time_limit_any_more(self) -> None:
        self.send(self.CONNECT)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pass_time(10_000)
        self.assertFalse(self.client.is_closed)

    def test_a_connect_that_is_refused_is_answered_as_any_request(self) -> None:
        self.granted = False
        (answer,) = self.exchange(self.CONNECT + b"STF\x01 first")
        self.assertEqual(answer.status_line, "HTTP/1.1 401 Unauthorized")
        self.assertEqual(answer.first("Content-Length"), "0")
        self.assertEqual(self.tunnelled, [])
        self.assert_closed()

    def test_a_take_over_that_fails_closes(self) -> None:
        self.take_over = self.fail_to_take_over  # type: ignore[method-assign]
        self.send(self.CONNECT)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_closed()

    def fail_to_take_over(self) -> None:
        raise ZeroDivisionError("a fault of ours")
