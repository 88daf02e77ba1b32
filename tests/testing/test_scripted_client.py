"""The scripted client at the scripted gateway: what comes is read, what is wrong is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from anyvpn.testing.programs import UnmetExpectation
from anyvpn.testing.scripted_answers import (
    TOKEN,
    Ending,
    ScriptedAnswer,
    cut,
    endlessly,
    form,
    grant,
    page,
    raw,
    refusal,
    slowly,
    success,
)
from anyvpn.testing.scripted_client import LARGEST_ANSWER_BYTES, ScriptedClient
from anyvpn.testing.scripted_gateway import (
    ScriptedGateway,
    ScriptedStep,
    connect,
    containing,
    get,
    post,
)
from anyvpn.testing.scripted_requests import http_request, init, logout, lying_frame, reply
from anyvpn.wire.authentication import read_client_message
from anyvpn.wire.cstp import PacketKind, frame_packet

Result = TypeVar("Result")
ANSWERS = {"username": "alice", "password": "secret"}


class ClientCase(TestCase):
    timeout = 20

    async def gateway(self, *steps: ScriptedStep) -> ScriptedGateway:
        gateway = ScriptedGateway(reactor, steps)  # type: ignore[arg-type]  # it has it all
        await gateway.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(gateway.close(all_steps=False)))
        return gateway

    async def run_at(
        self, gateway: ScriptedGateway, script: Callable[[ScriptedClient], Result]
    ) -> Result:
        """The script in a thread, with a client of this gateway."""

        def go() -> Result:
            with ScriptedClient("127.0.0.1", gateway.port, limit_s=2.0) as client:
                return script(client)

        result: Result = await deferToThread(go)
        return result

    async def talk(self, *steps: ScriptedStep, script: Callable[[ScriptedClient], Any]) -> Any:
        return await self.run_at(await self.gateway(*steps), script)

    async def problem(self, answer: ScriptedAnswer, script: Callable[[ScriptedClient], Any]) -> str:
        """What is wrong with an answer to a GET."""
        gateway = await self.gateway(get("/", answer))
        with pytest.raises(UnmetExpectation) as caught:
            await self.run_at(gateway, script)
        return str(caught.value)


class LoginTests(ClientCase):
    async def test_forms_are_answered_and_cookies_are_kept(self) -> None:
        gateway = await self.gateway(
            post("/", form("username", "password")),
            post("/auth", form("answer", action="/code"), containing(b"<password>secret</")),
            post("/code", success(), containing(b"<password>123</password>", without=[b"secret"])),
            get("/profile", page(b"<profile/>")),
        )

        def script(client: ScriptedClient) -> None:
            assert client.log_in(**ANSWERS, answer="123") == TOKEN
            client.get("/profile").expect(200, b"<profile/>")

        await self.run_at(gateway, script)
        assert gateway.requests[-1].header("Cookie") == f"webvpn={TOKEN}"
        assert gateway.connections_made == 1
        await gateway.close()

    async def test_who_is_not_let_in_fails_with_what_came(self) -> None:
        gateway = await self.gateway(post("/", form("password")), post("/auth", refusal("No.")))
        with pytest.raises(UnmetExpectation) as caught:
            await self.run_at(gateway, lambda client: client.log_in(**ANSWERS))
        said = str(caught.value)
        assert "answer 2 is not the expected one" in said
        assert "expected: the session" in said
        assert "came: 200 OK with" in said and "No." in said

    async def test_documents_can_be_spoiled_at_will(self) -> None:
        gateway = await self.gateway(
            post("/", form("username", "password")),
            post("/auth", page(b"?", status=400), containing(b"<forged/>")),
            post("/out", page(b"")),
        )

        def script(client: ScriptedClient) -> None:
            asked = client.post("/", init(group="staff")).expect_form("username", "password")
            spoiled = reply(asked, ANSWERS).replace(b"<auth>", b"<forged/><auth>")
            client.post(asked.action, spoiled).expect(400)
            client.post("/out", logout(token="t", session_id="7"))

        await self.run_at(gateway, script)
        first, _, last = (read_client_message(each.body) for each in gateway.requests)
        assert first.group_select == "staff"
        assert (last.session_token, last.session_id) == ("t", "7")


class ExpectationTests(ClientCase):
    async def test_what_is_not_expected_is_told(self) -> None:
        def get_it(client: ScriptedClient) -> Any:
            return client.get("/")

        for answer, check, words in (
            (page(b"a"), lambda got: got.expect(404), "expected: status 404"),
            (page(b"a"), lambda got: got.expect(200, b"b"), "status 200 with b'b'"),
            (page(b"a"), lambda got: got.expect(200, without=[b"a"]), "status 200 without b'a'"),
            (page(b"a"), lambda got: got.expect_form("x"), "a form with x"),
            (form("username"), lambda got: got.expect_form("password"), "a form with password"),
            (form("username"), lambda got: got.expect_success(), "the session"),
            (success(), lambda got: got.expect_refusal(), "an error"),
            (success(), lambda got: got.expect_form(), "a form with nothing to fill in"),
        ):
            said = await self.problem(answer, lambda client, check=check: check(get_it(client)))  # type: ignore[misc]
            assert words in said, said

    async def test_what_is_expected_passes(self) -> None:
        steps = (get("/", refusal("No.")), get("/", success(banner="Hello")))

        def script(client: ScriptedClient) -> None:
            assert client.get("/").expect_refusal() == "No."
            assert client.get("/").expect_success().banner == "Hello"

        await self.talk(*steps, script=script)

    async def test_what_is_no_answer_is_told(self) -> None:
        for answer, words in (
            (raw(b"no HTTP at all\r\n\r\n"), "what came is no HTTP answer"),
            (raw(b"", Ending.CLOSE), "closes the connection instead"),
            (raw(b"", Ending.CUT), "cuts the connection instead"),
            (raw(b"", Ending.RESET), "the connection instead"),
            (raw(b"", Ending.HANG), "nothing comes within 2 s"),
            (cut(page(b"x" * 100), after_bytes=80), "what came is no HTTP answer"),
            (
                endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (LARGEST_ANSWER_BYTES >> 4)),
                "an answer without end",
            ),
        ):
            said = await self.problem(answer, lambda client: client.get("/"))
            assert words in said, said

    async def test_slow_answers_are_answers(self) -> None:
        answer = slowly(page(b"body"), pause_s=0.001)
        await self.talk(
            get("/", answer), script=lambda client: client.get("/").expect(200, b"body")
        )

    async def test_how_the_gateway_ends_is_told_apart(self) -> None:
        for ending in (Ending.CLOSE, Ending.CUT):
            gateway = await self.gateway(get("/", raw(b"", ending)))

            def script(client: ScriptedClient) -> Ending:
                client.send(http_request("GET", "/"))
                return client.wait_closed()

            assert await self.run_at(gateway, script) is ending


class BytesTests(ClientCase):
    async def test_pieces_and_halves_and_lies_arrive_as_they_are(self) -> None:
        gateway = await self.gateway(post("/", page(b"")), post("/", page(b"")))

        def script(client: ScriptedClient) -> None:
            client.send(http_request("POST", "/", b"slow"), piece_bytes=20, pause_s=0.01)
            client.answer().expect(200)
            client.send(http_request("POST", "/", b"longer", content_length=3))
            client.answer().expect(200)
            client.send(http_request("POST", "/", b"")[:20])
            client.cut()

        await self.run_at(gateway, script)
        assert [each.body for each in gateway.requests] == [b"slow", b"lon"]
        await gateway.wait_until_left()

    async def test_each_ending_makes_the_next_request_another_connection(self) -> None:
        gateway = await self.gateway(*(get("/", page(b"")) for _ in range(4)))

        def script(client: ScriptedClient) -> None:
            for end in (client.close, client.cut, client.reset, client.close):
                client.get("/").expect(200)
                end()

        await self.run_at(gateway, script)
        assert [each.connection for each in gateway.requests] == [1, 2, 3, 4]

    async def test_bytes_below_tls_are_no_record(self) -> None:
        def script(client: ScriptedClient) -> Ending:
            client.get("/").expect(200)
            client.send_below(b"plain\r\n\r\n")
            return client.wait_closed()

        assert await self.talk(get("/", page(b"")), script=script) in (Ending.CLOSE, Ending.CUT)


class TunnelTests(ClientCase):
    async def test_frames_pass_both_ways_lies_included(self) -> None:
        gateway = await self.gateway(connect(grant(("X-CSTP-MTU", "1300"))))
        sent = lying_frame(0, b"abc", length=9000)

        def script(client: ScriptedClient) -> bytes:
            tunnel = client.connect(("X-CSTP-MTU", "1200"), token="t", without=["X-CSTP-License"])
            assert tunnel.settings.mtu_bytes == 1300
            assert tunnel.header("x-cstp-mtu") == "1300"
            tunnel.send(sent)
            assert tunnel.frame() == (PacketKind.KEEPALIVE, b"")
            payload = tunnel.frame_of(PacketKind.DPD_REQUEST)
            tunnel.reset()
            return payload

        running = Deferred.fromCoroutine(self.run_at(gateway, script))
        tunnel = await gateway.tunnel()
        assert await tunnel.receive(len(sent)) == sent
        for kind in (PacketKind.KEEPALIVE, PacketKind.KEEPALIVE, PacketKind.DPD_REQUEST):
            tunnel.send(frame_packet(kind, b"?" if kind is PacketKind.DPD_REQUEST else b""))
        assert await running == b"?"
        [request] = gateway.requests
        assert request.header("X-CSTP-MTU") == "1200"
        assert request.header("Cookie") == "webvpn=t"
        await tunnel.wait_closed()

    async def test_what_is_no_frame_and_no_dtls_is_told(self) -> None:
        gateway = await self.gateway(connect(grant()), connect(page(b"", status=401)))

        def script(client: ScriptedClient) -> None:
            tunnel = client.connect(token="t")
            with pytest.raises(UnmetExpectation, match="grants no DTLS"):
                tunnel.datagrams()
            with pytest.raises(UnmetExpectation, match="no CSTP packet: not a CSTP frame"):
                tunnel.frame()
            with pytest.raises(UnmetExpectation, match="came: 401"):
                client.connect(token="t")

        running = Deferred.fromCoroutine(self.run_at(gateway, script))
        (await gateway.tunnel()).send(b"HTTP/1.1 ")
        await running
