"""Asks an authority's responder whether a certificate is revoked (RFC 6960)."""

from __future__ import annotations

import os
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from twisted.internet.interfaces import IReactorTime

from anyvpn.backends.authenticator_certificate_extensions import extension_in
from anyvpn.backends.authenticator_certificate_signatures import signature_problem
from anyvpn.backends.http_client import HTTPClient, HTTPFailed
from anyvpn.errors import LoginRejected

# Ours
LARGEST_ANSWER_BYTES = 64 * 1024
CLOCK_SKEW = timedelta(minutes=5)
LONGEST_CACHED = timedelta(hours=1)
OLDEST_WITHOUT_END = timedelta(days=1)
"""How old an answer may be that does not say until when it holds."""
MOST_CACHED = 10_000
NONCE_BYTES = 16


class ResponderFailed(Exception):
    """The responder gave no answer that can be used; the text says why."""


class Responder:
    """One HTTP POST for each certificate, unless the last answer still holds."""

    def __init__(self, reactor: IReactorTime, url: str, time_s: float) -> None:
        self._http = HTTPClient(reactor, time_s, largest_bytes=LARGEST_ANSWER_BYTES)
        self._url = url
        self._good_until: OrderedDict[bytes, datetime] = OrderedDict()

    async def check(self, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
        """Let a good certificate pass.

        Raises: LoginRejected: it is revoked, or its responder has never heard of it.
        Raises: ResponderFailed: nobody can say.
        """
        key = certificate.fingerprint(SHA256())
        good_until = self._good_until.get(key)
        if good_until is not None and datetime.now(UTC) < good_until:
            return
        url = self._url or _url_in(certificate)
        if not url:
            raise ResponderFailed("the certificate names no OCSP responder")
        # SHA-1 is what every responder knows, and here it finds a name only (RFC 5019, section 2)
        question = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1())  # noqa: S303
        nonce = x509.OCSPNonce(os.urandom(NONCE_BYTES))
        asked = question.add_extension(nonce, critical=False).build()
        answer = await self._ask(url, asked.public_bytes(Encoding.DER))
        self._good_until[key] = _verdict(answer, asked, issuer, url)
        if len(self._good_until) > MOST_CACHED:
            self._good_until.popitem(last=False)

    async def _ask(self, url: str, request: bytes) -> bytes:
        headers = {"Content-Type": "application/ocsp-request"}
        try:
            answer = await self._http.ask("POST", url, headers, request)
        except HTTPFailed as error:
            raise ResponderFailed(str(error)) from None
        if answer.status != 200:
            raise ResponderFailed(f"{url} answered with HTTP status {answer.status}")
        return answer.body


def _url_in(certificate: x509.Certificate) -> str:
    for each in extension_in(certificate, x509.AuthorityInformationAccess) or ():
        if each.access_method == AuthorityInformationAccessOID.OCSP:
            location = each.access_location.value
            if isinstance(location, str) and location.startswith(("http://", "https://")):
                return location
    return ""


def _verdict(
    answer: bytes, asked: ocsp.OCSPRequest, issuer: x509.Certificate, url: str
) -> datetime:
    """Until when the certificate is good. Raises: LoginRejected, ResponderFailed."""
    try:
        response = ocsp.load_der_ocsp_response(answer)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise ResponderFailed(f"{url} answered: {response.response_status.name.lower()}")
        problem = _answer_problem(response, asked, issuer)
        if problem:
            raise ResponderFailed(f"the answer of {url} {problem}")
        status = response.certificate_status
        revoked_at = response.revocation_time_utc
        good_until = _good_until(response)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise ResponderFailed(f"the answer of {url} cannot be read") from None
    if status is ocsp.OCSPCertStatus.REVOKED:
        raise LoginRejected(f"the certificate is revoked since {revoked_at}, says {url}")
    if status is not ocsp.OCSPCertStatus.GOOD:
        raise LoginRejected(f"the certificate is not known to {url}")
    return good_until


def _answer_problem(
    response: ocsp.OCSPResponse, asked: ocsp.OCSPRequest, issuer: x509.Certificate
) -> str:
    is_ours = (
        response.serial_number == asked.serial_number
        and response.issuer_key_hash == asked.issuer_key_hash
        and response.issuer_name_hash == asked.issuer_name_hash
    )
    if not is_ours:
        return "speaks of another certificate"
    # Responders may leave it out, as those do that sign their answers beforehand (RFC 5019)
    if _nonces(response) - _nonces(asked):
        return "answers another question"
    now = datetime.now(UTC)
    if response.this_update_utc > now + CLOCK_SKEW:
        return "holds only in the future"
    end = response.next_update_utc
    if (end or response.this_update_utc + OLDEST_WITHOUT_END) < now - CLOCK_SKEW:
        return "is out of date"
    return _signer_problem(response, issuer)


def _nonces(message: ocsp.OCSPRequest | ocsp.OCSPResponse) -> set[bytes]:
    return {
        each.value.nonce for each in message.extensions if isinstance(each.value, x509.OCSPNonce)
    }


def _signer_problem(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> str:
    """It must be signed by the issuer, or by one whom the issuer has made its responder."""
    problem = ""
    for signer in (issuer, *response.certificates[:4]):
        if signer != issuer and not _is_responder_of(signer, issuer):
            continue
        problem = signature_problem(
            signer,
            response.signature,
            response.tbs_response_bytes,
            response.signature_hash_algorithm,
        )
        if not problem:
            return ""
    return problem or "is not signed by the authority"


def _is_responder_of(signer: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        signer.verify_directly_issued_by(issuer)
        usages = extension_in(signer, x509.ExtendedKeyUsage) or ()
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    now = datetime.now(UTC)
    return (
        ExtendedKeyUsageOID.OCSP_SIGNING in usages
        and signer.not_valid_before_utc <= now <= signer.not_valid_after_utc
    )


def _good_until(response: ocsp.OCSPResponse) -> datetime:
    soon = datetime.now(UTC) + LONGEST_CACHED
    return min(response.next_update_utc or datetime.now(UTC), soon)
