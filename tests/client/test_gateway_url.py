"""Tests of anyvpn.client.gateway_url."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyvpn.client.gateway_url import GatewayURL, parse_gateway_url
from anyvpn.errors import ConfigurationError, MalformedMessage


class ParseTests:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("vpn.example.com", "https://vpn.example.com/"),
            ("vpn.example.com:4443", "https://vpn.example.com:4443/"),
            ("https://vpn.example.com:443/staff", "https://vpn.example.com/staff"),
            ("vpn.example.com/staff", "https://vpn.example.com/staff"),
            ("2001:db8::1", "https://[2001:db8::1]/"),
            ("[2001:db8::1]:4443", "https://[2001:db8::1]:4443/"),
            ("bücher.example", "https://xn--bcher-kva.example/"),
        ],
    )
    def test_what_users_type(self, text: str, expected: str) -> None:
        assert str(parse_gateway_url(text)) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "http://vpn.example.com",
            "https://",
            "vpn.example.com:0",
            "vpn.example.com:99999",
            "https://user:secret@vpn.example.com",
            "vpn example com",
            "-option",
            "a" * 3000,
        ],
    )
    def test_what_is_no_gateway(self, text: str) -> None:
        with pytest.raises(ConfigurationError):
            parse_gateway_url(text)

    @given(st.text())
    def test_nothing_else_is_raised_and_nothing_odd_comes_out(self, text: str) -> None:
        try:
            url = parse_gateway_url(text)
        except ConfigurationError:
            return
        assert str(url).isascii()
        assert str(url).isprintable()
        assert " " not in str(url)


class ResolveTests:
    HERE = GatewayURL("vpn.example.com", 4443, "/staff/login")

    @pytest.mark.parametrize(
        ("reference", "expected"),
        [
            ("/auth", "https://vpn.example.com:4443/auth"),
            ("next", "https://vpn.example.com:4443/staff/next"),
            ("https://other.example/x?y=1", "https://other.example/x?y=1"),
        ],
    )
    def test_where_it_leads(self, reference: str, expected: str) -> None:
        assert str(self.HERE.resolve(reference)) == expected

    @pytest.mark.parametrize(
        "reference", ["http://vpn.example.com/", "javascript:alert(1)", "https://:0/"]
    )
    def test_where_it_must_not_lead(self, reference: str) -> None:
        with pytest.raises(MalformedMessage):
            self.HERE.resolve(reference)

    def test_another_port_is_another_gateway(self) -> None:
        assert not self.HERE.is_same_gateway(GatewayURL("vpn.example.com"))
        assert self.HERE.is_same_gateway(GatewayURL("VPN.example.com", 4443, "/"))
