"""One authority for all: the gateways' certificate, and the one that users log in with.

Both gateways have the same RSA key of 2048 bits, and logins are by certificate on both: there is
no password hash to be excluded.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.topology import GATEWAY_ADDRESS

NAME = "vpn.test"
USER = "alice"
RSA_BITS = 2048
VALID_FOR = timedelta(days=30)


class Certificates:
    """PEM files in `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = directory / "ca.pem"
        self.server, self.server_key = directory / "server.pem", directory / "server.key"
        self.user, self.user_key = directory / "user.pem", directory / "user.key"
        self._authority = rsa.generate_private_key(65537, RSA_BITS)
        self._issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Benchmark CA")])
        is_ca = x509.BasicConstraints(ca=True, path_length=0)
        _, self._ca = self._issue(self._issuer, is_ca, self._authority)
        self.ca.write_bytes(_pem(self._ca))
        names = [x509.DNSName(NAME), x509.IPAddress(ip_address(GATEWAY_ADDRESS))]
        self._write(
            (self.server, self.server_key),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]),
            x509.SubjectAlternativeName(names),
        )
        self._write(
            (self.user, self.user_key),
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, USER),
                    x509.NameAttribute(NameOID.USER_ID, USER),
                ]
            ),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        )

    def _write(
        self, files: tuple[Path, Path], subject: x509.Name, extension: x509.ExtensionType
    ) -> None:
        key, certificate = self._issue(subject, extension)
        files[0].write_bytes(_pem(certificate))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def _issue(
        self,
        subject: x509.Name,
        extension: x509.ExtensionType,
        key: rsa.RSAPrivateKey | None = None,
    ) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
        key = key or rsa.generate_private_key(65537, RSA_BITS)
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + VALID_FOR)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._authority, hashes.SHA256())
        )
        return key, certificate


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
