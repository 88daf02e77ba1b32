"""Clients that must first show that they receive what is sent to their address."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.site import Site


@pytest.fixture(scope="module")
def gateway_changes() -> Mapping[str, object]:
    return {"dtls": {"verify_hellos": True, "legacy": True}}


class HelloCookieTests:
    @pytest.mark.parametrize(
        "options",
        [
            (),
            ("--dtls-ciphers", "OC-DTLS1_2-AES256-GCM"),
            ("--dtls-ciphers", "AES256-SHA"),
        ],
        ids=["psk", "resumption", "legacy"],
    )
    def test_dtls_comes_up_with_a_cookie(self, site: Site, options: tuple[str, ...]) -> None:
        client = site.connect(options=options)
        client.wait_for_dtls()
        assert client.ping(site.gateway.inner_addresses[0])
        site.gateway.wait_for_event("dtls_up", user="alice")
