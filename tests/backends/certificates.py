"""Certificates, lists of revoked ones and signatures of any kind that a test may need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)

STRANGE_NAME = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x02\xa3\x00")
"""A kind of alternative name that nobody reads, and that spoils all extensions."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Holder:
    """A certificate with its key, and the certificates above it."""

    certificate: x509.Certificate
    key: Key
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[bytes, ...]:
        """As TLS verifies it: DER, leaf first."""
        return tuple(each.public_bytes(Encoding.DER) for each in (self.certificate, *self.above))

    @property
    def pem(self) -> bytes:
        """Certificate, those above it, and key."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = (self.certificate, *self.above)
        return b"".join([*(each.public_bytes(Encoding.PEM) for each in chain), key])

    def pkcs7(self) -> bytes:
        """As a client sends it along with a signature."""
        return pkcs7.serialize_certificates([self.certificate], Encoding.DER)

    def sign(self, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """A signature of its key."""
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        return self.key.sign(data, ec.ECDSA(algorithm or hashes.SHA256()))


def authority(
    subject: str = "CN=Staff CA,O=Example", above: Holder | None = None, *, key: Key | None = None
) -> Holder:
    """Who issues certificates: a root, or one below `above`."""
    return issue(
        above,
        subject,
        extensions=(x509.BasicConstraints(ca=True, path_length=None),),
        key=key,
    )


def issue(
    issuer: Holder | None,
    subject: str = "CN=alice",
    *,
    extensions: Sequence[x509.ExtensionType] = (),
    days: tuple[float, float] = (-1, 30),
    key: Key | None = None,
    serial: int | None = None,
) -> Holder:
    """A certificate, valid from and until so many days from now."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string(subject)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(own.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    for each in extensions:
        builder = builder.add_extension(each, critical=isinstance(each, x509.BasicConstraints))
    certificate = builder.sign(issuer.key if issuer else own, hashes.SHA256())
    above = (issuer.certificate, *issuer.above) if issuer else ()
    return Holder(certificate, own, above)


def revocation_list(
    issuer: Holder,
    *revoked: Holder,
    hours: tuple[float, float] = (-1, 24),
    extension: x509.ExtensionType | None = None,
    signer: Holder | None = None,
    encoding: Encoding = Encoding.PEM,
) -> bytes:
    """A list of revoked certificates, valid from and until so many hours from now."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now + timedelta(hours=hours[0]))
        .next_update(now + timedelta(hours=hours[1]))
    )
    for each in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(each.certificate.serial_number)
            .revocation_date(now)
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
        )
        builder = builder.add_revoked_certificate(entry.build())
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign((signer or issuer).key, hashes.SHA256()).public_bytes(encoding)
