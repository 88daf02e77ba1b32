"""Forms, groups and browser logins, as gateways ask for them."""

from __future__ import annotations

import re
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from anyvpn.errors import MalformedMessage, MessageTooLarge
from anyvpn.model.authentication import (
    PASSWORD_FORM,
    BrowserLogin,
    Choice,
    Field,
    Form,
    GroupList,
    LoginStep,
    Option,
)
from anyvpn.wire.authentication import read_gateway_message, write_gateway_message
from tests.wire.captured import example, gateway_bodies
from tests.wire.test_authentication_opaque import opaques
from tests.wire.texts import field_names, trimmed, xml_text

filled = trimmed.filter(bool)
fields = st.builds(
    Field, field_names, label=xml_text, secret=st.booleans(), second=st.booleans()
) | st.builds(Field, field_names, label=xml_text, hidden=st.just(True), value=xml_text)
options = st.builds(
    Option,
    value=xml_text,
    label=filled,
    selected=st.booleans(),
    second=st.booleans(),
    without_credentials=st.booleans(),
    secondary_username=xml_text,
    secondary_username_editable=st.booleans(),
)
option_lists = st.lists(options, min_size=1, max_size=3).map(tuple)
choices = st.builds(
    Choice, field_names.filter(lambda name: name != "group_list"), xml_text, option_lists
)
forms = st.builds(
    Form,
    message=trimmed,
    fields=st.lists(fields | choices, max_size=4).map(tuple),
    title=trimmed,
    kind=st.sampled_from(["main", "challenge"]),
    message_id=trimmed,
    error=filled,
    error_id=trimmed,
) | st.builds(Form, message=trimmed, fields=st.just(()), error_id=st.just(""))
browser_logins = st.builds(
    BrowserLogin,
    login_url=filled,
    final_url=trimmed,
    logout_url=trimmed,
    external=st.booleans(),
    message=trimmed,
    title=trimmed,
    error=trimmed,
    token_field=field_names,
)


def first_selected(groups: tuple[Option, ...]) -> GroupList:
    marked = [
        Option(group.value, group.label, selected=number == 0)
        for number, group in enumerate(groups)
    ]
    return GroupList(tuple(marked), "GROUP:")


login_steps = st.builds(
    LoginStep,
    step=forms | browser_logins,
    opaque=st.none() | opaques,
    groups=st.none() | option_lists.map(first_selected),
    action=xml_text,
    certificate_accepted=st.booleans(),
    banner=trimmed,
)


def asked(body: bytes) -> LoginStep:
    message = read_gateway_message(body)
    assert isinstance(message, LoginStep)
    return message


def form(body: bytes) -> Form:
    step = asked(body).step
    assert isinstance(step, Form)
    return step


def auth(inside: str) -> bytes:
    return f'<config-auth><auth id="main">{inside}</auth></config-auth>'.encode()


class CapturedFormTests(TestCase):
    """Forms of ocserv 1.1.6, as they were on the wire."""

    def test_user_name_then_password(self) -> None:
        first, second, _ = gateway_bodies("01_password_psk_dtls")
        self.assertEqual(
            asked(first),
            LoginStep(
                Form(
                    "Please enter your username.",
                    (Field("username", "Username:"),),
                    title="",
                    error_id="",
                ),
                action="/auth",
                banner="Authorised use only",
            ),
        )
        self.assertEqual(form(second).fields, (Field("password", "Password:", secret=True),))

    def test_groups_with_the_chosen_one_first(self) -> None:
        first, second, third, _ = gateway_bodies("02_group_select")
        groups = asked(first).groups
        self.assertEqual(
            groups,
            GroupList(
                (
                    Option("DEFAULT", "DEFAULT"),
                    Option("staff", "Staff people"),
                    Option("guests", "Guests"),
                ),
                "Group:",
            ),
        )
        changed = asked(second).groups
        assert changed is not None
        self.assertEqual([group.value for group in changed.options], ["guests", "DEFAULT", "staff"])
        self.assertIsNone(asked(third).groups)

    def test_the_code_after_the_password(self) -> None:
        code = form(gateway_bodies("03_two_step_otp")[2])
        self.assertEqual((code.kind, [each.name for each in code.fields]), ("main", ["password"]))

    def test_forms_with_nothing_but_a_group_or_nothing_at_all(self) -> None:
        group_only, _, nothing = gateway_bodies("04_certificate")
        step = asked(group_only)
        assert step.groups is not None
        self.assertEqual((form(group_only).fields, step.groups.options[0].value), ((), "staff"))
        self.assertEqual((form(nothing).fields, asked(nothing).groups), ((), None))
        both = asked(gateway_bodies("04b_certificate_group_and_password")[1])
        assert both.groups is not None
        self.assertEqual(both.groups.options, (Option("staff", "staff"),))

    def test_wrong_password_is_said_in_the_message(self) -> None:
        for case in ("05_wrong_password", "05b_wrong_then_right_password"):
            again = form(gateway_bodies(case)[2])
            self.assertEqual(again.message, "Login failed.\nPlease enter your password.")
            self.assertEqual(again.error, "")

    def test_version_1_clients_get_the_same(self) -> None:
        groups = asked(gateway_bodies("10b_no_xmlpost_group")[0]).groups
        assert groups is not None
        self.assertEqual([group.value for group in groups.options], ["staff", "guests"])
        self.assertEqual(gateway_bodies("10_no_xmlpost"), gateway_bodies("01_password_psk_dtls"))


