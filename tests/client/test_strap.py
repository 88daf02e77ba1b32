"""Tests of anyvpn.client.strap."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.client.strap import StrapKeys, seal_browser_token
from anyvpn.errors import MalformedMessage

KEYS = StrapKeys.generate()
THEIRS = base64.b64decode(dict(KEYS.headers)[b"X-AnyConnect-STRAP-DH-Pubkey"])
SEALED = seal_browser_token("Token123", THEIRS, bytes(12))


class BrowserTokenTests:
    def test_what_is_sealed_for_us_opens(self) -> None:
        assert KEYS.open_browser_token(SEALED) == "Token123"

    def test_it_opens_for_nobody_else(self) -> None:
        with pytest.raises(MalformedMessage, match="somebody else"):
            StrapKeys.generate().open_browser_token(SEALED)

    def test_what_is_cut_off_or_changed_does_not_open(self) -> None:
        blob = base64.b64decode(SEALED)
        for at in range(len(blob)):
            for other in (blob[:at], blob[:at] + bytes((blob[at] ^ 1,)) + blob[at + 1 :]):
                with pytest.raises(MalformedMessage):
                    KEYS.open_browser_token(base64.b64encode(other).decode())

    def test_a_token_that_could_be_something_else_is_refused(self) -> None:
        sealed = seal_browser_token("<evil>", THEIRS, bytes(12))
        with pytest.raises(MalformedMessage, match="no token"):
            KEYS.open_browser_token(sealed)

    @given(st.text(max_size=300))
    def test_nothing_else_is_raised(self, text: str) -> None:
        with pytest.raises(MalformedMessage):
            KEYS.open_browser_token(text)
