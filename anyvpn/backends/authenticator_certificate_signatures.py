"""Whether a signature is right, with the algorithms that certificates of today use."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

# Ours
SMALLEST_RSA_BITS = 2048
_HASHES = frozenset(("sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"))


def signature_problem(
    signer: x509.Certificate, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm | None
) -> str:
    """What is wrong with a signature of a certificate's key; empty: it is good.

    RSA signs with PKCS#1 v1.5; `algorithm` is None for keys that bring their own (Ed25519).
    """
    if algorithm is not None and algorithm.name not in _HASHES:
        return f"is signed with {algorithm.name}, which is too weak"
    try:
        key = signer.public_key()
        match key, algorithm:
            case rsa.RSAPublicKey(), hashes.HashAlgorithm():
                if key.key_size < SMALLEST_RSA_BITS:
                    return f"is signed with an RSA key of {key.key_size} bits, which is too weak"
                key.verify(signature, data, padding.PKCS1v15(), algorithm)
            case ec.EllipticCurvePublicKey(), hashes.HashAlgorithm():
                key.verify(signature, data, ec.ECDSA(algorithm))
            case ((ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey()), _):
                key.verify(signature, data)
            case _:
                return "is signed with a key of a kind that is not accepted"
    except InvalidSignature:
        return "has a wrong signature"
    except (ValueError, UnsupportedAlgorithm):
        return "has a signature that cannot be read"
    return ""
