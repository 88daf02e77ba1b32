"""Tests of anyvpn.backends.authenticator_certificate_ocsp: answers that may not be believed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyasn1.codec.der import encoder
from pyasn1.type.univ import ObjectIdentifier
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from anyvpn.backends import authenticator_certificate_ocsp as module
from anyvpn.backends.authenticator_certificate_ocsp import Responder, ResponderFailed
from anyvpn.errors import LoginRejected
from anyvpn.testing.outcomes import error_of
from tests.backends.certificates import Holder, authority, issue

ROOT = authority()
ALICE = issue(ROOT)
BOB = issue(ROOT, "CN=bob")
SIGNER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
DELEGATE = issue(ROOT, "CN=responder", extensions=(SIGNER,))
GOOD = ocsp.OCSPCertStatus.GOOD


def answer(
    of: Holder = ALICE,
    status: ocsp.OCSPCertStatus = GOOD,
    *,
    signer: Holder = ROOT,
    hours: tuple[float, float | None] = (-1, 1),
    issuer: Holder = ROOT,
    nonce: x509.OCSPNonce | None = None,
    unknown: x509.UnrecognizedExtension | None = None,
) -> bytes:
    """A responder's answer, which holds from and until so many hours from now."""
    now = datetime.now(UTC)
    is_revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=of.certificate,
            issuer=issuer.certificate,
            algorithm=hashes.SHA1(),
            cert_status=status,
            this_update=now + timedelta(hours=hours[0]),
            next_update=None if hours[1] is None else now + timedelta(hours=hours[1]),
            revocation_time=now if is_revoked else None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    )
    if signer is not ROOT:
        builder = builder.certificates([signer.certificate])
    for extension in (nonce, unknown):
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def encoded(identifier: x509.ObjectIdentifier) -> bytes:
    """DER."""
    return bytes(encoder.encode(ObjectIdentifier(identifier.dotted_string)))


class Page(Resource):
    """Answers each POST in whichever way a test wants."""

    isLeaf = True

    def __init__(self, respond: Callable[[Request], Any]) -> None:
        super().__init__()
        self.respond = respond
        self.asked = 0

    def render_POST(self, request: Request) -> Any:
        self.asked += 1
        return self.respond(request)


class OCSPCase(TestCase):
    def serve(self, respond: Callable[[Request], Any]) -> tuple[Responder, Page]:
        page = Page(respond)
        site = Site(page)
        site.noisy = False
        port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/"
        return Responder(reactor, url, 0.5), page  # type: ignore[arg-type]  # trial's own

    async def check(self, content: bytes, of: Holder = ALICE) -> None:
        responder, _ = self.serve(lambda _: content)
        await responder.check(of.certificate, ROOT.certificate)

    async def doubt(self, content: bytes) -> str:
        return str(await error_of(self.check(content), ResponderFailed))


