"""What clients post."""

from __future__ import annotations

import re
from dataclasses import replace
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, MessageTooLarge, PeerError
from anyvpn.model.authentication import (
    ClientDescription,
    ClientMessage,
    ClientMessageKind,
    Opaque,
    SignedCertificates,
)
from anyvpn.wire.authentication import (
    read_client_message,
    read_gateway_message,
    write_client_message,
)
from anyvpn.wire.authentication_client import MAXIMUM_ANSWER_CHARACTERS, MAXIMUM_ANSWERS
from tests.wire.captured import client_bodies, example, gateway_bodies
from tests.wire.test_authentication_opaque import opaques
from tests.wire.texts import field_names, one_line, trimmed, xml_text

INIT, REPLY, LOGOUT = ClientMessageKind.INIT, ClientMessageKind.REPLY, ClientMessageKind.LOGOUT

OPENCONNECT = ClientDescription(
    version="v9.01-3",
    platform="linux-64",
    capabilities=frozenset({"single-sign-on-v2", "single-sign-on-external-browser"}),
)
ANYCONNECT = ClientDescription(
    version="4.10.07061",
    platform="win",
    platform_version="10.0.19045 #1",
    device_type="LENOVO 20XW",
    computer_name="WS-017",
    unique_id="6D0B9C3E5F",
    unique_id_global="A1B2C3D4E5F60718293A4B5C6D7E8F9001122334",
    mac_addresses=("02-00-5e-10-00-01",),
)
XML_CASES = (
    "01_password_psk_dtls",
    "02_group_select",
    "03_two_step_otp",
    "04_certificate",
    "04b_certificate_group_and_password",
    "05_wrong_password",
    "05b_wrong_then_right_password",
    "06_profile_download",
    "06b_anyconnect_mobile_agent",
)

# Names that openconnect's renaming leaves alone.
plain_names = field_names.filter(
    lambda name: (
        name
        not in {
            "answer",
            "whichpin",
            "new_password",
            "verify_pin",
            "verify_password",
            "group_list",
            "client-cert-chain",
        }
    )
)
answers = st.dictionaries(plain_names, xml_text, max_size=5)
descriptions = st.builds(
    ClientDescription,
    version=one_line,
    platform=one_line,
    platform_version=one_line,
    device_type=one_line,
    computer_name=one_line,
    unique_id=one_line,
    unique_id_global=one_line,
    mac_addresses=st.lists(one_line, max_size=3).map(tuple),
    capabilities=st.frozensets(one_line, max_size=3),
)
certificates = st.builds(
    SignedCertificates,
    chain_pkcs7=st.binary(max_size=120),
    signature=st.binary(max_size=80),
    hash_algorithm=st.sampled_from(["sha256", "sha512"]),
)
client_messages = st.one_of(
    st.builds(
        ClientMessage,
        kind=st.just(REPLY),
        client=descriptions,
        group_select=trimmed,
        opaque=st.none() | opaques,
        answers=answers,
        certificates=st.none() | certificates,
    ),
    st.builds(
        ClientMessage,
        kind=st.just(INIT),
        client=descriptions,
        group_select=trimmed,
        group_access=trimmed,
        certificate_refused=st.booleans(),
    ),
    st.builds(
        ClientMessage,
        kind=st.just(LOGOUT),
        client=descriptions,
        session_id=trimmed,
        session_token=trimmed,
    ),
)


def reply(inside: bytes) -> bytes:
    return b'<config-auth type="auth-reply"><auth>' + inside + b"</auth></config-auth>"


def without_capabilities(body: bytes) -> bytes:
    return re.sub(rb"<capabilities>.*</capabilities>", b"", body)


