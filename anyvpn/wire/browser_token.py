"""The token of a login in an external browser, as the browser carries it: sealed for the client.

    blob = version 1 (2 bytes), then fields: tag (2), length (2), value
        1  the gateway's ephemeral public key (DER SubjectPublicKeyInfo, P-256)
        2  the AEAD's tag (12 bytes)    3  the sealed token    4  the AEAD's nonce (12 bytes)

Source: protocol reference, sections 3.11 and 3.12 (observed in openconnect's source).
"""

from __future__ import annotations

import base64
import binascii
import re

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
NONCE_BYTES = 12
_VERSION = b"\0\1"
_PUBLIC_KEY, _TAG, _SEALED, _NONCE = 1, 2, 3, 4
_TAG_BYTES = 12
_KEY_BYTES = 32
_KEY_INFO = b"AC_ECIES"
_TOKEN = re.compile(rb"[A-Za-z0-9+/=_.-]{1,4096}")

# Ours
_LONGEST_BLOB_CHARACTERS = 16 * 1024


def read_exchange_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """A public key of P-256. Raises: MalformedMessage."""
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedMessage("the browser's token is sealed with no key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedMessage("the browser's token is sealed with a key of another kind")
    return key


def seal_browser_token(token: str, exchange_key: bytes, nonce: bytes) -> str:
    """What a gateway's page sends the browser home with: `exchange_key` is the client's, in DER.

    `nonce` is 12 random bytes. Raises: MalformedMessage: no key of this curve.
    """
    ours = ec.generate_private_key(ec.SECP256R1())
    cipher = _cipher(ours, read_exchange_key(exchange_key))
    encryptor = Cipher(cipher, modes.GCM(nonce)).encryptor()
    sealed = encryptor.update(token.encode("ascii")) + encryptor.finalize()
    blob = _VERSION
    for tag, value in (
        (_PUBLIC_KEY, public_der(ours)),
        (_TAG, encryptor.tag[:_TAG_BYTES]),
        (_SEALED, sealed),
        (_NONCE, nonce),
    ):
        blob += tag.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
    return base64.b64encode(blob).decode("ascii")


def open_browser_token(blob: str, exchange_key: ec.EllipticCurvePrivateKey) -> str:
    """The token that the browser brought. Raises: MalformedMessage."""
    fields = _read_fields(blob)
    theirs = read_exchange_key(fields.get(_PUBLIC_KEY, b""))
    nonce, tag = fields.get(_NONCE, b""), fields.get(_TAG, b"")
    if len(nonce) != NONCE_BYTES or len(tag) != _TAG_BYTES:
        raise MalformedMessage("the browser's token is not sealed as it should be")
    mode = modes.GCM(nonce, tag, min_tag_length=_TAG_BYTES)
    decryptor = Cipher(_cipher(exchange_key, theirs), mode).decryptor()
    try:
        token = decryptor.update(fields.get(_SEALED, b"")) + decryptor.finalize()
    except InvalidTag:
        raise MalformedMessage("the browser's token is sealed for somebody else") from None
    if _TOKEN.fullmatch(token) is None:
        raise MalformedMessage("the browser's token is no token")
    return token.decode("ascii")


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half of a key, as headers and blobs carry it."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


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


def _cipher(
    ours: ec.EllipticCurvePrivateKey, theirs: ec.EllipticCurvePublicKey
) -> algorithms.AES256:
    secret = ours.exchange(ec.ECDH(), theirs)
    return algorithms.AES256(HKDF(SHA256(), _KEY_BYTES, salt=None, info=_KEY_INFO).derive(secret))
