"""Tests of anyvpn.client.masking."""

from __future__ import annotations

import pytest

from anyvpn.client.masking import masked_body, masked_headers

SECRET = "s3cr3t"


class MaskingTests:
    @pytest.mark.parametrize(
        "header",
        [
            f"Cookie: webvpn={SECRET}; other={SECRET}",
            f"Set-Cookie: webvpn={SECRET}; Secure; HttpOnly",
            f"X-DTLS-Master-Secret: {SECRET}",
            f"X-DTLS-App-ID: {SECRET}",
            f"x-dtls-session-id: {SECRET}",
            f"Authorization: Basic {SECRET}",
            f"Location: https://id.example/login?state={SECRET}&a=b",
            f"X-CSTP-Post-Auth-XML: <a><session-token>{SECRET}</session-token></a>",
        ],
    )
    def test_headers_keep_their_names_and_lose_their_secrets(self, header: str) -> None:
        name, _, value = header.partition(": ")
        shown = masked_headers(((name.encode(), value.encode()),))
        assert shown.startswith(f"{name}: ")
        assert SECRET not in shown

    @pytest.mark.parametrize(
        "body",
        [
            f"<config-auth><auth><password>{SECRET}</password></auth></config-auth>",
            f"<config-auth><auth><answer a='b'>{SECRET}</answer></auth></config-auth>",
            f"<config-auth><session-token>{SECRET}</session-token></config-auth>",
            f"<opaque><aggauth-handle>{SECRET}</aggauth-handle></opaque>",
            f"<opaque is-for='sg'><new-thing>{SECRET}</new-thing></opaque>",
            f"<auth><password><![CDATA[<{SECRET}]]></password></auth>",
            f"username=alice&password={SECRET}",
        ],
    )
    def test_requests(self, body: str) -> None:
        assert SECRET not in masked_body(body.encode(), is_request=True)

    @pytest.mark.parametrize(
        "body",
        [
            f"<config-auth><session-token>{SECRET}</session-token></config-auth>",
            f'<form><input type="hidden" name="state" value="{SECRET}"/></form>',
            f"<form><input type='hidden' name='state' value='{SECRET}'/></form>",
            f"<session-token><![CDATA[{SECRET}]]></session-token>",
        ],
    )
    def test_answers(self, body: str) -> None:
        assert SECRET not in masked_body(body.encode(), is_request=False)

    def test_what_is_no_secret_stays(self) -> None:
        body = b"<auth><username>alice</username></auth><group-select>staff</group-select>"
        assert masked_body(body, is_request=True) == body.decode()
