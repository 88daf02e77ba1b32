"""Why TLS failed, in words; OpenSSL's errors as pyOpenSSL gives them."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from anyvpn.packets.tls_failures import handshake_failure, reason_in


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SSL.Error([("SSL routines", "", "no shared cipher")]), "no shared cipher"),
        (SSL.Error([("SSL routines", "", "first"), ("x", "", "second")]), "first"),
        (SSL.Error([]), "the peer closed the connection"),
        (SSL.Error(), "the peer closed the connection"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "the peer closed the connection"),
    ],
)
def test_reason_is_the_first_of_the_queue(error: SSL.Error, reason: str) -> None:
    assert reason_in(error) == reason
    assert handshake_failure(error) == f"TLS handshake failed: {reason}"


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("http request", "no TLS: the peer spoke plain HTTP"),
        ("https proxy request", "no TLS: the peer spoke plain HTTP"),
        (
            "wrong version number",
            "no TLS: what the peer sent is something else (wrong version number)",
        ),
    ],
)
def test_what_is_no_tls_at_all_is_said(reason: str, text: str) -> None:
    assert handshake_failure(SSL.Error([("SSL routines", "", reason)])) == text
