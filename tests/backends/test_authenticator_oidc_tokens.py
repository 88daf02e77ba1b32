"""Tests of anyvpn.backends.authenticator_oidc_tokens with what nobody would send by accident."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt

from anyvpn.backends.authenticator_oidc_tokens import (
    ALGORITHMS,
    Expectations,
    TokenRefused,
    check_access_token,
    check_claims,
    read_header,
    read_keys,
    verified_claims,
)
from tests.backends.oidc_provider import CLIENT, KEY, NOW_S

CLAIMS = {
    "iss": "https://login.example.com",
    "sub": "1",
    "aud": CLIENT,
    "exp": NOW_S + 300,
    "iat": NOW_S,
    "nonce": "n",
}
EXPECTED = Expectations("https://login.example.com", CLIENT, "n", 60.0, 60, ("gold",))
TOKEN = jwt.encode({"alg": "RS256"}, CLAIMS, KEY)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each),
    max_leaves=6,
)


def claims_of(token: str) -> object:
    header = read_header(token, ALGORITHMS)
    return verified_claims(token, header, [KEY])


class HostileTests:
    def test_a_whole_token_is_read(self) -> None:
        assert claims_of(TOKEN) == CLAIMS

    def test_one_that_is_cut_off_is_refused(self) -> None:
        for at in range(len(TOKEN)):
            with pytest.raises(TokenRefused):
                claims_of(TOKEN[:at])

    @given(st.text(max_size=80) | st.lists(st.text("eyJ0=_-", max_size=9)).map(".".join))
    def test_of_any_text_nothing_else_is_raised(self, text: str) -> None:
        with pytest.raises(TokenRefused):
            claims_of(text)

    @given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "jwk", "x"]), json_values))
    @settings(max_examples=200)
    def test_of_any_header_nothing_else_is_raised(self, header: dict[str, object]) -> None:
        _, payload, signature = TOKEN.split(".")
        encoded = jwt.encode({"alg": "RS256"}, header, KEY).split(".")[1]
        with pytest.raises(TokenRefused):
            claims_of(f"{encoded}.{payload}.{signature}")

    @given(
        st.lists(
            json_values
            | st.fixed_dictionaries(
                {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"])},
                optional={
                    name: st.sampled_from(["", "AQAB", "P-256", "Ed25519"]) | json_values
                    for name in ("n", "e", "crv", "x", "y", "k", "use", "kid", "alg", "key_ops")
                },
            )
        )
    )
    @settings(max_examples=200)
    def test_keys_are_usable_or_passed_over(self, keys: list[object]) -> None:
        with contextlib.suppress(ValueError):  # NaN, which is no JSON
            for key in read_keys(json.dumps({"keys": keys}).encode()):
                with pytest.raises(TokenRefused):
                    verified_claims(TOKEN, read_header(TOKEN, ALGORITHMS), [key])

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                name: json_values | st.just(CLAIMS.get(name))
                for name in (*CLAIMS, "azp", "nbf", "auth_time", "acr", "at_hash")
            },
        )
    )
    @settings(max_examples=300)
    def test_of_any_claims_nothing_else_is_raised(self, claims: dict[str, object]) -> None:
        with contextlib.suppress(TokenRefused):
            check_claims({**CLAIMS, **claims}, EXPECTED, NOW_S)
        with contextlib.suppress(TokenRefused):
            check_access_token(claims, read_header(TOKEN, ALGORITHMS), "access")