class CiscoFormTests(TestCase):
    """Forms as an ASA words them."""

    def test_groups(self) -> None:
        message = asked(example("02"))
        self.assertEqual(
            message.step,
            Form(PASSWORD_FORM.message, PASSWORD_FORM.fields, title="Login", error_id=""),
        )
        self.assertEqual(
            message.groups,
            GroupList(
                (
                    Option("Engineering", "Engineering", selected=True),
                    Option("Contractors", "Contractors"),
                    Option("ops", "Operations (certificate)", without_credentials=True),
                )
            ),
        )
        self.assertEqual((message.action, message.banner), ("", ""))

    def test_the_selected_group_comes_first(self) -> None:
        message = asked(example("04"))
        assert message.groups is not None and message.opaque is not None
        self.assertEqual(
            [(group.value, group.selected) for group in message.groups.options],
            [("Contractors", True), ("Engineering", False)],
        )
        self.assertEqual(message.opaque.group_alias, "Contractors")

    def test_parameters_fill_the_texts(self) -> None:
        wrong = form(example("06"))
        self.assertEqual(wrong.error, "Login failed: bad username or password")
        self.assertEqual(wrong.error_id, "88")
        challenge = form(example("07"))
        self.assertEqual(challenge.message, "Enter the code for token 123456.")
        self.assertEqual((challenge.kind, challenge.message_id), ("challenge", "63"))
        self.assertEqual(challenge.fields, (Field("answer", "Answer:", secret=True),))

    def test_new_password(self) -> None:
        self.assertEqual(
            [each.name for each in form(example("09")).fields], ["new_password", "verify_password"]
        )

    def test_second_authentication(self) -> None:
        message = asked(example("11"))
        self.assertEqual(
            [each.second for each in form(example("11")).fields if isinstance(each, Field)],
            [False, False, True, True],
        )
        assert message.groups is not None
        self.assertEqual(
            message.groups.options[0],
            Option(
                "Double",
                "Double",
                selected=True,
                second=True,
                secondary_username="alice-token",
                secondary_username_editable=True,
            ),
        )

    def test_browser_login(self) -> None:
        base = "https://vpn.example.test/+CSCOE+/"
        expected = BrowserLogin(
            login_url=base + "saml/sp/login?tgname=SAML-Profile&acsamlcap=v2",
            final_url=base + "saml_ac_login.html",
            logout_url=base + "saml/sp/logout",
            message="Please complete the authentication process in the login window.",
        )
        message = asked(example("17"))
        self.assertEqual(message.step, expected)
        assert message.groups is not None
        self.assertEqual(message.groups.options[0].value, "SAML")
        external = asked(example("19")).step
        assert isinstance(external, BrowserLogin)
        self.assertTrue(external.external)
        self.assertFalse(expected.external)

    def test_version_1_form(self) -> None:
        message = asked(example("24"))
        self.assertEqual(message.action, "/+webvpn+/index.html")
        self.assertEqual(
            form(example("24")).fields,
            (*PASSWORD_FORM.fields, Field("tgroup", "tgroup:", hidden=True)),
        )
        assert message.groups is not None
        self.assertEqual(message.groups.options[0].value, "Engineering")

    def test_a_posture_check_is_noticed(self) -> None:
        self.assertTrue(asked(example("27")).host_scan_wanted)
        part = re.sub(rb"<host-scan-token>.*</host-scan-token>", b"", example("27"))
        self.assertFalse(asked(part).host_scan_wanted)


