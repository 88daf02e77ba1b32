"""Tests of anyvpn.backends.http_client against servers that are not what they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet import reactor, ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from anyvpn.backends.http_client import HTTPAnswer, HTTPClient, HTTPFailed
from anyvpn.errors import ConfigurationError
from anyvpn.testing.outcomes import error_of

Respond = Callable[[Request], Any]
AUTHORITY = trustme.CA()


class Page(Resource):
    isLeaf = True

    def __init__(self, respond: Respond) -> None:
        super().__init__()
        self.render_GET = self.render_POST = respond


class HTTPCase(TestCase):
    def setUp(self) -> None:
        self.ca_file = Path(self.mktemp())
        AUTHORITY.cert_pem.write_to_path(self.ca_file)

    def listen(self, factory: Factory, *names: str, authority: trustme.CA = AUTHORITY) -> str:
        issued = authority.issue_cert(*(names or ("localhost",)))
        pem = issued.private_key_and_cert_chain_pem.bytes()
        options = ssl.PrivateCertificate.loadPEM(pem).options()
        factory.noisy = False
        port = reactor.listenSSL(0, factory, options, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return f"https://localhost:{port.getHost().port}/"

    def serve(self, respond: Respond, *names: str, authority: trustme.CA = AUTHORITY) -> str:
        return self.listen(Site(Page(respond)), *names, authority=authority)

    def client(self, time_s: float = 10.0) -> HTTPClient:
        return HTTPClient(reactor, time_s, largest_bytes=1000, ca_file=self.ca_file)  # type: ignore[arg-type]

    async def failure(self, url: str, time_s: float = 10.0) -> str:
        said = str(await error_of(self.client(time_s).ask("GET", url), HTTPFailed))
        assert said.startswith(url)
        return said.removeprefix(url).strip()


class AnswerTests(HTTPCase):
    async def test_status_type_and_body_come_as_they_are(self) -> None:
        def respond(request: Request) -> bytes:
            request.setResponseCode(418)
            request.setHeader("Content-Type", "text/plain")
            return request.method + request.getHeader("X-Who").encode() + request.content.read()

        url = self.serve(respond)
        answer = await self.client().ask("POST", url, {"X-Who": " me "}, b"body")
        assert answer == HTTPAnswer(418, "text/plain", b"POSTmebody")

    async def test_redirects_are_not_followed(self) -> None:
        def respond(request: Request) -> bytes:
            request.redirect(b"https://elsewhere.example.com/")
            return b""

        assert (await self.client().ask("GET", self.serve(respond))).status == 302


class TrustTests(HTTPCase):
    async def test_a_certificate_of_strangers_is_not_trusted(self) -> None:
        url = self.serve(lambda _: b"", authority=trustme.CA())
        assert await self.failure(url) == "cannot be trusted: certificate verify failed"

    async def test_a_certificate_for_another_name_is_not_trusted(self) -> None:
        url = self.serve(lambda _: b"", "elsewhere.example.com")
        said = await self.failure(url)
        assert said == "cannot be trusted: its certificate is for another name"

    async def test_the_systems_authorities_count_without_a_file(self) -> None:
        client = HTTPClient(reactor, 10.0)  # type: ignore[arg-type]
        error = await error_of(client.ask("GET", self.serve(lambda _: b"")), HTTPFailed)
        assert "cannot be trusted" in str(error)

    def test_a_file_without_certificates_is_an_error_of_the_configuration(self) -> None:
        empty, rubbish, missing = (Path(self.mktemp()) for _ in range(3))
        empty.write_text("")
        rubbish.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for file, said in (
            (empty, "has no certificates"),
            (rubbish, "has no certificates"),
            (missing, "cannot be read: No such file"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                HTTPClient(reactor, 0.5, ca_file=file)  # type: ignore[arg-type]


class TroubleTests(HTTPCase):
    async def test_a_silent_server_is_given_up(self) -> None:
        url = self.serve(lambda _: NOT_DONE_YET)
        assert await self.failure(url, 0.5) == "did not answer within 0.5 s"

    async def test_one_that_stops_in_the_middle_is_given_up(self) -> None:
        def respond(request: Request) -> int:
            request.write(b"half")
            return NOT_DONE_YET

        assert await self.failure(self.serve(respond), 0.5) == "did not answer within 0.5 s"

    async def test_an_endless_answer_is_cut_off(self) -> None:
        url = self.serve(lambda _: bytes(1001))
        assert await self.failure(url) == "answered with too many bytes"

    async def test_one_that_closes_in_the_middle_is_told(self) -> None:
        def respond(request: Request) -> int:
            request.setHeader("content-length", "1000")
            request.write(b"half")
            reactor.callLater(0.1, request.transport.abortConnection)  # type: ignore[attr-defined]
            return NOT_DONE_YET

        assert await self.failure(self.serve(respond)) == "closed in the middle of its answer"

    async def test_what_is_no_http_is_told(self) -> None:
        class Rubbish(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"SSH-2.0-x\r\n\r\n")  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]

        url = self.listen(Factory.forProtocol(Rubbish))
        assert (await self.failure(url)).startswith("answered with what is no HTTP: ")

    async def test_one_that_is_not_there_is_told(self) -> None:
        assert (await self.failure("https://127.0.0.1:9/")).startswith("cannot be asked: ")

    async def test_whoever_gives_up_hears_that_and_leaves_nothing(self) -> None:
        """Trial complains about connections that are left."""

        def half(request: Request) -> int:
            request.write(b"half")
            return NOT_DONE_YET

        for respond, time_s in ((half, 0.0), (lambda _: NOT_DONE_YET, 0.2), (half, 0.2)):
            asking = Deferred.fromCoroutine(self.client().ask("GET", self.serve(respond)))
            if time_s:
                waiting: Deferred[None] = Deferred()
                reactor.callLater(time_s, waiting.callback, None)  # type: ignore[attr-defined]
                await waiting
            asking.cancel()
            await self.assertFailure(asking, CancelledError)
