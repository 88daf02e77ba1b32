"""What certificates a gateway's operator wants, and who they say that their owner is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import attrs
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from twisted.internet.interfaces import IReactorTime

from anyvpn.backends.authenticator_certificate_extensions import extension_in
from anyvpn.backends.authenticator_certificate_names import UserReader, name_reader
from anyvpn.backends.authenticator_certificate_revocation import Revocation, RevocationSettings
from anyvpn.errors import LoginRejected
from anyvpn.model.authentication import Identity
from anyvpn.model.printable import printable

# From the protocol: RFC 5280, section 4.2.1.12, and what others have added
_USAGES = {
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsecIKE": ExtendedKeyUsageOID.IPSEC_IKE,
    "smartcardLogon": ExtendedKeyUsageOID.SMARTCARD_LOGON,
}


def _help(text: str, example: object = None) -> dict[str, object]:
    return {"help": text} if example is None else {"help": text, "example": example}


@attrs.frozen
class CertificateRules:
    """Which certificates are accepted, and where they name their owner."""

    needs_client_ca: ClassVar[bool] = True
    """Clients are asked for a certificate only by a gateway that has `client_ca` in [tls]."""

    user: str = attrs.field(
        default="subject.CN",
        metadata=_help(
            "Where the user's name stands: subject.CN, subject.UID, san.email, san.upn, san.dns."
        ),
    )
    user_pattern: str = attrs.field(
        default="",
        metadata=_help(
            "Regular expression that the whole name must fit; its first group is the user.",
            r"([^@]+)@example\.com",
        ),
    )
    groups: tuple[str, ...] = attrs.field(
        default=(), metadata=_help("Where groups stand, named likewise.", ("subject.OU",))
    )
    issuers: tuple[str, ...] = attrs.field(
        default=(),
        metadata=_help(
            "Subjects of the authorities of which one must have issued it (RFC 4514); none: any.",
            ("CN=Staff CA,O=Example",),
        ),
    )
    extended_key_usage: tuple[str, ...] = attrs.field(
        default=(),
        metadata=_help(
            "Purposes that must stand in it: clientAuth, smartcardLogon, or an OID in digits.",
            ("clientAuth",),
        ),
    )
    crl: tuple[Path, ...] = attrs.field(
        default=(),
        metadata=_help("Files of revoked certificates (PEM or DER); a change is noticed.", ()),
    )
    ocsp: bool = attrs.field(
        default=False, metadata=_help("Whether the authority's OCSP responder is asked.")
    )
    ocsp_url: str = attrs.field(
        default="", metadata=_help("The responder; empty: the one that the certificate names.")
    )
    ocsp_time_s: float = attrs.field(
        default=5.0, metadata=_help("How long the responder may take, in seconds.")
    )
    revocation_unknown: Literal["refuse", "accept"] = attrs.field(
        default="refuse",
        metadata=_help("When neither CRL nor OCSP can say whether it is revoked: refuse, accept."),
    )

    def __attrs_post_init__(self) -> None:
        for key, sources in (("user", (self.user,)), ("groups", self.groups)):
            for source in sources:
                try:
                    name_reader(source)
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
        try:
            re.compile(self.user_pattern)
        except re.error as error:
            raise ValueError(f"user_pattern: is no regular expression: {error}") from None
        for issuer in self.issuers:
            try:
                x509.Name.from_rfc4514_string(issuer)
            except ValueError:
                raise ValueError(
                    f'issuers: "{issuer}" is no name such as "CN=Staff CA,O=Example"'
                ) from None
        for usage in self.extended_key_usage:
            _usage(usage)
        if self.ocsp_url and not self.ocsp_url.startswith(("http://", "https://")):
            raise ValueError('ocsp_url must begin with "http://" or "https://"')
        if not 0 < self.ocsp_time_s <= 60:
            raise ValueError("ocsp_time_s must be more than 0 and at most 60")


class CertificateCheck:
    """The rules at work."""

    def __init__(self, rules: CertificateRules, reactor: IReactorTime) -> None:
        pattern = re.compile(rules.user_pattern) if rules.user_pattern else None
        self._read_user = UserReader(rules.user, pattern)
        self._read_groups = [name_reader(each) for each in rules.groups]
        self._issuers = {_comparable(x509.Name.from_rfc4514_string(each)) for each in rules.issuers}
        self._usages = {_usage(each): each for each in rules.extended_key_usage}
        self._revocation = Revocation(
            RevocationSettings(
                rules.crl, rules.ocsp, rules.ocsp_url, rules.ocsp_time_s, rules.revocation_unknown
            ),
            reactor,
        )

    async def identify(self, chain_der: Sequence[bytes]) -> Identity:
        """Whose the first certificate of a verified chain is.

        Raises: LoginRejected: it breaks a rule, and which.
        """
        try:
            chain = [x509.load_der_x509_certificate(each) for each in chain_der]
            self._look_at(chain)
            await self._revocation.check(chain)
            return self._identity(chain[0])
        except ValueError as error:
            raise LoginRejected(
                f"the certificate cannot be read: {printable(str(error))}"
            ) from None

    def _look_at(self, chain: Sequence[x509.Certificate]) -> None:
        if self._issuers and not any(_comparable(each.issuer) in self._issuers for each in chain):
            issuer = printable(chain[0].issuer.rfc4514_string())
            raise LoginRejected(f"the certificate is issued by {issuer}, none of `issuers`")
        missing = self._usages.keys() - _usages_in(chain[0])
        if missing:
            names = ", ".join(sorted(self._usages[each] for each in missing))
            raise LoginRejected(f"the certificate is not for {names}")

    def _identity(self, certificate: x509.Certificate) -> Identity:
        groups = {group for read in self._read_groups for group in read(certificate)}
        attributes = {
            "certificate_subject": (printable(certificate.subject.rfc4514_string()),),
            "certificate_issuer": (printable(certificate.issuer.rfc4514_string()),),
            "certificate_serial": (f"{certificate.serial_number:x}",),
        }
        return Identity(
            self._read_user(certificate),
            frozenset(each for each in groups if each and each.isprintable()),
            MappingProxyType(attributes),
        )


def _usages_in(certificate: x509.Certificate) -> frozenset[ObjectIdentifier]:
    return frozenset(extension_in(certificate, x509.ExtendedKeyUsage) or ())


def _usage(name: str) -> ObjectIdentifier:
    try:
        return _USAGES.get(name) or ObjectIdentifier(name)
    except ValueError:
        known = ", ".join(_USAGES)
        raise ValueError(
            f'extended_key_usage: "{name}" is neither an object identifier nor one of {known}'
        ) from None


def _comparable(name: x509.Name) -> frozenset[tuple[str, str]]:
    """Names are the same in whatever order and case they are written (RFC 5280, section 7.1)."""
    return frozenset((each.oid.dotted_string, str(each.value).casefold()) for each in name)
