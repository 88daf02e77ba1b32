"""Certificate revocation lists in files, read again when they change (RFC 5280, section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Lock

from cryptography import x509
from twisted.logger import Logger

from anyvpn.backends.authenticator_certificate_extensions import extension_in
from anyvpn.backends.authenticator_certificate_signatures import signature_problem
from anyvpn.backends.file_stamps import stamp_of
from anyvpn.errors import ConfigurationError, LoginRejected

log = Logger()

# Ours
LARGEST_LIST_BYTES = 64 * 1024 * 1024
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _List:
    """One list, with the numbers that it revokes.

    With `places` it speaks of those certificates only that name one of them as the place of their
    list: an authority may have several (RFC 5280, section 5.2.5).
    """

    path: Path
    crl: x509.CertificateRevocationList
    revoked: Mapping[int, str]
    places: frozenset[x509.GeneralName]

    def problem(self, certificate: x509.Certificate) -> str:
        """Why it is no proof that a certificate is good which it does not name."""
        if self.places and self.places.isdisjoint(_places_in(certificate)):
            return "speaks of other certificates of this authority"
        return _date_problem(self.crl)


class RevocationLists:
    """All lists of a gateway; used by several threads, and never on the reactor's."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises: ConfigurationError: a list cannot be read, or is of a kind that we cannot use."""
        self._lock = Lock()
        self._paths = tuple(paths)
        self._stamps = {path: stamp_of(path) for path in self._paths}
        self._lists = {path: _read(path) for path in self._paths}

    def check(self, chain: Sequence[x509.Certificate]) -> str:
        """Why these lists cannot say that the first of a verified chain is good; empty: it is.

        Raises: LoginRejected: one of the chain is revoked.
        """
        lists = self._current()
        doubt = ""
        for number, (certificate, issuer) in enumerate(pairwise(chain)):
            found = self._check_one(certificate, issuer, lists)
            if number == 0:
                doubt = found
        return doubt

    @staticmethod
    def _check_one(
        certificate: x509.Certificate, issuer: x509.Certificate, lists: Sequence[_List]
    ) -> str:
        name = certificate.issuer.rfc4514_string()
        doubt, is_good = f"no list of {name} is there", False
        for each in lists:
            if each.crl.issuer != certificate.issuer or not _is_signed(each.crl, issuer):
                continue
            reason = each.revoked.get(certificate.serial_number)
            if reason is not None:
                subject = certificate.subject.rfc4514_string()
                raise LoginRejected(f"the certificate {subject} is revoked: {reason}")
            problem = each.problem(certificate)
            is_good = is_good or not problem
            doubt = f"{each.path} {problem}"
        return "" if is_good else doubt

    def _current(self) -> tuple[_List, ...]:
        """The lists as they are now; one that has become unusable, as it was before."""
        with self._lock:
            for path in self._paths:
                stamp = stamp_of(path)
                if stamp == self._stamps[path]:
                    continue
                self._stamps[path] = stamp
                try:
                    self._lists[path] = _read(path)
                    log.info("The list of revoked certificates {path} is read again", path=path)
                except ConfigurationError as error:
                    log.error(
                        "The list of revoked certificates {path} has changed but cannot be used, "
                        "the one before stays: {problem}",
                        path=path,
                        problem=str(error),
                    )
            return tuple(self._lists.values())


def _read(path: Path) -> _List:
    try:
        if path.stat().st_size > LARGEST_LIST_BYTES:
            raise ConfigurationError(f"crl: {path} is larger than {LARGEST_LIST_BYTES} bytes")
        content = path.read_bytes()
        is_pem = b"-----BEGIN X509 CRL-----" in content[:4096]
        load = x509.load_pem_x509_crl if is_pem else x509.load_der_x509_crl
        crl = load(content)
        problem = _kind_problem(crl)
        if problem:
            raise ConfigurationError(f"crl: {path} {problem}")
        revoked = {each.serial_number: _reason(each) for each in crl}
        return _List(path, crl, revoked, frozenset(_places_of(crl)))
    except OSError as error:
        raise ConfigurationError(f"crl: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"crl: {path} is no certificate revocation list") from None


def _kind_problem(crl: x509.CertificateRevocationList) -> str:
    """A list that does not speak of all of an authority's users is no proof that one is good."""
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            return "has changes only; the complete list is needed"
        if isinstance(value, x509.IssuingDistributionPoint):
            if (
                value.indirect_crl
                or value.only_some_reasons
                or value.only_contains_ca_certs
                or value.only_contains_attribute_certs
                or value.relative_name
            ):
                return "speaks of some certificates only; the complete list is needed"
        elif extension.critical:
            return f"has a critical extension that is not known: {extension.oid.dotted_string}"
    return ""


def _places_of(crl: x509.CertificateRevocationList) -> Iterator[x509.GeneralName]:
    for extension in crl.extensions:
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            yield from extension.value.full_name or ()


def _places_in(certificate: x509.Certificate) -> Iterator[x509.GeneralName]:
    for point in extension_in(certificate, x509.CRLDistributionPoints) or ():
        yield from point.full_name or ()


def _date_problem(crl: x509.CertificateRevocationList) -> str:
    now = datetime.now(UTC)
    if crl.last_update_utc > now + CLOCK_SKEW:
        return f"is not valid before {crl.last_update_utc:%Y-%m-%d %H:%M} UTC"
    if crl.next_update_utc is not None and crl.next_update_utc < now - CLOCK_SKEW:
        return f"has expired on {crl.next_update_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    algorithm = crl.signature_hash_algorithm
    return not signature_problem(issuer, crl.signature, crl.tbs_certlist_bytes, algorithm)


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        found = entry.extensions.get_extension_for_class(x509.CRLReason)
    except x509.ExtensionNotFound:
        return "no reason given"
    return str(found.value.reason.value)
