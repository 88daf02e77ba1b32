"""Lets a client in whose machine shows one certificate, and whose user signs with another."""

from __future__ import annotations

from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from zope.interface import implementer

from anyvpn.errors import LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import (
    CertificateRequest,
    Identity,
    SignatureRequest,
    SignedCertificates,
)

HASHES = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}


@attrs.frozen
class Settings:
    """Who issues the users' certificates, and which hashes they may sign with; none: no user's."""

    user_ca: Path
    hash_algorithms: tuple[str, ...] = ("sha256", "sha384", "sha512")
    user: bool = True


def build(settings: Settings, reactor: object) -> MachineAndUser:
    return MachineAndUser(settings)


@implementer(IAuthenticator)
class MachineAndUser:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        chain = dialogue.request.certificates or await dialogue.ask(CertificateRequest())
        if not isinstance(chain, tuple) or not chain:
            raise LoginRejected("no certificate of a machine")
        machine = x509.load_der_x509_certificate(chain[0])
        if not self._settings.user:
            return Identity(_name_of(machine))
        signed = await dialogue.ask(SignatureRequest(self._settings.hash_algorithms, nonce="abc"))
        if not isinstance(signed, SignedCertificates):
            raise LoginRejected("no signature")
        user = self._verified(signed)
        return Identity(f"{_name_of(user)}.{_name_of(machine)}")

    def _verified(self, signed: SignedCertificates) -> x509.Certificate:
        certificates = pkcs7.load_der_pkcs7_certificates(signed.chain_pkcs7)
        user = certificates[0]
        authority = x509.load_pem_x509_certificate(self._settings.user_ca.read_bytes())
        if signed.hash_algorithm not in self._settings.hash_algorithms:
            raise LoginRejected(f"signed with {signed.hash_algorithm}")
        algorithm = HASHES[signed.hash_algorithm]()
        key = user.public_key()
        try:
            user.verify_directly_issued_by(authority)
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signed.signature, signed.signed_document, padding.PKCS1v15(), algorithm)
            else:
                assert isinstance(key, ec.EllipticCurvePublicKey)
                key.verify(signed.signature, signed.signed_document, ec.ECDSA(algorithm))
        except (InvalidSignature, ValueError, TypeError) as error:
            raise LoginRejected(f"not signed by this user: {error!r}") from None
        return user


def _name_of(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    return str(names[0].value)
