"""Tests of anyvpn.model.browser_address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.model.browser_address import browser_origin


class BrowserOriginTests:
    @pytest.mark.parametrize(
        ("address", "origin"),
        [
            ("https://gw.test/+CSCOE+/saml/sp/login?tgname=A&acsamlcap=v2", "https://gw.test:443"),
            ("HTTPS://GW.test:8443/", "https://gw.test:8443"),
            ("http://localhost:29786/x", "http://localhost:29786"),
            ("https://[2001:db8::1]/", "https://2001:db8::1:443"),
        ],
    )
    def test_encrypted_and_local_ones_have_an_origin(self, address: str, origin: str) -> None:
        assert browser_origin(address) == origin

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "http://gw.test/",
            "http://localhost.gw.test/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "--profile=https://gw.test/",
            " https://gw.test/",
            "https://gw.test/ --x",
            "https://gw.test/\n",
            'https://gw.test/"',
            "https://gw.test/\\x",
            "https://user@gw.test/",
            "https:///x",
            "https://gw.test:99999/",
            "https://[gw.test/",
            "https://gw.test/" + "a" * 9000,
        ],
    )
    def test_others_have_none(self, address: str) -> None:
        assert browser_origin(address) == ""

    @given(st.text(max_size=100))
    def test_nothing_is_raised(self, text: str) -> None:
        for address in (text, f"https://{text}"):
            assert isinstance(browser_origin(address), str)
