"""The one door for XML."""

from __future__ import annotations

import time
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from anyvpn.errors import MalformedMessage, MessageTooLarge, PeerError
from anyvpn.wire.xml_document import (
    MAXIMUM_ATTRIBUTES,
    MAXIMUM_BYTES,
    MAXIMUM_DEPTH,
    MAXIMUM_ELEMENTS,
    MAXIMUM_TEXT,
    add_element,
    child_text,
    is_element_name,
    new_root,
    read_document,
    whole_text,
    without_controls,
    write_document,
)
from tests.wire.texts import any_text, xml_text

BILLION_LAUGHS = (
    b'<!DOCTYPE a [<!ENTITY x0 "ha">'
    + b"".join(b'<!ENTITY x%d "%s">' % (n, b"&x%d;" % (n - 1) * 10) for n in range(1, 12))
    + b"]><a>&x11;</a>"
)


class ReadableDocumentTests(TestCase):
    """What peers send is read, however they dress it."""

    def test_mark_and_white_space_before_the_declaration_are_passed_over(self) -> None:
        document = b'<?xml version="1.0" encoding="utf-8"?><a>\xc3\xa4</a>'
        for before in (b"", b"\xef\xbb\xbf", b"\r\n \t", b" \xef\xbb\xbf\n"):
            self.assertEqual(read_document(before + document).text, "ä")

    def test_names_are_local_and_foreign_attributes_are_dropped(self) -> None:
        root = read_document(b'<x:a xmlns:x="u" xmlns="v" x:c="1" d="2"><b/></x:a>')
        self.assertEqual((root.tag, root[0].tag, dict(root.attrib)), ("a", "b", {"d": "2"}))

    def test_escaped_attributes_are_unescaped(self) -> None:
        root = read_document(b'<a b="&amp;&lt;&quot;&#65;&#10;">&amp;</a>')
        self.assertEqual((root.get("b"), root.text), ('&<"A\n', "&"))

    def test_comments_and_instructions_vanish(self) -> None:
        root = read_document(b"<a>one<!-- <b/> --> and<?php x?> two</a>")
        self.assertEqual((root.text, len(root)), ("one and two", 0))

    def test_character_data_sections_are_text(self) -> None:
        self.assertEqual(read_document(b"<a><![CDATA[<b>&]]></a>").text, "<b>&")

    def test_the_deepest_and_the_widest_allowed_are_read(self) -> None:
        read_document(b"<a>" * MAXIMUM_DEPTH + b"</a>" * MAXIMUM_DEPTH)
        read_document(b"<a>" + b"<b/>" * (MAXIMUM_ELEMENTS - 1) + b"</a>")

    @given(xml_text, xml_text)
    @settings(max_examples=100)
    def test_what_is_written_is_read(self, text: str, value: str) -> None:
        root = new_root("a", is_for=value)
        add_element(root, "b", text)
        read = read_document(write_document(root))
        self.assertEqual((read.get("is-for"), read[0].text or ""), (value, text))


