"""Whom the client trusts: what is checked of a gateway's certificate (phase 1).

The decision falls within the handshake, before our own certificate or a byte of ours goes out.

Source: protocol reference, section 1.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.logger import Logger

from anyvpn.client.credentials import ClientCredential
from anyvpn.client.gateway_url import is_address
from anyvpn.client.known_gateways import KnownGateways
from anyvpn.errors import ConfigurationError, GatewayUntrusted
from anyvpn.packets.tls_failures import reason_in
from anyvpn.packets.tls_keys import TLSSecrets

log = Logger()

_VERSIONS = {"1.0": SSL.TLS1_VERSION, "1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

# From OpenSSL (x509_vfy.h); pyOpenSSL gives the number alone
_FAULTS = {
    2: "is issued by an unknown authority",
    9: "is not valid yet",
    10: "is expired",
    18: "is self-signed",
    19: "is issued by an unknown root",
    20: "is issued by an unknown authority",
    21: "is issued by an unknown authority",
    23: "is revoked",
    26: "is not meant for servers",
    66: "has a key that is too weak",
    68: "has a signature that is too weak",
}

# Ours
_FEWEST_PIN_DIGITS = 4
_PIN = re.compile(
    r"pin-sha256:(?P<base64>[A-Za-z0-9+/]{43}=)|(?P<kind>sha1|sha256):(?P<hex>[0-9A-Fa-f:]+)"
)


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """What a gateway's certificate must be.

    `pins` are "pin-sha256:BASE64", or "sha256:HEX" and "sha1:HEX" with at least the first 4
    digits, all of the public key; one that matches is all that is needed, and none that matches
    is a refusal. `first_use_file` remembers the keys of gateways that were met. `server_name`
    stands for the name in the URL.
    """

    ca_file: Path | None = None
    system_trust: bool = True
    pins: tuple[str, ...] = ()
    allow_untrusted: bool = False
    first_use_file: Path | None = None
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedCertificate:
    """A gateway's certificate; with a `warning` when it was let pass although it has faults."""

    der: bytes = field(repr=False)
    warning: str = ""

    @property
    def pin(self) -> str:
        """The way to name its key for good."""
        digest = hashlib.sha256(self.public_key).digest()
        return "pin-sha256:" + base64.b64encode(digest).decode("ascii")

    @property
    def sha1(self) -> str:
        """Of the whole certificate, in upper-case hex, as gateways announce it."""
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest().upper()

    @property
    def public_key(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        key = x509.load_der_x509_certificate(self.der).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(slots=True)
class _Watched:
    """One connection: who is expected, what was found."""

    host: str
    port: int
    accepted: AcceptedCertificate | None
    faults: dict[str, None] = field(default_factory=dict)
    verdict: AcceptedCertificate | None = None
    refusal: GatewayUntrusted | None = None
    is_new: bool = False
    """Met for the first time in this very handshake."""


class GatewayTrust:
    """Decides by the settings. Raises ConfigurationError: every file and pin that is wrong."""

    def __init__(self, settings: TrustSettings) -> None:
        self.secrets = TLSSecrets()
        self._settings = settings
        problems: list[str] = []
        self._authorities = _read_authorities(settings.ca_file, problems)
        for pin in settings.pins:
            if not _is_pin(pin):
                problems.append(
                    f"{pin!r} is no pin; write pin-sha256: and 44 characters of base64, or sha256: "
                    f"and at least {_FEWEST_PIN_DIGITS} hex digits"
                )
        if problems:
            raise ConfigurationError(*problems)
        self._known = (
            None if settings.first_use_file is None else KnownGateways(settings.first_use_file)
        )

    def new_context(
        self, credential: ClientCredential | None, minimum_version: str, ciphers: str
    ) -> SSL.Context:
        """The context of our connections. Raises: ConfigurationError."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if minimum_version not in _VERSIONS:
            raise ConfigurationError(f"TLS {minimum_version} is not known; use 1.0, 1.2 or 1.3")
        context.set_min_proto_version(_VERSIONS[minimum_version])
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if ciphers:
            try:
                context.set_cipher_list(ciphers.encode("ascii"))
            except (SSL.Error, UnicodeEncodeError):
                raise ConfigurationError(
                    f"{ciphers!r} names no cipher; use OpenSSL's list format"
                ) from None
        if self._settings.system_trust:
            context.set_default_verify_paths()
        store = context.get_cert_store()
        for authority in self._authorities:
            if store is not None:
                store.add_cert(authority)
        if credential is not None:
            _use_credential(context, credential)
        context.set_verify(SSL.VERIFY_PEER, self._look)
        self.secrets.watch(context)
        return context

    def watch(
        self, tls: SSL.Connection, host: str, port: int, accepted: AcceptedCertificate | None
    ) -> None:
        """Say who is expected, before the handshake; `accepted` is what the login began with."""
        tls.set_app_data(_Watched(host, port, accepted))

    def verdict(self, tls: SSL.Connection) -> AcceptedCertificate:
        """What was accepted, after a complete handshake. Raises: GatewayUntrusted."""
        watched = tls.get_app_data()
        if isinstance(watched, _Watched) and watched.verdict is not None:
            return watched.verdict
        raise self.refusal(tls) or GatewayUntrusted("the gateway showed no certificate")

    def refusal(self, tls: SSL.Connection) -> GatewayUntrusted | None:
        """Why it was not accepted, after a handshake that failed; None when it was."""
        watched = tls.get_app_data()
        return watched.refusal if isinstance(watched, _Watched) else None

    # --- within the handshake ---------------------------------------------------------------

    def _look(
        self,
        connection: SSL.Connection,
        certificate: crypto.X509,
        error: int,
        depth: int,
        good: int,
    ) -> bool:
        """OpenSSL looked at one certificate; the leaf comes last, perhaps more than once."""
        watched = connection.get_app_data()
        if not isinstance(watched, _Watched):
            return False
        try:
            if not good:
                which = "the certificate" if depth == 0 else "a certificate above it"
                fault = _FAULTS.get(error, f"fails OpenSSL's check {error}")
                watched.faults[f"{which} {fault}"] = None
            if depth > 0:
                return True
            return self._decide(watched, certificate.to_cryptography())
        except GatewayUntrusted as refusal:
            watched.refusal = refusal
        except ConfigurationError as problem:
            watched.refusal = GatewayUntrusted(str(problem))
        except Exception:
            # OpenSSL would go on as if nothing were wrong
            log.failure("The gateway's certificate cannot be looked at")
            watched.refusal = GatewayUntrusted("the gateway's certificate cannot be read")
        return False

    def _decide(self, watched: _Watched, leaf: x509.Certificate) -> bool:
        """Raises GatewayUntrusted."""
        shown = AcceptedCertificate(leaf.public_bytes(Encoding.DER))
        name = self._settings.server_name or watched.host
        faults = list(watched.faults)
        if not _is_for(leaf, name):
            faults.append(f"the certificate is for {_names(leaf)}, not for {name}")
        accepted = watched.accepted
        if accepted is not None and accepted.public_key != shown.public_key:
            raise GatewayUntrusted(
                "the gateway shows another certificate than at the login", shown.pin
            )
        why = "; ".join(faults)
        pins = self._settings.pins
        if pins:
            if not any(_matches(pin, shown.public_key) for pin in pins):
                raise GatewayUntrusted(
                    "the gateway's key is none of those that are pinned", shown.pin
                )
            why = ""
        elif why and self._known is not None:
            why = self._look_up(self._known, watched, shown, why)
        elif why and not self._settings.allow_untrusted:
            raise GatewayUntrusted(f"the gateway is not trusted: {why}", shown.pin)
        watched.verdict = AcceptedCertificate(shown.der, why)
        return True

    @staticmethod
    def _look_up(
        known: KnownGateways, watched: _Watched, shown: AcceptedCertificate, why: str
    ) -> str:
        """Trust on first use; gives the warning, if one is due. Raises: GatewayUntrusted."""
        before = known.find(watched.host, watched.port)
        if not before:
            known.add(watched.host, watched.port, shown.pin)
            watched.is_new = True
        elif not hmac.compare_digest(before, shown.pin):
            raise GatewayUntrusted(
                f"the key of this gateway has changed since it was first met ({why}): somebody "
                "may be in between",
                shown.pin,
            )
        # Asked more than once in a handshake, of which the first has made it known
        return f"{why}; its key is trusted from now on" if watched.is_new else ""


def _use_credential(context: SSL.Context, credential: ClientCredential) -> None:
    leaf, *others = credential.chain
    try:
        context.use_certificate(leaf)
        for other in others:
            context.add_extra_chain_cert(other)
        context.use_privatekey(credential.key)
    except SSL.Error as error:
        raise ConfigurationError(
            f"the certificate of {credential.subject} cannot be used: {reason_in(error)}"
        ) from None


def _is_for(leaf: x509.Certificate, name: str) -> bool:
    try:
        if is_address(name):
            verify_certificate_ip_address(leaf, name)
        else:
            verify_certificate_hostname(leaf, name)
    except (VerificationError, CertificateError, ValueError):
        return False
    return True


def _names(leaf: x509.Certificate) -> str:
    """Whom it is for, for people."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [str(each.value) for each in extension.value]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    return ", ".join(names[:5]) or leaf.subject.rfc4514_string() or "nobody"


def _is_pin(pin: str) -> bool:
    found = _PIN.fullmatch(pin)
    if found is None:
        return False
    digits = found["hex"]
    if digits is not None:
        return len(digits.replace(":", "")) >= _FEWEST_PIN_DIGITS
    try:
        base64.b64decode(found["base64"], validate=True)
    except binascii.Error:
        return False
    return True


def _matches(pin: str, public_key: bytes) -> bool:
    found = _PIN.fullmatch(pin)
    assert found is not None, "checked before"
    if found["base64"] is not None:
        digest = base64.b64encode(hashlib.sha256(public_key).digest()).decode("ascii")
        return hmac.compare_digest(digest, found["base64"])
    digits = found["hex"].replace(":", "").lower()
    return (
        hashlib.new(found["kind"], public_key, usedforsecurity=False).hexdigest().startswith(digits)
    )


def _read_authorities(file: Path | None, problems: list[str]) -> list[crypto.X509]:
    if file is None:
        return []
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        problems.append(f"cannot read {file}: {error.strerror}")
        return []
    except ValueError:
        problems.append(f"{file} holds no PEM certificate")
        return []
    return [crypto.X509.from_cryptography(each) for each in certificates]
