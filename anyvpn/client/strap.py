"""The keys of a login in an external browser (STRAP): what is sealed for them, what they sign.

Source: protocol reference, sections 3.11 and 3.12 (observed in openconnect's source).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from anyvpn.wire.browser_token import open_browser_token, public_der


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
            (b"X-AnyConnect-STRAP-Pubkey", base64.b64encode(public_der(self.signing_key))),
            (b"X-AnyConnect-STRAP-DH-Pubkey", base64.b64encode(public_der(self.exchange_key))),
        )

    def tunnel_headers(self, channel_binding: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """What CONNECT says of them: whoever logged in is at the other end of this very channel.

        The key stays the same, as it does for whoever takes a token over.
        """
        public_key = public_der(self.signing_key)
        signature = self.signing_key.sign(channel_binding + public_key, ec.ECDSA(SHA256()))
        return (
            (b"X-AnyConnect-STRAP-Verify", base64.b64encode(signature)),
            (b"X-AnyConnect-STRAP-Pubkey", base64.b64encode(public_key)),
        )

    def open_browser_token(self, blob: str) -> str:
        """The token that the browser brought. Raises: MalformedMessage."""
        return open_browser_token(blob, self.exchange_key)
