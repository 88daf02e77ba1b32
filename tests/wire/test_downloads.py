"""What GET requests name, and the fixed answers."""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage
from anyvpn.model.downloads import Download
from anyvpn.wire.downloads import find_core_download, read_path
from anyvpn.wire.xml_document import read_document
from tests.wire.captured import messages


class PathTests(TestCase):
    """Paths are decoded once and never climb."""

    def test_openconnects_request_for_a_profile(self) -> None:
        target = messages("06_profile_download")[6].start_line.split()[1]
        self.assertEqual(target, "/profiles%2Fprofile.xml:4443")
        self.assertEqual(read_path(target), "/profiles/profile.xml")

    def test_plain_and_odd_targets(self) -> None:
        for target, path in (
            ("/", "/"),
            ("/auth", "/auth"),
            (
                "/+CSCOT+/translation-table?textdomain=AnyConnect&type=manifest",
                "/+CSCOT+/translation-table",
            ),
            ("//CACHE///stc/1/", "/CACHE/stc/1/"),
            ("/a%2f%2Fb", "/a/b"),
            ("/a%3Fb?c", "/a?b"),
            ("/a#b", "/a"),
            ("/:443", "/"),
            ("/a:b", "/a:b"),
            ("/a:123456", "/a:123456"),
            ("/t%C3%A4st", "/täst"),
            ("/%2541", "/%41"),
            ("/..a/b..", "/..a/b.."),
            ("https://vpn.test:4443/engineering?x", "/engineering"),
            ("HTTP://vpn.test", "/"),
        ):
            self.assertEqual(read_path(target), path, target)

    def test_what_climbs_is_refused(self) -> None:
        for target in (
            "/..",
            "/../etc",
            "/a/%2e%2e/b",
            "/a%2f..%2fb",
            "/a/..:443",
            "/.%2E",
            "/a//..//b",
        ):
            with self.assertRaises(MalformedMessage, msg=target):
                read_path(target)

    def test_what_is_no_path_is_refused(self) -> None:
        for target in (
            "",
            "*",
            "a",
            "?/",
            "vpn.test:443",
            "/%00",
            "/\0",
            "/%0d%0a",
            "/%7f",
            "/%c2%85",
            "/%5c..%5c",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
            "/\ud800",
            "/" + "a" * 2048,
        ):
            with self.assertRaises(MalformedMessage, msg=target[:20]):
                read_path(target)

    @given(st.text(max_size=60) | st.text("/.%2eEfF:5c0?#a\\", max_size=40).map("/".__add__))
    @settings(max_examples=200)
    def test_any_text_ends_in_a_safe_path_or_in_our_error(self, target: str) -> None:
        try:
            path = read_path(target)
        except MalformedMessage:
            return
        self.assertTrue(path.startswith("/"))
        self.assertNotIn("//", path)
        self.assertNotIn("..", path.split("/"))
        self.assertNotIn("\0", path)


class CoreDownloadTests(TestCase):
    """There is never newer software here."""

    def answer(self, path: str) -> Download:
        found = find_core_download(path)
        assert found is not None
        return found

    def test_manifests_are_empty(self) -> None:
        for path in (
            "/1/VPNManifest.xml",
            "/CACHE/stc/1/VPNManifest.xml",
            "/+CSCOT+/translation-table",
            "/+CSCOT+/oem-customization",
        ):
            download = self.answer(path)
            root = read_document(download.content)
            self.assertEqual((root.tag, root.get("rev"), len(root)), ("vpn", "1.0", 0))
            self.assertEqual(download.content_type, "text/xml")

    def test_the_rest_is_what_ocserv_answers(self) -> None:
        for path, content, content_type in (
            ("/1/binaries/update.txt", b"0,0,0000\n", "text/xml"),
            ("/1/binaries/vpndownloader.sh", b"#!/bin/sh\n\nexit 0", "application/x-shellscript"),
            ("/1/Linux_64", b"<html></html>\n", "text/html"),
            ("/CACHE/stc/1/index.html", b"<html></html>\n", "text/html"),
        ):
            download = self.answer(path)
            self.assertEqual(download.content.strip(), content.strip())
            self.assertEqual(download.content_type, content_type)

    def test_nothing_else_is_there(self) -> None:
        for path in (
            "/",
            "/1",
            "/1/",
            "/1/binaries/",
            "/profiles/profile.xml",
            "/2/Linux",
            "/1/1/Linux",
        ):
            self.assertIsNone(find_core_download(path), path)