class FormReaderTests(TestCase):
    """What openconnect passes over is passed over here."""

    def test_inputs_without_name_or_known_type_are_passed_over(self) -> None:
        body = auth(
            '<form><input type="text"/><input name="a"/><input type="file" name="b"/>'
            '<input type="submit" name="c"/><select name="d"/><select><option/></select>'
            '<other/><input type="text" name="e"/></form>'
        )
        self.assertEqual(form(body).fields, (Field("e", "e:"),))

    def test_other_choices_stay_in_the_form(self) -> None:
        body = auth(
            '<form><select name="realm" label="R"><option value="1">one</option>'
            '<option selected="true">two</option></select></form>'
        )
        self.assertEqual(
            form(body).fields,
            (Choice("realm", "R", (Option("1", "one"), Option("two", "two", selected=True))),),
        )

    def test_an_error_beside_the_form_belongs_to_it(self) -> None:
        body = auth("<error/><form/>").replace(b"</auth>", b'</auth><error id="7">no</error>')
        self.assertEqual((form(body).error, form(body).error_id), ("no", "7"))

    def test_missing_parameters_leave_the_text_alone(self) -> None:
        for text, attributes, expected in (
            ("%s%s%s", 'param1="a" param2="b" param3="c"', "ab%s"),
            ("%s and %s", 'param2="b"', "%s and b"),
            ("%s", 'param1="%s" param2="x"', "%s"),
            ("100%", 'param1="a"', "100%"),
        ):
            body = auth(f"<message {attributes}>{text}</message><form/>")
            self.assertEqual(form(body).message, expected)

    def test_only_post_will_do(self) -> None:
        self.assertEqual(form(auth('<form method="POST"/>')).fields, ())
        with self.assertRaises(MalformedMessage):
            read_gateway_message(auth('<form method="get"/>'))

    def test_nothing_left_to_ask(self) -> None:
        self.assertTrue(asked(auth("<authentication-complete/>")).nothing_to_ask)

    def test_texts_are_bounded(self) -> None:
        with self.assertRaises(MessageTooLarge):
            read_gateway_message(auth(f"<message>{'x' * 70000}</message><form/>"))
        with self.assertRaises(MalformedMessage):
            read_gateway_message(auth(f'<form action="/{"x" * 5000}"/>'))


class FormWriterTests(TestCase):
    """What a gateway of ours asks is read back."""

    @given(login_steps, st.sampled_from([1, 2]))
    @settings(max_examples=200)
    def test_what_is_written_is_read(self, message: LoginStep, version: int) -> None:
        read = asked(write_gateway_message(message, version))
        self.assertEqual((read.step, read.groups), (message.step, message.groups))
        self.assertEqual(read.banner, message.banner)
        if version == 2:
            self.assertEqual(read, message)

    def test_the_first_group_is_selected_whatever_the_options_say(self) -> None:
        groups = GroupList((Option("a"), Option("b", selected=True)))
        body = write_gateway_message(LoginStep(PASSWORD_FORM, groups=groups))
        self.assertIn(b'<option value="a" selected="true">a</option><option value="b">b<', body)

    def test_secrets_are_never_filled_in(self) -> None:
        step = Form("", (Field("password", secret=True, value="swordfish"),))
        self.assertNotIn(b"swordfish", write_gateway_message(LoginStep(step)))

    def test_an_action_is_never_empty(self) -> None:
        """openconnect refuses a form whose action is there and empty."""
        body = write_gateway_message(LoginStep(PASSWORD_FORM, action=""))
        self.assertIn(b'<form method="post">', body)

    def test_errors_are_worded_as_clients_expect(self) -> None:
        step = Form("", (), error="Login failed.")
        body = write_gateway_message(LoginStep(step))
        self.assertIn(b'<error id="91" param1="" param2="">Login failed.</error>', body)
        step = Form("", (), error="100%s")
        self.assertIn(b'<error id="91">100%s<', write_gateway_message(LoginStep(step)))

    def test_nothing_left_to_ask_is_said(self) -> None:
        message = LoginStep(Form("", (), title="", error_id=""), action="", nothing_to_ask=True)
        self.assertEqual(asked(write_gateway_message(message)), message)

    def test_controls_never_break_a_document(self) -> None:
        step = Form("a\0b", (Field("x", "\x1b[1m", hidden=True, value="\x07"),), error="\x01")
        read = form(write_gateway_message(LoginStep(step, banner="\0", action="/\0")))
        self.assertEqual((read.message, read.fields), ("ab", (Field("x", "[1m", hidden=True),)))
