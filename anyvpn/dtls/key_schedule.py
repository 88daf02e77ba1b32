"""From a master secret to keys and Finished values: the PRFs of TLS 1.2 and of TLS 1.0."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from anyvpn.model.channels import DirectionKeys, Suite

# From the protocol
MASTER_SECRET_BYTES: Final = 48
VERIFY_DATA_BYTES: Final = 12
MD5_SHA1: Final = "md5-sha1"
CLIENT_FINISHED: Final = b"client finished"
SERVER_FINISHED: Final = b"server finished"


def _expand(hash_name: str, secret: bytes, seed: bytes, length: int) -> bytes:
    """P_hash. Source: RFC 5246, section 5."""
    output = b""
    chained = seed
    while len(output) < length:
        chained = hmac.digest(secret, chained, hash_name)
        output += hmac.digest(secret, chained + seed, hash_name)
    return output[:length]


def derive(hash_name: str, secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """The PRF; "md5-sha1" means the one of TLS 1.0 and 1.1, which version 0x0100 uses.

    Source: RFC 5246, section 5; RFC 2246, section 5.
    """
    seed = label + seed
    if hash_name != MD5_SHA1:
        return _expand(hash_name, secret, seed, length)
    half = (len(secret) + 1) // 2
    left = _expand("md5", secret[:half], seed, length)
    right = _expand("sha1", secret[len(secret) - half :], seed, length)
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def transcript_hash(hash_name: str, transcript: bytes) -> bytes:
    """What a Finished message signs: the hash of all handshake messages so far."""
    if hash_name == MD5_SHA1:
        md5 = hashlib.md5(transcript, usedforsecurity=False).digest()
        return md5 + hashlib.sha1(transcript, usedforsecurity=False).digest()
    return hashlib.new(hash_name, transcript).digest()


def verify_data(hash_name: str, master_secret: bytes, label: bytes, transcript: bytes) -> bytes:
    """The 12 bytes of a Finished message."""
    digest = transcript_hash(hash_name, transcript)
    return derive(hash_name, master_secret, label, digest, VERIFY_DATA_BYTES)


def psk_premaster(psk: bytes) -> bytes:
    """The premaster secret of plain PSK: as many zeros as the key is long, then the key.

    Source: RFC 4279, section 2.
    """
    length = len(psk).to_bytes(2, "big")
    return length + bytes(len(psk)) + length + psk


def key_block(
    suite: Suite, master_secret: bytes, client_random: bytes, server_random: bytes
) -> tuple[DirectionKeys, DirectionKeys]:
    """The keys of the client's records, then those of the server's.

    Source: RFC 5246, section 6.3.
    """
    sizes = (suite.mac_key_bytes, suite.key_bytes, suite.fixed_iv_bytes)
    seed = server_random + client_random
    block = derive(suite.hash_name, master_secret, b"key expansion", seed, 2 * sum(sizes))
    parts = []
    offset = 0
    for size in sizes:
        for _ in range(2):
            parts.append(block[offset : offset + size])
            offset += size
    client_mac, server_mac, client_key, server_key, client_iv, server_iv = parts
    client = DirectionKeys(client_key, client_iv, client_mac)
    return client, DirectionKeys(server_key, server_iv, server_mac)