class CapturedClientTests(TestCase):
    """openconnect 9.01, as it was on the wire."""

    def test_password_login(self) -> None:
        first, user, password = map(read_client_message, client_bodies("01_password_psk_dtls"))
        self.assertEqual(
            first,
            ClientMessage(INIT, client=OPENCONNECT, group_access="https://10.99.0.1:4443/"),
        )
        self.assertEqual(
            user, ClientMessage(REPLY, client=OPENCONNECT, answers={"username": "alice"})
        )
        self.assertEqual(password.answers, {"password": "test-pass"})

    def test_group_change(self) -> None:
        _, change, user, _ = map(read_client_message, client_bodies("02_group_select"))
        self.assertEqual((change.kind, change.group_select), (INIT, "guests"))
        self.assertEqual(change.group_access, "https://10.99.0.1:4443/auth")
        self.assertEqual((user.kind, user.group_select), (REPLY, "guests"))
        self.assertEqual(user.answers, {"username": "bob"})

    def test_one_time_code(self) -> None:
        last = read_client_message(client_bodies("03_two_step_otp")[-1])
        self.assertEqual(last.answers, {"password": "552546"})

    def test_certificate_login(self) -> None:
        first, change, again = map(read_client_message, client_bodies("04_certificate"))
        self.assertEqual((first.kind, change.group_select), (INIT, "staff"))
        self.assertEqual(again, first)
        last = read_client_message(client_bodies("04b_certificate_group_and_password")[-1])
        self.assertEqual(last.answers, {"password": "test-pass"})

    def test_wrong_passwords(self) -> None:
        sent = [read_client_message(body).answers for body in client_bodies("05_wrong_password")]
        self.assertEqual(sent[2:], [{"password": f"bad{number}"} for number in (1, 2, 3)])
        sent = [
            read_client_message(body).answers
            for body in client_bodies("05b_wrong_then_right_password")
        ]
        self.assertEqual(sent[2:], [{"password": "bad1"}, {"password": "test-pass"}])

    def test_another_agent_and_a_telephone(self) -> None:
        first = read_client_message(client_bodies("06_profile_download")[0])
        self.assertEqual(first.client.version, "4.10.07061")
        first = read_client_message(client_bodies("06b_anyconnect_mobile_agent")[0])
        self.assertEqual(
            first.client,
            replace(
                OPENCONNECT,
                version="4.10.05111",
                platform="android",
                platform_version="1.0",
                device_type="android",
                unique_id="A" * 40,
            ),
        )
        self.assertTrue(first.client.is_mobile)

    def test_we_write_what_openconnect_writes(self) -> None:
        """Byte for byte, but for the order of the capabilities and of a telephone's attributes."""
        for case in XML_CASES[:-1]:
            for body in client_bodies(case):
                written = write_client_message(read_client_message(body))
                self.assertEqual(
                    without_capabilities(written), without_capabilities(body.rstrip(b"\n")), case
                )

    def test_raw_requests(self) -> None:
        logout = (
            b'<?xml version="1.0" encoding="UTF-8"?>\n<config-auth client="vpn" type="logout" '
            b'aggregate-auth-version="2"><version who="vpn">4.10.07061</version>'
            b"<session-token>AAAA</session-token></config-auth>"
        )
        message = read_client_message(logout)
        self.assertEqual((message.kind, message.session_token), (LOGOUT, "AAAA"))
        self.assertEqual(read_client_message(b"<config-auth/>"), ClientMessage(INIT))


class AnyConnectTests(TestCase):
    """Documents as AnyConnect writes them."""

    def test_init(self) -> None:
        capable = replace(
            ANYCONNECT, capabilities=frozenset({"multiple-cert", "single-sign-on-v2"})
        )
        expected = ClientMessage(INIT, client=capable, group_access="https://vpn.example.test")
        self.assertEqual(read_client_message(example("01")), expected)
        self.assertEqual(
            read_client_message(example("03")), replace(expected, group_select="Contractors")
        )

    def test_credentials(self) -> None:
        message = read_client_message(example("05"))
        self.assertEqual(message.client, ANYCONNECT)
        self.assertEqual(message.answers, {"username": "alice", "password": "p&ss<word>"})
        self.assertEqual(message.group_select, "Contractors")
        assert message.opaque is not None
        self.assertEqual(message.opaque.tunnel_group, "Contractors-Profile")
        self.assertIn(message.opaque.document, example("05"))

    def test_other_answers(self) -> None:
        for name, expected in (
            ("08", {"password": "552546"}),
            ("10", {"password": "n3w-pass"}),
            ("18", {"sso-token": "3A5C9F0177D1E2B4"}),
            (
                "12",
                {
                    "username": "alice",
                    "password": "test-pass",
                    "secondary_username": "alice-token",
                    "secondary_password": "552546",
                },
            ),
        ):
            message = read_client_message(example(name))
            self.assertEqual((message.kind, message.answers), (REPLY, expected))

    def test_no_certificate(self) -> None:
        message = read_client_message(example("14"))
        self.assertTrue(message.certificate_refused)
        self.assertFalse(read_client_message(example("01")).certificate_refused)

    def test_certificates_and_signature(self) -> None:
        message = read_client_message(example("16"))
        self.assertEqual(
            message.certificates,
            SignedCertificates(b"PLACEHOLDER PKCS7", b"PLACEHOLDER SIGNATURE", "sha512"),
        )
        self.assertEqual(message.answers, {})

    def test_logout(self) -> None:
        message = read_client_message(example("22"))
        self.assertEqual((message.kind, message.session_id), (LOGOUT, "32768"))
        self.assertTrue(message.session_token.startswith("7F3B01@32768@"))


