"""Tests of anyvpn.wire.browser_token."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage
from anyvpn.wire.browser_token import open_browser_token, public_der, seal_browser_token

KEY = ec.generate_private_key(ec.SECP256R1())
THEIRS = public_der(KEY)
SEALED = seal_browser_token("Token123", THEIRS, bytes(12))


class BrowserTokenTests:
    def test_what_is_sealed_for_us_opens(self) -> None:
        assert open_browser_token(SEALED, KEY) == "Token123"

    def test_it_opens_for_nobody_else(self) -> None:
        with pytest.raises(MalformedMessage, match="somebody else"):
            open_browser_token(SEALED, ec.generate_private_key(ec.SECP256R1()))

    def test_what_is_cut_off_or_changed_does_not_open(self) -> None:
        blob = base64.b64decode(SEALED)
        for at in range(len(blob)):
            for other in (blob[:at], blob[:at] + bytes((blob[at] ^ 1,)) + blob[at + 1 :]):
                with pytest.raises(MalformedMessage):
                    open_browser_token(base64.b64encode(other).decode(), KEY)

    def test_a_token_that_could_be_something_else_is_refused(self) -> None:
        sealed = seal_browser_token("<evil>", THEIRS, bytes(12))
        with pytest.raises(MalformedMessage, match="no token"):
            open_browser_token(sealed, KEY)

    def test_nothing_is_sealed_for_a_key_of_another_kind(self) -> None:
        keys = (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate())
        for key in keys:
            der = key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            with pytest.raises(MalformedMessage, match="another kind"):
                seal_browser_token("Token123", der, bytes(12))
        for no_key in (b"", THEIRS[:-1], b"x" * 90):
            with pytest.raises(MalformedMessage, match="no key"):
                seal_browser_token("Token123", no_key, bytes(12))

    @given(st.text(max_size=300))
    def test_nothing_else_is_raised(self, text: str) -> None:
        with pytest.raises(MalformedMessage):
            open_browser_token(text, KEY)
