"""The certificates of a new set-up: a certificate authority of its own, and the server's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# From the protocol: RSA, since some clients and the old DTLS suites know nothing else
# (protocol reference, section 1.1); a common name has room for 64 characters (RFC 5280)
SERVER_KEY_BITS = 2048
PUBLIC_EXPONENT = 65537
LONGEST_COMMON_NAME = 64

# Ours
CA_KEY_BITS = 3072
CA_LIFE = timedelta(days=3652)
SERVER_LIFE = timedelta(days=825)  # the most that Apple's systems accept
CLOCK_DIFFERENCE = timedelta(hours=1)  # clients' clocks may be behind


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM texts."""

    ca: bytes
    ca_key: bytes = field(repr=False)
    server: bytes
    server_key: bytes = field(repr=False)


def make_certificates(
    name: str, addresses: Iterable[IPv4Address | IPv6Address], now: datetime | None = None
) -> Certificates:
    """An authority, and the certificate that it issues to a server of this name."""
    now = now or datetime.now(UTC)
    ca_key = rsa.generate_private_key(PUBLIC_EXPONENT, CA_KEY_BITS)
    ca_name = _common_name(f"anyvpn CA of {name}")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    key = rsa.generate_private_key(PUBLIC_EXPONENT, SERVER_KEY_BITS)
    server = (
        _builder(_common_name(name), ca_name, key.public_key(), now, SERVER_LIFE)
        .add_extension(_alternative_names(name, addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, key_encipherment=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return Certificates(
        ca=ca.public_bytes(Encoding.PEM),
        ca_key=_key_text(ca_key),
        server=server.public_bytes(Encoding.PEM),
        server_key=_key_text(key),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_DIFFERENCE)
        .not_valid_after(now - CLOCK_DIFFERENCE + life)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:LONGEST_COMMON_NAME])])


def _alternative_names(
    name: str, addresses: Iterable[IPv4Address | IPv6Address]
) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    ips = list(addresses)
    try:
        ips.insert(0, ip_address(name))
    except ValueError:
        names.append(x509.DNSName(name))
    names += [x509.IPAddress(each) for each in dict.fromkeys(ips)]
    return x509.SubjectAlternativeName(names)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_text(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