class ClientReaderTests(TestCase):
    """Tolerant of order and additions, not of nonsense."""

    def test_answers_keep_their_white_space(self) -> None:
        message = read_client_message(reply(b"<password> a \n</password><empty/>"))
        self.assertEqual(message.answers, {"password": " a \n", "empty": ""})

    def test_the_first_answer_of_a_name_counts(self) -> None:
        message = read_client_message(reply(b"<username>a</username><username>b</username>"))
        self.assertEqual(message.answers, {"username": "a"})

    def test_a_group_among_the_answers_is_the_group(self) -> None:
        message = read_client_message(reply(b"<group_list>g</group_list>"))
        self.assertEqual((message.group_select, message.answers), ("g", {}))

    def test_version_1_is_what_only_a_client_that_says_so_speaks(self) -> None:
        for attribute, version in ((b"1", 1), (b"2", 2), (b"", 2), (b"x", 2)):
            body = b'<config-auth aggregate-auth-version="' + attribute + b'"/>'
            self.assertEqual(read_client_message(body).protocol_version, version)

    def test_a_description_has_no_line_ends(self) -> None:
        body = (
            b"<config-auth><version>1\n2</version>"
            b'<device-id unique-id="a&#10;b">x\r\ny</device-id></config-auth>'
        )
        client = read_client_message(body).client
        self.assertEqual((client.version, client.unique_id, client.platform), ("1 2", "a b", "x y"))

    def test_nonsense_is_refused(self) -> None:
        for body in (
            b"<auth/>",
            b'<config-auth type="auth-request"/>',
            b'<config-auth type=""/>',
            b"<!DOCTYPE config-auth><config-auth/>",
            reply(b"<client-cert-chain><client-cert>AA==</client-cert></client-cert-chain>"),
            reply(
                b"<client-cert-chain><client-cert>!</client-cert>"
                b"<client-cert-auth-signature>AA==</client-cert-auth-signature></client-cert-chain>"
            ),
        ):
            with self.assertRaises(MalformedMessage):
                read_client_message(body)

    def test_each_bound_holds(self) -> None:
        most = b"".join(b"<a%d/>" % number for number in range(MAXIMUM_ANSWERS))
        self.assertEqual(len(read_client_message(reply(most)).answers), MAXIMUM_ANSWERS)
        longest = b"<password>" + b"x" * MAXIMUM_ANSWER_CHARACTERS
        read_client_message(reply(longest + b"</password>"))
        for body in (
            reply(most + b"<more/>"),
            reply(longest + b"x</password>"),
            b"<config-auth><group-select>" + b"x" * 5000 + b"</group-select></config-auth>",
        ):
            with self.assertRaises(MessageTooLarge):
                read_client_message(body)

    def test_lists_of_a_description_are_cut(self) -> None:
        body = (
            b"<config-auth><mac-address-list>"
            + b"<mac-address>x</mac-address>" * 1000
            + b"</mac-address-list></config-auth>"
        )
        self.assertEqual(len(read_client_message(body).client.mac_addresses), 32)

    def test_secrets_are_not_shown(self) -> None:
        message = read_client_message(
            reply(b"<password>swordfish</password>").replace(
                b"<auth>", b"<session-token>tuna</session-token><auth>"
            )
        )
        self.assertNotIn("swordfish", repr(message))
        self.assertNotIn("tuna", repr(message))

    def test_truncated_anywhere_it_is_refused(self) -> None:
        body = example("12").rstrip()
        for length in range(len(body)):
            with self.assertRaises(MalformedMessage):
                read_client_message(body[:length])

    @given(st.data())
    @settings(max_examples=150)
    def test_a_changed_document_is_read_or_refused(self, data: st.DataObject) -> None:
        body = bytearray(example(data.draw(st.sampled_from(["01", "05", "12", "16", "22"]))))
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(body) - 1))
            body[position : position + data.draw(st.integers(0, 9))] = data.draw(
                st.sampled_from([b"", b"<", b">", b"</auth>", b"<auth>", b"\0", b"&", b'"', b"]]>"])
                | st.binary(max_size=3)
            )
        try:
            message = read_client_message(bytes(body))
        except PeerError:
            return
        self.assertLessEqual(len(message.answers), MAXIMUM_ANSWERS)


