"""Cookies, and what the cookie webvpnc holds."""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, PeerError
from anyvpn.model.downloads import DownloadHints
from anyvpn.wire.cookies import (
    read_cookies,
    read_set_cookie,
    read_webvpnc,
    write_cookies,
    write_set_cookie,
    write_webvpnc,
)
from tests.wire.captured import messages

TOKEN = "AMuJ1hkVY4zoBpoZPEw4KQLA1Bhq82y9K/QfC91dM7c="
CERTIFICATE = "E1F5CD57332EFF5B17ED1FB4D377E89C76202713"
PROFILE = "225623179E4A07AFE03CAC35D19FB4646903DC9F"

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,12}", fullmatch=True)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=";"))
paths = st.text(st.characters(exclude_categories=("C", "Z")), max_size=30)


class CapturedCookieTests(TestCase):
    """ocserv 1.1.6 sets them, openconnect 9.01 sends them."""

    def test_those_of_a_success(self) -> None:
        success = messages("06_profile_download")[5]
        read = [read_set_cookie(value) for value in success.values("Set-Cookie")]
        self.assertEqual(read[:3], [("webvpncontext", TOKEN), ("webvpn", TOKEN), ("webvpnc", "")])
        self.assertEqual(
            read_webvpnc(read[3][1]),
            DownloadHints(
                base_path="/",
                packages_path="1/",
                server_cert_hash=CERTIFICATE,
                translation_path="/+CSCOT+/translation-table?textdomain=AnyConnect&type=manifest",
                profile_path="profiles/profile.xml",
                profile_sha1=PROFILE,
            ),
        )

    def test_we_write_what_ocserv_writes(self) -> None:
        for case in ("01_password_psk_dtls", "06_profile_download"):
            success = messages(case)[5]
            deleted, hints = success.values("Set-Cookie")[2:]
            self.assertEqual(write_set_cookie("webvpnc", ""), deleted)
            name, value = read_set_cookie(hints)
            self.assertEqual(write_webvpnc(read_webvpnc(value)), value)
            self.assertEqual(write_set_cookie(name, value), hints)
        waiting = messages("06_profile_download")[3].values("Set-Cookie")[0]
        name, value = read_set_cookie(waiting)
        self.assertEqual(write_set_cookie(name, value, max_age_s=300, path=""), waiting)

    def test_those_of_a_download(self) -> None:
        (header,) = messages("06_profile_download")[6].values("Cookie")
        cookies = read_cookies([header])
        self.assertEqual(list(cookies), ["webvpncontext", "webvpn", "webvpnc"])
        self.assertEqual(cookies["webvpn"], TOKEN)
        self.assertEqual(write_cookies(cookies), header)


class CookieTests(TestCase):
    """Values are taken as they are, up to the semicolon."""

    def test_nothing_is_decoded(self) -> None:
        self.assertEqual(read_cookies(['a=%41=="b" ;b= c']), {"a": '%41=="b"', "b": "c"})

    def test_several_headers_are_one_and_the_first_counts(self) -> None:
        self.assertEqual(read_cookies(["a=1; b=2", "a=3;c="]), {"a": "1", "b": "2", "c": ""})

    def test_what_is_no_cookie_is_passed_over(self) -> None:
        self.assertEqual(
            read_cookies(["", ";;", "x", "=1", "a b=1", "a=b c", "a=\x01", "a=ä", "ok=1"]),
            {"ok": "1"},
        )

    def test_bounds_hold(self) -> None:
        self.assertEqual(len(read_cookies([f"c{number}=" for number in range(64)])), 64)
        for headers in ([f"c{number}=" for number in range(65)], ["a=" + "x" * 20000]):
            with self.assertRaises(MalformedMessage):
                read_cookies(headers)

    def test_an_age_of_nothing_deletes(self) -> None:
        for age in ("0", "-1", " 00 "):
            self.assertEqual(read_set_cookie(f"a=1; Path=/; MAX-AGE={age}"), ("a", ""))
        self.assertEqual(read_set_cookie("a=1; Max-Age=10"), ("a", "1"))
        self.assertEqual(read_set_cookie("a=1; Max-Age=x; Secure"), ("a", "1"))

    def test_a_header_without_a_cookie_is_refused(self) -> None:
        for header in ("", "a", ";a=1", "=1", "a=b c", "a\0=1", "a=" + "x" * 20000):
            with self.assertRaises(MalformedMessage):
                read_set_cookie(header)

    def test_our_own_mistakes_are_no_headers(self) -> None:
        for name, value in (("a", "b;c"), ("a", "b\r\nX: y"), ("a=", "b"), ("", "b"), ("a", "ä")):
            with self.assertRaises(ValueError):
                write_set_cookie(name, value)
            with self.assertRaises(ValueError):
                write_cookies({name: value})

    def test_an_impossible_value_is_not_in_the_error(self) -> None:
        with self.assertRaises(ValueError) as caught:
            write_set_cookie("webvpn", "sword fish")
        self.assertNotIn("fish", str(caught.exception))

    @given(st.dictionaries(names, values, max_size=5))
    @settings(max_examples=100)
    def test_what_is_written_is_read(self, cookies: dict[str, str]) -> None:
        self.assertEqual(read_cookies([write_cookies(cookies)]), cookies)
        for name, value in cookies.items():
            self.assertEqual(read_set_cookie(write_set_cookie(name, value)), (name, value))

    @given(st.lists(st.text(max_size=60), max_size=3))
    @settings(max_examples=150)
    def test_any_text_ends_in_cookies_or_in_our_error(self, headers: list[str]) -> None:
        write_cookies(read_cookies(headers))
        for header in headers:
            try:
                name, value = read_set_cookie(header)
            except PeerError:
                continue
            write_set_cookie(name, value)


class DownloadHintsTests(TestCase):
    """bu, iu, sh, lu, fu, fh."""

    def test_unknown_and_missing_parts_do_no_harm(self) -> None:
        self.assertEqual(
            read_webvpnc("zz:1&bu:/x/&&fh:ab&p"),
            DownloadHints(base_path="/x/", packages_path="", profile_sha1="AB"),
        )

    def test_controls_and_broken_text_are_refused(self) -> None:
        for value in ("fu:%00", "fu:%ff", "lu:%0d%0aX", "a" * 20000):
            with self.assertRaises(MalformedMessage):
                read_webvpnc(value)

    def test_without_a_profile_none_is_named(self) -> None:
        self.assertEqual(
            write_webvpnc(DownloadHints(server_cert_hash=CERTIFICATE)),
            f"bu:/&p:t&iu:1/&sh:{CERTIFICATE}",
        )

    @given(
        st.builds(
            DownloadHints,
            base_path=paths,
            packages_path=paths,
            server_cert_hash=st.from_regex(r"[0-9A-F]{40}", fullmatch=True),
            translation_path=paths,
            profile_path=paths.filter(bool),
            profile_sha1=st.from_regex(r"[0-9A-F]{40}", fullmatch=True),
        )
    )
    @settings(max_examples=100)
    def test_what_is_written_is_read_and_fits_a_cookie(self, hints: DownloadHints) -> None:
        value = write_webvpnc(hints)
        self.assertEqual(read_webvpnc(value), hints)
        self.assertEqual(read_set_cookie(write_set_cookie("webvpnc", value))[1], value)

    @given(st.text(max_size=80) | st.text("bfulh:&%/0aF", max_size=60))
    @settings(max_examples=150)
    def test_any_text_ends_in_hints_or_in_our_error(self, value: str) -> None:
        try:
            write_webvpnc(read_webvpnc(value))
        except PeerError:
            return
