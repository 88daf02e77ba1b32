"""Tests of anyvpn.backends.radius_mschap, with what the RFCs print."""

from __future__ import annotations

import pytest

from anyvpn.backends.radius_mschap import is_success, md4, prove

# RFC 2759, section 9.2
CHALLENGE = bytes.fromhex("5B5D7C7D7B3F2F3E3C2C602132262628")
PEER_CHALLENGE = bytes.fromhex("21402324255E262A28295F2B3A337C7E")
NT_RESPONSE = bytes.fromhex("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF")
SUCCESS = b"S=407A5589115FD0D6209F510FE9C04566932CDA56"


class MD4Tests:
    # RFC 1320, section A.5
    @pytest.mark.parametrize(
        ("text", "digest"),
        [
            ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
            ("abc", "a448017aaf21d8525fc10ae87aa6729d"),
            ("message digest", "d9130a8164549fe818874806e1c7014b"),
            ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
        ],
    )
    def test_digests_are_those_of_the_rfc(self, text: str, digest: str) -> None:
        assert md4(text.encode()).hex() == digest


class ProofTests:
    def test_response_and_success_are_those_of_the_rfc(self) -> None:
        for user in ("User", "DOMAIN\\User"):
            proof = prove(user, "clientPass", CHALLENGE, PEER_CHALLENGE, identifier=9)
            assert proof.response == b"\x09\0" + PEER_CHALLENGE + bytes(8) + NT_RESPONSE
            assert is_success(proof, b"\x09" + SUCCESS + b" M=welcome")

    def test_other_answers_prove_nothing(self) -> None:
        proof = prove("User", "clientPass", CHALLENGE, PEER_CHALLENGE)
        for given in (b"", b"\x02" + SUCCESS, b"\x01" + SUCCESS[:-1], b"\x01S=" + b"0" * 40):
            assert not is_success(proof, given)

    def test_nothing_of_it_is_shown(self) -> None:
        assert repr(prove("User", "clientPass", CHALLENGE, PEER_CHALLENGE)) == "Proof()"
