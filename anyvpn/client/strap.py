"""The keys of a login in an external browser (STRAP): what is sealed for them, what they sign.

    blob = version 1 (2 bytes), then fields: tag (2), length (2), value
        1  the gateway's ephemeral public key (DER SubjectPublicKeyInfo, P-256)
        2  the AEAD's tag (12 bytes)    3  the sealed token    4  the AEAD's nonce (12 bytes)

Source: protocol reference, sections 3.11 and 3.12 (observed in openconnect's source).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from anyvpn.errors import MalformedMessage

# From the protocol
_VERSION = b"\0\1"
_PUBLIC_KEY, _TAG, _SEALED, _NONCE = 1, 2, 3, 4
_TAG_BYTES = _NONCE_BYTES = 12
_KEY_BYTES = 32
_KEY_INFO = b"AC_ECIES"
_TOKEN = re.compile(rb"[A-Za-z0-9+/=_.-]{1,4096}")

# Ours
_LONGEST_BLOB_CHARACTERS = 16 * 1024


@dataclass(frozen=True, slots=True)
class StrapKeys:
    """Two pairs of keys, made for one login."""

    signing_key: ec.EllipticCurvePrivateKey = field(repr=False)
    exchange_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> StrapKeys:
        """New ones."""
        return cls(ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()))

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What every request of the login says of them."""
        return (
            (b"X-AnyConnect-STRAP-Pubkey", base64.b64encode(_public(self.signing_key))),
            (b"X-AnyConnect-STRAP-DH-Pubkey", base64.b64encode(_public(self.exchange_key))),
        )

    def tunnel_headers(self, channel_binding: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """What CONNECT says of them: whoever logged in is at the other end of this very channel.

        The key stays the same, as it does for whoever takes a token over.
        """
        public_key = _public(self.signing_key)
        signature = self.signing_key.sign(channel_binding + public_key, ec.ECDSA(SHA256()))
        return (
            (b"X-AnyConnect-STRAP-Verify", base64.b64encode(signature)),
            (b"X-AnyConnect-STRAP-Pubkey", base64.b64encode(public_key)),
        )

    def open_browser_token(self, blob: str) -> str:
        """The token that the browser brought. Raises: MalformedMessage."""
        fields = _read_fields(blob)
        try:
            public_key = load_der_public_key(fields.get(_PUBLIC_KEY, b""))
        except (ValueError, UnsupportedAlgorithm):
            raise MalformedMessage("the browser's token is sealed with no key") from None
        nonce, tag = fields.get(_NONCE, b""), fields.get(_TAG, b"")
        if len(nonce) != _NONCE_BYTES or len(tag) != _TAG_BYTES:
            raise MalformedMessage("the browser's token is not sealed as it should be")
        try:
            token = _opened(self.exchange_key, public_key, nonce, tag, fields.get(_SEALED, b""))
        except (InvalidTag, ValueError):
            raise MalformedMessage("the browser's token is sealed for somebody else") from None
        if _TOKEN.fullmatch(token) is None:
            raise MalformedMessage("the browser's token is no token")
        return token.decode("ascii")


def seal_browser_token(token: str, exchange_key: bytes, nonce: bytes) -> str:
    """What a gateway's page sends the browser home with: `exchange_key` is the client's, in DER.

    `nonce` is 12 random bytes. Raises: ValueError: no key of this curve.
    """
    theirs = load_der_public_key(exchange_key)
    ours = ec.generate_private_key(ec.SECP256R1())
    cipher = _cipher(ours, theirs, nonce)
    encryptor = Cipher(cipher, modes.GCM(nonce)).encryptor()
    sealed = encryptor.update(token.encode("ascii")) + encryptor.finalize()
    blob = _VERSION
    for tag, value in (
        (_PUBLIC_KEY, _public(ours)),
        (_TAG, encryptor.tag[:_TAG_BYTES]),
        (_SEALED, sealed),
        (_NONCE, nonce),
    ):
        blob += tag.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
    return base64.b64encode(blob).decode("ascii")


def _read_fields(text: str) -> dict[int, bytes]:
    if len(text) > _LONGEST_BLOB_CHARACTERS:
        raise MalformedMessage("the browser's token is too long")
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedMessage("the browser's token is not base64") from None
    if blob[:2] != _VERSION:
        raise MalformedMessage("the browser's token is of another version")
    fields: dict[int, bytes] = {}
    at = 2
    while at < len(blob):
        tag, length = int.from_bytes(blob[at : at + 2]), int.from_bytes(blob[at + 2 : at + 4])
        value = blob[at + 4 : at + 4 + length]
        if len(value) != length or at + 4 > len(blob):
            raise MalformedMessage("the browser's token is cut off")
        fields.setdefault(tag, value)
        at += 4 + length
    return fields


def _opened(
    ours: ec.EllipticCurvePrivateKey, theirs: object, nonce: bytes, tag: bytes, sealed: bytes
) -> bytes:
    """Raises: InvalidTag, ValueError."""
    mode = modes.GCM(nonce, tag, min_tag_length=_TAG_BYTES)
    decryptor = Cipher(_cipher(ours, theirs, nonce), mode).decryptor()
    return decryptor.update(sealed) + decryptor.finalize()


def _cipher(ours: ec.EllipticCurvePrivateKey, theirs: object, nonce: bytes) -> algorithms.AES256:
    is_fitting = isinstance(theirs, ec.EllipticCurvePublicKey) and isinstance(
        theirs.curve, ec.SECP256R1
    )
    if not is_fitting or len(nonce) != _NONCE_BYTES:
        raise ValueError("no key of P-256, or no nonce")
    assert isinstance(theirs, ec.EllipticCurvePublicKey)
    secret = ours.exchange(ec.ECDH(), theirs)
    key = HKDF(SHA256(), _KEY_BYTES, salt=None, info=_KEY_INFO).derive(secret)
    return algorithms.AES256(key)


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
