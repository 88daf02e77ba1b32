"""MS-CHAPv2: a password proved without sending it (RFC 2759, RFC 2548; MD4 is RFC 1320).

Both MD4 and DES are broken; what protects the exchange is the network that it runs in.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

# From the protocol: RFC 2759, section 8.7
_MAGIC_SERVER_TO_CLIENT = b"Magic server to client signing constant"
_MAGIC_PAD = b"Pad to make it do more than one iteration"
CHALLENGE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Proof:
    """What is sent, and what the server must answer to be believed."""

    challenge: bytes = field(repr=False)
    response: bytes = field(repr=False)
    expected_success: bytes = field(repr=False)


def prove(
    user: str, password: str, challenge: bytes, peer_challenge: bytes, identifier: int = 1
) -> Proof:
    """What goes into MS-CHAP-Challenge and MS-CHAP2-Response, and what must come back."""
    name = user.rpartition("\\")[2].encode("utf-8")
    password_hash = md4(password.encode("utf-16-le"))
    digest = hashlib.sha1(peer_challenge + challenge + name, usedforsecurity=False).digest()[:8]
    nt_response = b"".join(_des(part, digest) for part in _sevens(password_hash.ljust(21, b"\0")))
    response = bytes((identifier, 0)) + peer_challenge + bytes(8) + nt_response
    inner = hashlib.sha1(
        md4(password_hash) + nt_response + _MAGIC_SERVER_TO_CLIENT, usedforsecurity=False
    )
    outer = hashlib.sha1(inner.digest() + digest + _MAGIC_PAD, usedforsecurity=False)
    success = bytes((identifier,)) + b"S=" + outer.hexdigest().upper().encode()
    return Proof(challenge, response, success)


def is_success(proof: Proof, given: bytes) -> bool:
    """Whether a server has proved that it knows the password, too."""
    expected = proof.expected_success
    return hmac.compare_digest(given[: len(expected)], expected)


def _sevens(key: bytes) -> tuple[bytes, ...]:
    return tuple(key[start : start + 7] for start in (0, 7, 14))


def _des(key: bytes, block: bytes) -> bytes:
    """One block of DES, with a key of 56 bits."""
    bits = int.from_bytes(key, "big")
    spread = bytes(((bits >> (49 - 7 * each)) & 0x7F) << 1 for each in range(8))
    encryptor = Cipher(TripleDES(spread * 3), modes.ECB()).encryptor()  # noqa: S305 - RFC 2759
    return encryptor.update(block) + encryptor.finalize()


def md4(data: bytes) -> bytes:
    """MD4 (RFC 1320), which no maintained library offers any more."""
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8)
    for start in range(0, len(padded), 64):
        words = struct.unpack("<16I", padded[start : start + 64])
        state = [
            (old + new) & 0xFFFFFFFF for old, new in zip(state, _rounds(state, words), strict=True)
        ]
    return struct.pack("<4I", *state)


def _rounds(state: list[int], words: tuple[int, ...]) -> list[int]:
    a, b, c, d = state
    for number in range(48):
        if number < 16:
            mixed, added, word = (b & c) | (~b & d), 0, number
            shift = (3, 7, 11, 19)[number % 4]
        elif number < 32:
            mixed, added = (b & c) | (b & d) | (c & d), 0x5A827999
            word = (number % 4) * 4 + (number - 16) // 4
            shift = (3, 5, 9, 13)[number % 4]
        else:
            mixed, added = b ^ c ^ d, 0x6ED9EBA1
            word = (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)[number - 32]
            shift = (3, 9, 11, 15)[number % 4]
        total = (a + mixed + words[word] + added) & 0xFFFFFFFF
        a, b, c, d = d, ((total << shift) | (total >> (32 - shift))) & 0xFFFFFFFF, b, c
    return [a, b, c, d]
