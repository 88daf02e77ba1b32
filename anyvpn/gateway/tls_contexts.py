"""The gateway's TLS contexts: one for each certificate, chosen by the name that clients ask for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL, crypto

from anyvpn.errors import ConfigurationError
from anyvpn.gateway.settings import TLSIdentity, TLSSettings
from anyvpn.packets.tls_keys import TLSSecrets

_MINIMUM_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

# From OpenSSL (x509_vfy.h); pyOpenSSL gives the number alone
_VERIFY_ERRORS = {
    7: "not signed by the issuer that it names",
    9: "not yet valid",
    10: "expired",
    18: "self-signed",
    19: "an unknown root",
    20: "an unknown issuer",
    21: "an unknown issuer",
    23: "revoked",
    26: "not meant for clients",
    66: "a key that is too weak",
    67: "an authority with a key that is too weak",
    68: "a signature that is too weak",
}


class ServerContexts:
    """Reads certificates and keys once; `default` is the context to begin each connection with.

    Raises: ConfigurationError: every file that cannot be used, each with the reason.
    """

    def __init__(self, settings: TLSSettings) -> None:
        self.secrets = TLSSecrets()
        problems: list[str] = []
        self._by_name: dict[str, tuple[SSL.Context, str]] = {}
        self._client_cas = _read_client_cas(settings.client_ca_file, problems)
        if settings.minimum_version not in _MINIMUM_VERSIONS:
            problems.append(
                f"tls.minimum_version: {settings.minimum_version!r} is not known; use 1.2 or 1.3"
            )
        if not settings.identities:
            problems.append("tls: no certificate; name one with its key")
        built = [self._context(settings, identity, problems) for identity in settings.identities]
        if problems:
            raise ConfigurationError(*problems)
        made = [each for each in built if each is not None]
        self.default, self._default_hash = made[0]
        for identity, context_and_hash in zip(settings.identities, made, strict=True):
            for name in identity.names:
                self._by_name[name.lower()] = context_and_hash

    def certificate_hash(self, server_name: str) -> str:
        """SHA-1 (upper-case hex) of the certificate that clients of that name are shown."""
        found = self._by_name.get(server_name.lower())
        return self._default_hash if found is None else found[1]

    def _context(
        self, settings: TLSSettings, identity: TLSIdentity, problems: list[str]
    ) -> tuple[SSL.Context, str] | None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(
            _MINIMUM_VERSIONS.get(settings.minimum_version, SSL.TLS1_2_VERSION)
        )
        context.set_options(
            SSL.OP_NO_COMPRESSION
            | SSL.OP_NO_RENEGOTIATION
            | SSL.OP_NO_TICKET
            | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        try:
            context.set_cipher_list(settings.ciphers.encode("ascii"))
        except (SSL.Error, UnicodeEncodeError):
            problems.append(
                f"tls.ciphers: {settings.ciphers!r} names no cipher; use OpenSSL's list format"
            )
        certificate_hash = _use_certificate(context, identity, problems)
        if self._client_cas and settings.client_ca_file is not None:
            context.load_client_ca(bytes(settings.client_ca_file))
            store = context.get_cert_store()
            assert store is not None
            for each in self._client_cas:
                store.add_cert(each)
            context.set_verify(SSL.VERIFY_PEER, _note_verification)
        context.set_tlsext_servername_callback(self._choose_context)
        self.secrets.watch(context)
        return None if certificate_hash is None else (context, certificate_hash)

    def _choose_context(self, connection: SSL.Connection) -> None:
        name = connection.get_servername()
        if name is None:
            return
        found = self._by_name.get(name.decode("ascii", "replace").lower())
        if found is not None:
            connection.set_context(found[0])


def verification_failure(connection: SSL.Connection) -> str:
    """Why the client's certificate was not accepted; empty when it was, or when none came."""
    noted: object = connection.get_app_data()
    return noted if isinstance(noted, str) else ""


def peer_certificates_der(connection: SSL.Connection) -> tuple[bytes, ...]:
    """The peer's own certificate, then those that TLS has verified it by; empty without one.

    Where nothing was verified, or it failed, it is the peer's own certificate alone.
    """
    leaf = connection.get_peer_certificate()
    if leaf is None:
        return ()
    chain = connection.get_verified_chain() or [leaf]
    return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in chain)


def _note_verification(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, good: int
) -> bool:
    """Let the handshake go on: whether a certificate is needed is decided per profile."""
    if not good:
        try:
            subject = certificate.to_cryptography().subject.rfc4514_string()
        except ValueError:
            subject = "an unreadable subject"
        reason = _VERIFY_ERRORS.get(error, f"OpenSSL's verification error {error}")
        connection.set_app_data(f"{reason} at depth {depth}: {subject}")
    return True


def _use_certificate(
    context: SSL.Context, identity: TLSIdentity, problems: list[str]
) -> str | None:
    try:
        chain = x509.load_pem_x509_certificates(identity.certificate_file.read_bytes())
        context.use_certificate_chain_file(str(identity.certificate_file))
    except OSError as error:
        problems.append(f"tls.certificate: cannot read {error.filename}: {error.strerror}")
        return None
    except (ValueError, SSL.Error):
        problems.append(
            f"tls.certificate: {identity.certificate_file} holds no PEM certificate chain"
        )
        return None
    try:
        # not by OpenSSL, which would ask for a passphrase at the terminal, and wait
        key = load_pem_private_key(identity.key_file.read_bytes(), None)
        context.use_privatekey(key)  # type: ignore[arg-type]  # a kind that it does not take is below
        context.check_privatekey()
    except OSError as error:
        problems.append(f"tls.key: cannot read {error.filename}: {error.strerror}")
        return None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problems.append(
            f"tls.key: {identity.key_file} holds no PEM private key without a passphrase"
        )
        return None
    except SSL.Error:
        problems.append(
            f"tls.certificate: {identity.certificate_file} does not fit the key "
            f"{identity.key_file}; the first certificate in the file must be the key's"
        )
        return None
    digest = hashlib.sha1(chain[0].public_bytes(Encoding.DER), usedforsecurity=False)
    return digest.hexdigest().upper()


def _read_client_cas(file: Path | None, problems: list[str]) -> list[crypto.X509]:
    if file is None:
        return []
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        problems.append(f"tls.client_ca: cannot read {error.filename}: {error.strerror}")
        return []
    except ValueError:
        problems.append(f"tls.client_ca: {file} holds no PEM certificate")
        return []
    return [crypto.X509.from_cryptography(each) for each in certificates]
