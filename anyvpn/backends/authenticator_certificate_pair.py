"""Lets a client in whose machine shows one certificate, and whose user signs with another."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from anyvpn.backends.authenticator_certificate import shown_certificates
from anyvpn.backends.authenticator_certificate_extensions import extension_in
from anyvpn.backends.authenticator_certificate_rules import CertificateCheck, CertificateRules
from anyvpn.backends.authenticator_certificate_signatures import signature_problem
from anyvpn.errors import ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IDialogue
from anyvpn.model.authentication import Identity, SignatureRequest, SignedCertificates
from anyvpn.model.printable import printable

# From the protocol (protocol reference, section 3.10)
CAPABILITY = "multiple-cert"
_HASHES: Mapping[str, hashes.HashAlgorithm] = MappingProxyType(
    {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
)

# Ours
NONCE_BYTES = 16
LARGEST_CHAIN_BYTES = 64 * 1024
LONGEST_CHAIN = 10


@attrs.frozen(kw_only=True)
class Settings(CertificateRules):
    """Who issues the users' certificates, and which of them are accepted."""

    user_ca: Path = attrs.field(
        metadata={
            "help": "Authorities (PEM) of the users' certificates; the machines' are in [tls].",
            "example": "user-ca.pem",
        }
    )
    hash_algorithms: tuple[str, ...] = attrs.field(
        default=tuple(_HASHES),
        metadata={"help": "Hashes that the user may sign with: sha256, sha384, sha512."},
    )
    machine: IAuthenticator | None = attrs.field(
        default=None,
        metadata={"help": "Authenticator of the machine's certificate; none: any will do."},
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.hash_algorithms:
            raise ValueError("hash_algorithms must name one at least")
        for each in self.hash_algorithms:
            if each not in _HASHES:
                raise ValueError(f'hash_algorithms: "{each}" is not one of {", ".join(_HASHES)}')


def build(settings: Settings, reactor: IReactorTime) -> CertificatePair:
    """What `backend = "certificate_pair"` makes. Raises: ConfigurationError."""
    try:
        authorities = x509.load_pem_x509_certificates(settings.user_ca.read_bytes())
    except OSError as error:
        problem = f"user_ca: {settings.user_ca} cannot be read: {error.strerror}"
        raise ConfigurationError(problem) from None
    except ValueError:
        raise ConfigurationError(f"user_ca: {settings.user_ca} has no PEM certificates") from None
    return CertificatePair(settings, authorities, CertificateCheck(settings, reactor))


def _may_issue(_: object, __: object, found: x509.BasicConstraints) -> None:
    if not found.ca:
        raise ValueError("its issuer is no authority")


def _may_sign(_: object, __: object, found: x509.KeyUsage | None) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("its issuer may sign no certificates")


def _is_for_clients(_: object, __: object, found: x509.ExtendedKeyUsage | None) -> None:
    good = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if found is not None and good.isdisjoint(found):
        raise ValueError("it is not meant for clients")


# Private authorities are seldom what the public web asks of its own; names are our own rules'
_AUTHORITIES = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _may_issue)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
)
_USERS = (
    ExtensionPolicy.webpki_defaults_ee()
    .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _is_for_clients)
)


@implementer(IAuthenticator)
class CertificatePair:
    """The machine's certificate comes by TLS, the user's with a signature over our question."""

    def __init__(
        self, settings: Settings, authorities: list[x509.Certificate], check: CertificateCheck
    ) -> None:
        self._hash_algorithms = settings.hash_algorithms
        self._machine = settings.machine
        self._check = check
        self._store = Store(authorities)

    async def authenticate(self, dialogue: IDialogue) -> Identity:
        """The user, with the machine in the attribute `machine`.

        Raises: LoginRejected: one of the two certificates is missing, wrong or not used to sign.
        """
        request = dialogue.request
        if CAPABILITY not in request.client.capabilities:
            raise LoginRejected("the client cannot show several certificates")
        chain = await shown_certificates(dialogue)
        machine = _fingerprint(chain[0])
        if self._machine is not None:
            machine = (await self._machine.authenticate(dialogue)).user
        nonce = secrets.token_hex(NONCE_BYTES)
        signed = await dialogue.ask(SignatureRequest(self._hash_algorithms, nonce))
        if not isinstance(signed, SignedCertificates):
            raise LoginRejected("the client has signed nothing")
        user = await self._check.identify(self._verified_chain(signed))
        attributes = {**user.attributes, "machine": (machine,)}
        return Identity(user.user, user.groups, MappingProxyType(attributes))

    def _verified_chain(self, signed: SignedCertificates) -> tuple[bytes, ...]:
        """The chain of the certificate that signs, leaf first, up to one of our authorities.

        Raises: LoginRejected.
        """
        if signed.hash_algorithm not in self._hash_algorithms:
            raise LoginRejected(f"the user signs with {printable(signed.hash_algorithm)[:40]}")
        problem = "the client has sent no certificate of a user"
        certificates = _read_chain(signed.chain_pkcs7)
        for leaf in certificates:
            if _is_authority(leaf):
                continue
            problem = signature_problem(
                leaf, signed.signature, signed.signed_document, _HASHES[signed.hash_algorithm]
            )
            if not problem:
                return self._chain_of(leaf, [each for each in certificates if each != leaf])
            problem = f"the client's answer {problem}"
        raise LoginRejected(problem)

    def _chain_of(
        self, leaf: x509.Certificate, others: list[x509.Certificate]
    ) -> tuple[bytes, ...]:
        verifier = (
            PolicyBuilder()
            .store(self._store)
            .extension_policies(ca_policy=_AUTHORITIES, ee_policy=_USERS)
            .build_client_verifier()
        )
        try:
            verified = verifier.verify(leaf, others)
        except (VerificationError, ValueError, UnsupportedAlgorithm) as error:
            said = printable(str(error))
            raise LoginRejected(f"the user's certificate is not accepted: {said}") from None
        return tuple(each.public_bytes(Encoding.DER) for each in verified.chain)


def _read_chain(chain: bytes) -> list[x509.Certificate]:
    if len(chain) > LARGEST_CHAIN_BYTES:
        raise LoginRejected("the client has sent far too many certificates")
    try:
        found = pkcs7.load_der_pkcs7_certificates(chain)
    except (ValueError, UnsupportedAlgorithm):
        raise LoginRejected("the user's certificates cannot be read") from None
    if len(found) > LONGEST_CHAIN:
        raise LoginRejected(f"the client has sent {len(found)} certificates of a user")
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = extension_in(certificate, x509.BasicConstraints)
    except ValueError:
        return False
    return found is not None and found.ca


def _fingerprint(certificate: bytes) -> str:
    """What stands for a machine that no authenticator gives a name."""
    return "sha256:" + hashlib.sha256(certificate).hexdigest()
