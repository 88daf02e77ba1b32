"""The gateway's note that clients carry back."""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.model.authentication import Opaque
from anyvpn.wire.authentication_opaque import read_opaque, write_opaque
from anyvpn.wire.xml_document import new_root, read_document, write_document
from tests.wire.captured import example
from tests.wire.texts import trimmed

opaques = st.builds(
    Opaque,
    tunnel_group=trimmed,
    group_alias=trimmed,
    config_hash=trimmed,
    handle=trimmed,
    auth_methods=st.lists(trimmed, max_size=3).map(tuple),
)


def read(body: bytes) -> Opaque | None:
    return read_opaque(read_document(body), body)


def document(body: bytes) -> bytes:
    opaque = read(body)
    assert opaque is not None
    return opaque.document


class OpaqueTests(TestCase):
    """Its parts are read, its bytes are kept."""

    def test_all_parts_are_read(self) -> None:
        self.assertEqual(
            read(example("02")),
            Opaque(
                "Engineering-Profile",
                "Engineering",
                "1595829378234",
                "168179266",
                ("multiple-cert", "single-sign-on-v2"),
            ),
        )

    def test_the_bytes_are_kept_as_they_came(self) -> None:
        body = example("02")
        kept = document(body)
        self.assertIn(kept, body)
        self.assertTrue(kept.startswith(b'<opaque is-for="sg">\n'))
        self.assertTrue(kept.endswith(b"</opaque>"))

    def test_unknown_parts_and_odd_spacing_are_kept_too(self) -> None:
        element = b"<opaque  is-for='sg' x = \"1\"><new>&#65;</new ><!-- c --></opaque >"
        self.assertEqual(
            document(b"\xef\xbb\xbf <config-auth>" + element + b"</config-auth>"), element
        )

    def test_the_documents_namespaces_do_not_matter(self) -> None:
        element = b"<opaque  is-for='sg'><new/></opaque>"
        body = b"<config-auth xmlns='u' xmlns:x='v'>" + element + b"</config-auth>"
        self.assertEqual(document(body), element)

    def test_a_look_alike_in_a_comment_is_not_taken(self) -> None:
        real = b'<opaque is-for="sg"><tunnel-group>real</tunnel-group></opaque>'
        fake = real.replace(b"real", b"fake")
        body = b"<config-auth><!-- " + fake + b" -->" + real + b"</config-auth>"
        self.assertEqual(document(body), real)

    def test_bytes_that_cannot_stand_alone_are_written_anew(self) -> None:
        body = (
            b"<config-auth>"
            + b"<!--<opaque>-->" * 9
            + b"<opaque><handle>1</handle></opaque></config-auth>"
        )
        self.assertEqual(document(body), b"<opaque><handle>1</handle></opaque>")
        nested = b"<config-auth><opaque><a><opaque/></a><b/></opaque>tail</config-auth>"
        self.assertEqual(document(nested), b"<opaque><a><opaque/></a><b/></opaque>")

    def test_a_note_for_someone_else_is_not_ours(self) -> None:
        self.assertIsNone(read(b'<config-auth><opaque is-for="vpn-client"/></config-auth>'))
        self.assertIsNone(read(b"<config-auth><config><opaque/></config></config-auth>"))

    @given(opaques)
    @settings(max_examples=100)
    def test_what_is_written_is_read(self, opaque: Opaque) -> None:
        root = new_root("config-auth")
        write_opaque(root, opaque)
        body = write_document(root)
        self.assertEqual(read(body), opaque)
        self.assertIn(document(body), body)