class ClientWriterTests(TestCase):
    """What we post is read back, under the names that gateways expect."""

    @given(client_messages)
    @settings(max_examples=150)
    def test_what_is_written_is_read(self, message: ClientMessage) -> None:
        self.assertEqual(read_client_message(write_client_message(message)), message)

    def sent(self, answers: dict[str, str]) -> bytes:
        body = write_client_message(ClientMessage(REPLY, answers=answers))
        found = re.search(rb"<auth>(.*)</auth>", body, re.DOTALL)
        assert found is not None
        return found[1]

    def test_some_answers_are_sent_as_the_password(self) -> None:
        for name in ("answer", "whichpin", "new_password"):
            self.assertEqual(self.sent({name: "x"}), b"<password>x</password>")

    def test_a_new_password_beside_the_old_one_keeps_its_name(self) -> None:
        self.assertEqual(
            self.sent({"password": "x", "new_password": "y"}),
            b"<password>x</password><new_password>y</new_password>",
        )

    def test_repeated_entries_are_not_sent(self) -> None:
        self.assertEqual(
            self.sent({"new_password": "x", "verify_password": "x", "verify_pin": "1"}),
            b"<password>x</password>",
        )

    def test_the_group_is_no_answer(self) -> None:
        body = write_client_message(
            ClientMessage(REPLY, group_select="staff", answers={"group_list": "x", "a": ""})
        )
        self.assertIn(b"<auth><a></a></auth><group-select>staff</group-select>", body)
        self.assertNotIn(b"group_list", body)

    def test_a_name_that_no_element_can_have_is_the_gateways_fault(self) -> None:
        for name in ("a b", "<x>", "", "a\0"):
            with self.assertRaises(MalformedMessage):
                self.sent({name: "x"})

    def test_the_opaque_is_echoed_byte_for_byte(self) -> None:
        for body in (example("02"), example("15"), example("17")):
            step = read_gateway_message(body)
            opaque = getattr(step, "opaque")  # noqa: B009 - each of these is a LoginStep
            assert isinstance(opaque, Opaque)
            written = write_client_message(
                ClientMessage(REPLY, opaque=opaque, answers={"username": "<opaque></opaque>"})
            )
            self.assertIn(opaque.document, written)
            self.assertIn(opaque.document, body)
            again = read_client_message(written)
            self.assertEqual(again.answers, {"username": "<opaque></opaque>"})
            self.assertEqual(again.opaque, replace(opaque, document=b""))

    def test_a_gateway_without_opaque_gets_none(self) -> None:
        (form, *_) = gateway_bodies("01_password_psk_dtls")
        self.assertIsNone(getattr(read_gateway_message(form), "opaque", None))
        self.assertNotIn(b"opaque", write_client_message(ClientMessage(REPLY)))

    def test_a_signature_goes_with_an_empty_session(self) -> None:
        signed = SignedCertificates(b"chain", b"signature", "sha512")
        body = write_client_message(ClientMessage(REPLY, certificates=signed))
        self.assertIn(b"<session-id></session-id><session-token></session-token>", body)
        self.assertIn(b'<client-cert-auth-signature hash-algorithm-chosen="sha512">', body)
        self.assertNotIn(b"session-token", write_client_message(ClientMessage(REPLY)))

    def test_controls_never_break_a_document(self) -> None:
        message = ClientMessage(
            REPLY,
            client=ClientDescription(computer_name="a\0b", version="\x1b"),
            answers={"password": "x\x01\ud800y"},
        )
        read = read_client_message(write_client_message(message))
        self.assertEqual((read.answers, read.client.computer_name), ({"password": "xy"}, "ab"))