class HostileDocumentTests(TestCase):
    """What cannot be read is refused with our own error, soon."""

    def refused(self, document: bytes, error: type[PeerError] = MalformedMessage) -> str:
        with self.assertRaises(error) as caught:
            read_document(document)
        return str(caught.exception)

    def test_doctype_is_refused(self) -> None:
        for document in (
            b"<!DOCTYPE a><a/>",
            b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
            b'<?xml version="1.0"?>\n<!-- c --><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        ):
            self.assertIn("DOCTYPE", self.refused(document))

    def test_entities_that_multiply_cost_nothing(self) -> None:
        before = time.process_time()
        self.assertIn("DOCTYPE", self.refused(BILLION_LAUGHS))
        self.assertLess(time.process_time() - before, 0.5)

    def test_unknown_entities_are_refused(self) -> None:
        self.refused(b"<a>&x;</a>")
        self.refused(b'<a b="&x;"/>')

    def test_other_encodings_are_refused(self) -> None:
        text = '<?xml version="1.0" encoding="UTF-16"?><a/>'
        self.refused(text.encode("utf-16"))
        self.refused(text.encode("utf-16-be"))
        self.refused(text.encode())
        self.refused(b'<?xml version="1.0" encoding="EBCDIC-US"?><a/>')
        self.refused("<a>ä</a>".encode("latin-1"))
        self.refused(b"<a>\xed\xa0\x80</a>")

    def test_nul_and_other_controls_are_refused(self) -> None:
        for bad in (b"\0", b"&#0;", b"\x01", b"&#x1f;", b"&#xd800;", b"&#xffff;"):
            self.refused(b"<a>" + bad + b"</a>")
        self.refused(b"<a/>\0")

    def test_bytes_that_are_no_document_are_refused(self) -> None:
        for bad in (b"", b" ", b"<", b"a=b", b"<a", b"<a/><b/>", b"<a/>x", b'<a x="1" x="2"/>'):
            self.refused(bad)

    def test_names_that_cannot_be_are_refused(self) -> None:
        self.refused(b"<a:b:c/>")
        self.refused(b"<undeclared:a/>")

    def test_each_bound_holds(self) -> None:
        self.refused(b"<a>" * (MAXIMUM_DEPTH + 1) + b"</a>" * (MAXIMUM_DEPTH + 1))
        self.refused(b"<a>" + b"<b/>" * MAXIMUM_ELEMENTS + b"</a>", MessageTooLarge)
        attributes = b"".join(b' a%d=""' % number for number in range(MAXIMUM_ATTRIBUTES + 1))
        self.refused(b"<a" + attributes + b"/>", MessageTooLarge)
        self.refused(b"<a>" + b" " * MAXIMUM_BYTES + b"</a>", MessageTooLarge)

    def test_a_refusal_quotes_nothing(self) -> None:
        for document in (
            b"<a><password>x&swordfish;</password></a>",
            b"<swordfish",
            b"<a swordfish",
        ):
            with self.assertRaises(MalformedMessage) as caught:
                read_document(document)
            self.assertNotIn("swordfish", str(caught.exception))
            self.assertTrue(caught.exception.__suppress_context__)

    @given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"<a>" + tail))
    @settings(max_examples=200)
    def test_any_bytes_end_in_a_tree_or_in_our_error(self, body: bytes) -> None:
        try:
            self.assertIsInstance(read_document(body), etree._Element)
        except PeerError:
            return


class TextTests(TestCase):
    """Texts come out whole and bounded."""

    def test_text_is_gathered_and_trimmed(self) -> None:
        self.assertEqual(whole_text(read_document(b"<a> x<b>y</b>z\n</a>")), "xyz")
        self.assertEqual(whole_text(None), "")
        self.assertEqual(child_text(read_document(b"<a><b>1</b><b>2</b></a>"), "b"), "1")
        self.assertEqual(child_text(None, "b"), "")

    def test_long_text_is_too_large(self) -> None:
        root = read_document(b"<a>" + b"x" * (MAXIMUM_TEXT + 1) + b"</a>")
        with self.assertRaises(MessageTooLarge):
            whole_text(root)

    @given(any_text)
    @settings(max_examples=100)
    def test_any_text_can_be_written(self, text: str) -> None:
        root = new_root("a", b=text)
        add_element(root, "c", text, d=text)
        read = read_document(write_document(root))
        self.assertEqual(read[0].text or "", without_controls(text))
        self.assertEqual(read.get("b"), read[0].get("d"))

    def test_controls_are_left_out_and_line_ends_stay(self) -> None:
        self.assertEqual(without_controls("a\0\x1b[2J\ud800\uffffb\n\tc"), "a[2Jb\n\tc")

    def test_element_names(self) -> None:
        self.assertTrue(is_element_name("secondary_password"))
        for bad in ("", "a b", "1a", "a>", "a:b", "-a", "a\n", "x" * 300):
            self.assertFalse(is_element_name(bad), bad)

    def test_documents_begin_with_the_declaration_and_hide_no_end_tag(self) -> None:
        root = new_root("a")
        add_element(root, "b")
        self.assertEqual(
            write_document(root), b'<?xml version="1.0" encoding="UTF-8"?>\n<a><b></b></a>'
        )
