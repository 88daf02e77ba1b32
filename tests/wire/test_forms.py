"""Version 1: URL-encoded forms."""

from __future__ import annotations

import contextlib
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, MessageTooLarge, PeerError
from anyvpn.model.authentication import ClientMessage, ClientMessageKind
from anyvpn.wire.forms import is_xml, read_form_message, read_parameters, write_form_message
from tests.wire.captured import client_bodies
from tests.wire.texts import field_names, xml_text

replies = st.builds(
    ClientMessage,
    kind=st.just(ClientMessageKind.REPLY),
    protocol_version=st.just(1),
    group_select=xml_text,
    answers=st.dictionaries(
        field_names.filter(lambda name: name != "group_list"), xml_text, min_size=1, max_size=6
    ),
)


class CapturedFormBodyTests(TestCase):
    """openconnect 9.01 with --no-xmlpost."""

    def test_user_then_password(self) -> None:
        user, password = client_bodies("10_no_xmlpost")
        self.assertEqual(
            read_form_message(user),
            ClientMessage(ClientMessageKind.REPLY, 1, answers={"username": "alice"}),
        )
        self.assertEqual(read_form_message(password).answers, {"password": "test-pass"})

    def test_group_and_user(self) -> None:
        body, _ = client_bodies("10b_no_xmlpost_group")
        self.assertEqual(
            read_form_message(body),
            ClientMessage(
                ClientMessageKind.REPLY, 1, group_select="staff", answers={"username": "bob"}
            ),
        )

    def test_we_write_what_openconnect_writes(self) -> None:
        for case in ("10_no_xmlpost", "10b_no_xmlpost_group"):
            for body in client_bodies(case):
                self.assertEqual(write_form_message(read_form_message(body)), body)

    def test_they_are_no_xml_and_the_others_are(self) -> None:
        for body in client_bodies("10_no_xmlpost"):
            self.assertFalse(is_xml(body))
        for body in client_bodies("02_group_select"):
            self.assertTrue(is_xml(body))


class FormBodyTests(TestCase):
    """Bodies that other clients send, and hostile ones."""

    def test_xml_is_told_by_its_first_sign(self) -> None:
        for body in (b"<a/>", b" \r\n<a/>", b"\xef\xbb\xbf<a/>", b" \xef\xbb\xbf <"):
            self.assertTrue(is_xml(body))
        for body in (b"", b" ", b"a=<", b"\0<a/>", b"\xff\xfe<\0"):
            self.assertFalse(is_xml(body))

    def test_nothing_asks_for_the_first_form(self) -> None:
        for body in (b"", b"\r\n"):
            self.assertEqual(read_form_message(body), ClientMessage(ClientMessageKind.INIT, 1))

    def test_an_encoded_group_list_is_the_group(self) -> None:
        message = read_form_message(b"group%5flist=a%20b&x=")
        self.assertEqual((message.group_select, message.answers), ("a b", {"x": ""}))

    def test_a_group_alone_is_a_reply(self) -> None:
        message = read_form_message(b"group_list=staff")
        self.assertEqual((message.kind, message.answers), (ClientMessageKind.REPLY, {}))

    def test_escapes_plus_and_raw_utf_8_are_understood(self) -> None:
        message = read_form_message("password=a+b%26%3D%c3%a4ö%zz".encode())
        self.assertEqual(message.answers, {"password": "a b&=äö%zz"})

    def test_the_first_field_of_a_name_counts(self) -> None:
        self.assertEqual(read_form_message(b"a=1&a=2&group_list=x&group_list=y").group_select, "x")
        self.assertEqual(read_form_message(b"a=1&a=2").answers, {"a": "1"})

    def test_what_is_not_utf_8_or_has_controls_is_refused(self) -> None:
        for body in (
            b"a=%ff",
            b"a=\xff",
            b"a=%00",
            b"a\0=b",
            b"a=%1b[2J",
            b"%01=b",
            b"a=%ed%a0%80",
        ):
            with self.assertRaises(MalformedMessage):
                read_form_message(body)

    def test_each_bound_holds(self) -> None:
        read_form_message(b"&".join(b"a%d=" % number for number in range(64)))
        with self.assertRaises(MalformedMessage):
            read_form_message(b"&".join(b"a%d=" % number for number in range(65)))
        with self.assertRaises(MessageTooLarge):
            read_form_message(b"a=" + b"x" * (64 * 1024 + 1))
        with self.assertRaises(MessageTooLarge):
            read_form_message(b"&" * (256 * 1024 + 1))

    def test_the_password_is_not_in_a_refusal(self) -> None:
        with self.assertRaises(MalformedMessage) as caught:
            read_form_message(b"password=swordfish%ff")
        self.assertNotIn("swordfish", str(caught.exception))
        self.assertTrue(caught.exception.__suppress_context__)

    def test_fields_keep_their_names_and_order_with_the_group_first(self) -> None:
        message = ClientMessage(
            ClientMessageKind.REPLY,
            1,
            group_select="g",
            answers={"b": "1 &", "new_password": "2", "group_list": "x"},
        )
        self.assertEqual(write_form_message(message), b"group_list=g&b=1%20%26&new_password=2")

    @given(replies)
    @settings(max_examples=100)
    def test_what_is_written_is_read(self, message: ClientMessage) -> None:
        body = write_form_message(message)
        self.assertEqual(read_form_message(body), message)

    @given(st.binary(max_size=200) | st.text("%&=;+aäf0 <\r\0", max_size=60).map(str.encode))
    @settings(max_examples=200)
    def test_any_bytes_end_in_a_message_or_in_our_error(self, body: bytes) -> None:
        try:
            message = read_form_message(body)
        except PeerError:
            return
        self.assertEqual(message.protocol_version, 1)

    @given(replies)
    @settings(max_examples=30)
    def test_truncated_anywhere_it_is_read_or_refused(self, message: ClientMessage) -> None:
        body = write_form_message(message)
        for length in range(len(body)):
            try:
                shorter = read_form_message(body[:length])
            except PeerError:
                continue
            self.assertLessEqual(len(shorter.answers), len(message.answers))


class ParameterTests(TestCase):
    """What browsers bring along."""

    def test_they_are_decoded(self) -> None:
        found = read_parameters(b"code=a%2Bb+c&state=&name=%C3%A4%0D%0A")
        self.assertEqual(found, {"code": "a+b c", "state": "", "name": "ä\r\n"})
        self.assertEqual(read_parameters(b""), {})

    def test_what_is_ambiguous_or_unreadable_is_refused(self) -> None:
        for encoded in (b"a=1&a=2", b"a=1&a=1", b"a=%ff", b"\xff", b"&a=" * 65):
            with self.assertRaises(MalformedMessage, msg=encoded[:20]):
                read_parameters(encoded)

    @given(st.binary(max_size=200))
    def test_nothing_else_is_raised(self, encoded: bytes) -> None:
        with contextlib.suppress(PeerError):
            read_parameters(encoded)
