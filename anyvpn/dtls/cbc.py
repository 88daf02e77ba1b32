"""AES-CBC with HMAC-SHA1, MAC first: the records of clients from before AES-GCM."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyvpn.model.channels import DirectionKeys

# From the protocol
BLOCK_BYTES: Final = 16
MAC_BYTES: Final = 20
PAD_LENGTH_BYTES: Final = 1

SMALLEST_BODY_BYTES: Final = BLOCK_BYTES + 2 * BLOCK_BYTES
"""The explicit IV, then what MAC and padding of an empty payload fill."""


class CBCProtection:
    """Seals and opens the body of a record: IV, then payload, MAC and padding encrypted.

    `prefix` is what the MAC covers before the length and the payload: epoch and sequence
    number (8 bytes), content type, version. Source: RFC 5246, section 6.2.3.2.
    """

    def __init__(self, keys: DirectionKeys, random: Callable[[int], bytes]) -> None:
        self._algorithm = AES(keys.key)
        self._mac_key = keys.mac_key
        self._random = random

    def _mac(self, prefix: bytes, payload: bytes) -> bytes:
        covered = prefix + len(payload).to_bytes(2, "big") + payload
        return hmac.digest(self._mac_key, covered, "sha1")

    def seal(self, prefix: bytes, payload: bytes) -> bytes:
        """Make the body of one record, under a fresh IV."""
        plain = payload + self._mac(prefix, payload)
        padding = BLOCK_BYTES - PAD_LENGTH_BYTES - len(plain) % BLOCK_BYTES
        plain += bytes([padding]) * (padding + PAD_LENGTH_BYTES)
        initial = self._random(BLOCK_BYTES)
        encryptor = Cipher(self._algorithm, CBC(initial)).encryptor()
        return initial + encryptor.update(plain) + encryptor.finalize()

    def open(self, prefix: bytes, body: bytes) -> bytes | None:
        """The payload of one record's body, or None for a forged one.

        Padding and MAC share one verdict, and a MAC is made over as many bytes whatever the
        padding says, so that the time taken tells little about which of them was wrong.
        """
        if len(body) < SMALLEST_BODY_BYTES or len(body) % BLOCK_BYTES:
            return None
        decryptor = Cipher(self._algorithm, CBC(body[:BLOCK_BYTES])).decryptor()
        plain = decryptor.update(body[BLOCK_BYTES:]) + decryptor.finalize()
        padding = plain[-1]
        payload_bytes = len(plain) - PAD_LENGTH_BYTES - padding - MAC_BYTES
        if payload_bytes < 0:
            padding = 0  # which the last byte then does not say, and fails by that
            payload_bytes = len(plain) - PAD_LENGTH_BYTES - MAC_BYTES
        payload = plain[:payload_bytes]
        mac = plain[payload_bytes : payload_bytes + MAC_BYTES]
        mac_is_right = hmac.compare_digest(mac, self._mac(prefix, payload))
        hashlib.sha1(plain[payload_bytes : payload_bytes + padding], usedforsecurity=False)
        expected_padding = bytes([padding]) * (padding + PAD_LENGTH_BYTES)
        padding_is_right = hmac.compare_digest(plain[payload_bytes + MAC_BYTES :], expected_padding)
        return payload if mac_is_right & padding_is_right else None