class AnswerTests(OCSPCase):
    async def test_a_good_certificate_passes_and_is_not_asked_for_again(self) -> None:
        responder, page = self.serve(lambda _: answer())
        for _ in range(3):
            await responder.check(ALICE.certificate, ROOT.certificate)
        assert page.asked == 1

    async def test_what_is_kept_is_of_one_certificate(self) -> None:
        """An authority that begins anew has its old name, and may count from one again."""
        first, second = authority(), authority()
        before, after = (issue(each, serial=1) for each in (first, second))
        revoked = answer(after, ocsp.OCSPCertStatus.REVOKED, signer=second, issuer=second)
        answers = [answer(before, signer=first, issuer=first), revoked]
        responder, _ = self.serve(lambda _: answers.pop(0))
        await responder.check(before.certificate, first.certificate)
        check = responder.check(after.certificate, second.certificate)
        assert "is revoked since" in str(await error_of(check, LoginRejected))

    async def test_an_answer_to_an_earlier_question_is_none(self) -> None:
        def echoed(request: Request) -> bytes:
            asked = ocsp.load_der_ocsp_request(request.content.read())
            return answer(nonce=asked.extensions.get_extension_for_class(x509.OCSPNonce).value)

        responder, _ = self.serve(echoed)
        await responder.check(ALICE.certificate, ROOT.certificate)
        assert "answers another question" in await self.doubt(answer(nonce=x509.OCSPNonce(b"old")))

    async def test_an_answer_without_an_end_is_not_kept(self) -> None:
        responder, page = self.serve(lambda _: answer(hours=(-1, None)))
        for _ in range(2):
            await responder.check(ALICE.certificate, ROOT.certificate)
        assert page.asked == 2

    async def test_revoked_and_unknown_ones_are_refused(self) -> None:
        for status, said in (
            (ocsp.OCSPCertStatus.REVOKED, "is revoked since"),
            (ocsp.OCSPCertStatus.UNKNOWN, "is not known to"),
        ):
            error = await error_of(self.check(answer(status=status)), LoginRejected)
            assert said in str(error)

    async def test_a_responder_of_the_authoritys_may_sign(self) -> None:
        await self.check(answer(signer=DELEGATE))

    async def test_anybody_else_may_not(self) -> None:
        for signer in (
            issue(ROOT, "CN=no responder"),
            issue(ROOT, "CN=alice", extensions=(CLIENT,)),
            issue(authority(), "CN=responder", extensions=(SIGNER,)),
            issue(ROOT, "CN=responder", extensions=(SIGNER,), days=(-2, -1)),
            authority(),
        ):
            said = await self.doubt(answer(signer=signer))
            assert "is not signed by the authority" in said or "a wrong signature" in said

    async def test_a_changed_answer_is_none(self) -> None:
        content = bytearray(answer())
        content[-3] ^= 1
        assert "signature" in await self.doubt(bytes(content))

    async def test_answers_about_others_are_none(self) -> None:
        assert "speaks of another certificate" in await self.doubt(answer(BOB))
        other = authority("CN=Other")
        about_another = answer(issuer=other)
        assert "speaks of another certificate" in await self.doubt(about_another)

    async def test_answers_of_another_time_are_none(self) -> None:
        for hours, said in (
            ((-3, -2), "is out of date"),
            ((2, 3), "holds only in the future"),
            ((-30, None), "is out of date"),
        ):
            assert said in await self.doubt(answer(hours=hours))

    async def test_a_responder_that_cannot_says_so(self) -> None:
        status = ocsp.OCSPResponseStatus.TRY_LATER
        content = ocsp.OCSPResponseBuilder.build_unsuccessful(status)
        assert "try_later" in await self.doubt(content.public_bytes(Encoding.DER))

    async def test_rubbish_cannot_be_read(self) -> None:
        nonce = x509.OCSPNonce(b"nonce")
        another = x509.ObjectIdentifier(nonce.oid.dotted_string[:-1] + "9")
        twice = answer(nonce=nonce, unknown=x509.UnrecognizedExtension(another, b"")).replace(
            encoded(another), encoded(nonce.oid)
        )
        for content in (b"", b"rubbish", answer()[:-10], b"\x30\x80" * 100, twice):
            assert "cannot be read" in await self.doubt(content)


class ServerTests(OCSPCase):
    async def failure(self, respond: Callable[[Request], Any]) -> str:
        responder, _ = self.serve(respond)
        check = responder.check(ALICE.certificate, ROOT.certificate)
        return str(await error_of(check, ResponderFailed))

    async def test_a_silent_one_is_given_up(self) -> None:
        assert "did not answer within 0.5 s" in await self.failure(lambda _: NOT_DONE_YET)

    async def test_other_statuses_are_told(self) -> None:
        def broken(request: Request) -> bytes:
            request.setResponseCode(500)
            return answer()

        assert "HTTP status 500" in await self.failure(broken)

    async def test_an_endless_answer_is_cut_off(self) -> None:
        assert "too many bytes" in await self.failure(
            lambda _: bytes(module.LARGEST_ANSWER_BYTES + 1)
        )

    async def test_one_that_closes_in_the_middle_is_told(self) -> None:
        def half(request: Request) -> Any:
            request.setHeader("content-length", "1000")
            request.write(answer()[:50])
            request.transport.loseConnection()
            return NOT_DONE_YET

        assert "in the middle of its answer" in await self.failure(half)

    async def test_one_that_is_not_there_is_told(self) -> None:
        responder = Responder(reactor, "http://127.0.0.1:9/", 0.5)  # type: ignore[arg-type]
        check = responder.check(ALICE.certificate, ROOT.certificate)
        assert "cannot be asked" in str(await error_of(check, ResponderFailed))

    async def test_without_an_address_nobody_is_asked(self) -> None:
        responder = Responder(reactor, "", 0.5)  # type: ignore[arg-type]
        check = responder.check(ALICE.certificate, ROOT.certificate)
        assert "names no OCSP responder" in str(await error_of(check, ResponderFailed))

    async def test_a_client_that_goes_away_leaves_nothing(self) -> None:
        responder, page = self.serve(lambda _: NOT_DONE_YET)
        check = Deferred.fromCoroutine(responder.check(ALICE.certificate, ROOT.certificate))
        check.addErrback(lambda _: None)
        check.cancel()
        assert page.asked == 0


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
