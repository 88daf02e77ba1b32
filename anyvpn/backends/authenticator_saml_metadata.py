"""The identity provider as its metadata describes it, read again when the file changes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from lxml import etree
from twisted.logger import Logger

from anyvpn.backends.authenticator_saml_documents import PROTOCOL, SIGNATURE, Element
from anyvpn.backends.file_stamps import stamp_of
from anyvpn.errors import ConfigurationError
from anyvpn.model.browser_address import browser_origin

log = Logger()

# From the protocol: SAML 2.0 metadata, section 1.1; bindings, section 3.4
_METADATA = "{urn:oasis:names:tc:SAML:2.0:metadata}"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"

# Ours
LARGEST_BYTES = 16 * 1024 * 1024  # a federation's list of all its members
SHORTEST_KEY_BITS = 2048  # of RSA


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """Whom we believe: where it logs users in, and the certificates (base64) that it signs with."""

    entity_id: str
    login_url: str
    certificates: tuple[str, ...] = field(repr=False)
    wants_signed_requests: bool = False


class WatchedProvider:
    """One identity provider of a file; used by several threads."""

    def __init__(self, path: Path, entity_id: str, *, signs: bool) -> None:
        """`entity_id` chooses one of several; `signs`: our requests are signed.

        Raises: ConfigurationError: the file has no identity provider that can be used.
        """
        self._path = path
        self._entity_id = entity_id
        self._signs = signs
        self._lock = Lock()
        self._stamp = stamp_of(path)
        self._provider = self._read()

    def current(self) -> IdentityProvider:
        """As it is now; when the file has become unusable, as it was before."""
        with self._lock:
            stamp = stamp_of(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._provider = self._read()
                    log.info("The metadata {path} has changed and is read again", path=self._path)
                except ConfigurationError as error:
                    log.error(
                        "The metadata {path} has changed but cannot be used, "
                        "the identity provider stays as it was: {problem}",
                        path=self._path,
                        problem=str(error),
                    )
            return self._provider

    def _read(self) -> IdentityProvider:
        try:
            provider = _provider_in(self._path, self._entity_id)
            if provider.wants_signed_requests and not self._signs:
                raise _Unusable("wants signed requests: set signing_key and signing_certificate")
        except _Unusable as error:
            raise ConfigurationError(f"idp_metadata: {self._path} {error}") from None
        return provider


class _Unusable(Exception):
    """What is wrong with a file, to be put behind its name."""


def _provider_in(path: Path, entity_id: str) -> IdentityProvider:
    descriptors = {each.get("entityID", ""): each for each in _entities(_parsed(path))}
    if not descriptors:
        raise _Unusable("describes no identity provider of SAML 2.0")
    if not entity_id and len(descriptors) > 1:
        raise _Unusable(f"describes {len(descriptors)} identity providers: choose one by idp")
    entity_id = entity_id or next(iter(descriptors))
    if entity_id not in descriptors:
        raise _Unusable(f"describes no identity provider {entity_id}")
    _check_validity(descriptors[entity_id])
    role = _role(descriptors[entity_id])
    assert role is not None
    return IdentityProvider(
        entity_id,
        _login_url(role),
        tuple(_certificates(role)),
        role.get("WantAuthnRequestsSigned") in {"true", "1"},
    )


def _parsed(path: Path) -> Element:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise _Unusable(f"is larger than {LARGEST_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise _Unusable(f"cannot be read: {error.strerror}") from None
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True
    )
    try:
        return etree.fromstring(content, parser)
    except (etree.LxmlError, ValueError):
        raise _Unusable("is no XML document") from None


def _entities(root: Element) -> Iterator[Element]:
    for each in root.iter(f"{_METADATA}EntityDescriptor"):
        if _role(each) is not None:
            yield each


def _role(entity: Element) -> Element | None:
    for each in entity.iterfind(f"{_METADATA}IDPSSODescriptor"):
        if PROTOCOL.strip("{}") in each.get("protocolSupportEnumeration", "").split():
            return each
    return None


def _check_validity(entity: Element) -> None:
    for each in (entity, *entity.iterancestors()):
        text = each.get("validUntil")
        if text is None:
            continue
        try:
            until = datetime.fromisoformat(text)
        except ValueError:
            raise _Unusable(f"has a validUntil that is no time: {text}") from None
        if (until if until.tzinfo else until.replace(tzinfo=UTC)) <= datetime.now(UTC):
            raise _Unusable(f"was valid until {text} only")


def _login_url(role: Element) -> str:
    for each in role.iterfind(f"{_METADATA}SingleSignOnService"):
        if each.get("Binding") == REDIRECT:
            url = each.get("Location", "")
            if not browser_origin(url).startswith("https:"):
                raise _Unusable(f"names an address that no browser should be sent to: {url}")
            return url
    raise _Unusable("names no SingleSignOnService of the HTTP-Redirect binding")


def _certificates(role: Element) -> Iterator[str]:
    found = [
        "".join((each.text or "").split())
        for key in role.iterfind(f"{_METADATA}KeyDescriptor")
        if key.get("use") in {None, "signing"}
        for each in key.iterfind(f".//{SIGNATURE}X509Certificate")
    ]
    if not found:
        raise _Unusable("has no certificate to check signatures with")
    for text in found:
        try:
            key = x509.load_der_x509_certificate(base64.b64decode(text)).public_key()
        except ValueError:
            raise _Unusable("has a certificate that cannot be read") from None
        if isinstance(key, RSAPublicKey) and key.key_size < SHORTEST_KEY_BITS:
            raise _Unusable(f"has an RSA key of less than {SHORTEST_KEY_BITS} bits")
        if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey):
            raise _Unusable("has a key that is neither of RSA nor of an elliptic curve")
        yield text
