"""Client certificates with their keys: loading them, choosing one, signing with one.

Source: protocol reference, sections 1.3 and 3.10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from OpenSSL import crypto
from twisted.logger import Logger

from anyvpn.errors import ConfigurationError

log = Logger()

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
AskPassphrase = Callable[[str], str]
"""Takes a prompt, gives what was typed; an empty text gives up."""

# Ours
PASSPHRASE_TRIES = 3
_LARGEST_FILE_BYTES = 1 << 20
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class ClientCredential:
    """A certificate chain, leaf first, and the key of the leaf."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    @property
    def subject(self) -> str:
        """Whose it is, for people."""
        return self.chain[0].subject.rfc4514_string()


def load_credential(
    certificate: Path, key: Path | None = None, ask: AskPassphrase | None = None
) -> ClientCredential:
    """Read a certificate and its key: PEM in one or two files, or PKCS#12.

    Raises: ConfigurationError: which file is wrong, and what would be right.
    """
    content = _read(certificate)
    if b"-----BEGIN" not in content:
        credential = _load_pkcs12(certificate, content, ask)
    else:
        try:
            chain = tuple(x509.load_pem_x509_certificates(content))
        except ValueError:
            raise ConfigurationError(f"{certificate} holds no PEM certificate") from None
        path = key or certificate
        credential = ClientCredential(chain, _load_key(path, _read(path), ask))
    _check(credential, certificate)
    return credential


def choose_credential(
    credentials: Sequence[ClientCredential], authorities: Sequence[crypto.X509Name]
) -> ClientCredential | None:
    """The credential that one of these authorities has issued; the first that is valid now counts.

    Without any names the first credential is as good as another.
    """
    names = {authority.der() for authority in authorities}
    fitting = [
        each
        for each in credentials
        if not names or any(link.issuer.public_bytes() in names for link in each.chain)
    ]
    return min(fitting, key=lambda each: not _is_valid_now(each), default=None)


def sign(credential: ClientCredential, algorithm: str, data: bytes) -> bytes:
    """A signature over the data: PKCS#1 v1.5 with an RSA key, DER with an elliptic curve's."""
    chosen = _HASHES[algorithm]
    if isinstance(credential.key, rsa.RSAPrivateKey):
        return credential.key.sign(data, padding.PKCS1v15(), chosen)
    return credential.key.sign(data, ec.ECDSA(chosen))


def pkcs7_chain(credential: ClientCredential) -> bytes:
    """The certificates alone, as SignedData in DER."""
    return pkcs7.serialize_certificates(list(credential.chain), Encoding.DER)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > _LARGEST_FILE_BYTES:
        raise ConfigurationError(f"{path} is too large for a certificate or a key")
    return content


def _load_key(path: Path, content: bytes, ask: AskPassphrase | None) -> PrivateKey:
    def load(passphrase: bytes | None) -> object:
        return load_pem_private_key(content, passphrase)

    return _usable(path, _unlock(path, load, ask))


def _load_pkcs12(path: Path, content: bytes, ask: AskPassphrase | None) -> ClientCredential:
    store = _unlock(path, lambda passphrase: load_pkcs12(content, passphrase), ask)
    key, first = getattr(store, "key", None), getattr(store, "cert", None)
    if key is None or first is None:
        raise ConfigurationError(f"{path} holds no certificate with its key")
    others = tuple(each.certificate for each in getattr(store, "additional_certs", ()))
    return ClientCredential((first.certificate, *others), _usable(path, key))


def _unlock(
    path: Path, load: Callable[[bytes | None], object], ask: AskPassphrase | None
) -> object:
    """Load without a passphrase, then with those that are typed."""
    passphrase: bytes | None = None
    for tried in range(PASSPHRASE_TRIES + 1):
        try:
            return load(passphrase)
        except (ValueError, TypeError) as error:
            # Now and then a wrong passphrase leaves something that just cannot be read
            if passphrase is None and not _is_about_passphrase(error):
                raise ConfigurationError(
                    f"{path} holds no private key that can be read: PEM or PKCS#12 is wanted"
                ) from None
        except UnsupportedAlgorithm:
            raise ConfigurationError(f"{path}: a key of a kind that is not supported") from None
        if ask is None or tried == PASSPHRASE_TRIES:
            break
        typed = ask(f"Passphrase for {path}: ")
        if not typed:
            break
        passphrase = typed.encode()
    raise ConfigurationError(f"{path} is encrypted, and the passphrase is missing or wrong")


def _is_about_passphrase(error: Exception) -> bool:
    text = str(error).lower()
    return "password" in text or "decrypt" in text or "passphrase" in text


def _usable(path: Path, key: object) -> PrivateKey:
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{path}: the key is neither RSA nor of an elliptic curve")
    return key


def _check(credential: ClientCredential, path: Path) -> None:
    if credential.chain[0].public_key() != credential.key.public_key():
        raise ConfigurationError(
            f"{path}: the certificate does not fit the key; the first certificate in the file "
            "must be the key's"
        )
    for certificate, issuer in zip(credential.chain, credential.chain[1:], strict=False):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            log.warn("{path}: the certificates are no chain, leaf first", path=str(path))
            break
    if not _is_valid_now(credential):
        log.warn("{path}: the certificate is expired or not yet valid", path=str(path))


def _is_valid_now(credential: ClientCredential) -> bool:
    now = datetime.now(UTC)
    leaf = credential.chain[0]
    return leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
