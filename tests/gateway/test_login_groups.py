"""The first form: which group it is for, and how another one is chosen."""

from __future__ import annotations

from dataclasses import replace

from anyvpn.gateway.authentication import UNKNOWN_GROUP
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import PASSWORD_FORM, Field, Form, Identity
from anyvpn.model.events import EventKind
from tests.gateway.backends_in_memory import RIGHT_PASSWORD, profile
from tests.gateway.login_desk import LoginDeskCase

GUEST_FORM = Form("Your voucher, please.", (Field("voucher", secret=True),))


async def ask_voucher(dialogue: IDialogue) -> Identity:
    """Another form than the one of the other profiles."""
    voucher = await dialogue.ask(GUEST_FORM)
    return Identity("guest-" + voucher["voucher"])


class FirstFormTests(LoginDeskCase):
    def setUp(self) -> None:
        super().setUp()
        self.open_desk(
            profile("Staff", alias="All staff"),
            profile("Guests", "/guests", script=ask_voucher),
            profile("Hidden", "/hidden", "vpn.example.com/door", listed=False),
        )

    def test_it_is_the_authenticators(self) -> None:
        reply = self.client.init()
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.form.fields, PASSWORD_FORM.fields)
        self.assertEqual(reply.form.message, PASSWORD_FORM.message)
        self.assertEqual(reply.form.error, "")
        self.assertEqual(reply.login_step.action, "/")

    def test_it_offers_the_groups_with_the_selected_one_first(self) -> None:
        self.assertEqual(self.client.init().groups, [("All staff", True), ("Guests", False)])
        self.assertEqual(
            self.client.init("Guests").groups, [("Guests", True), ("All staff", False)]
        )

    def test_its_opaque_says_which_group_it_is_for(self) -> None:
        opaque = self.client.init().opaque
        self.assertEqual((opaque.tunnel_group, opaque.group_alias), ("Staff", "All staff"))
        self.assertTrue(opaque.config_hash.isdecimal())
        self.assertRegex(opaque.handle, r"\A[0-9a-f]{32}\.1\Z")

    def test_its_cookie_is_the_handle_for_as_long_as_a_login_may_take(self) -> None:
        reply = self.client.init()
        (cookie,) = reply.answer.cookies
        wanted = f"webvpncontext={reply.opaque.handle}; Max-Age=240; path=/; Secure; HttpOnly"
        self.assertEqual(cookie, wanted)

    def test_each_login_has_a_handle_of_its_own(self) -> None:
        handles = {self.other_client().init().opaque.handle for _ in range(5)}
        self.assertEqual(len(handles), 5)

    def test_a_beginning_is_an_event(self) -> None:
        self.client.init("Guests")
        (event,) = self.listener.of(EventKind.LOGIN_STARTED)
        self.assertEqual((event.profile, event.peer, event.at_s), ("Guests", "192.0.2.1", 1000))

    # --- another group ------------------------------------------------------------------------

    def test_another_group_begins_another_login(self) -> None:
        first = self.client.init().opaque.handle
        reply = self.client.init("Guests")
        self.assertEqual(reply.form.fields, GUEST_FORM.fields)
        self.assertEqual(reply.opaque.tunnel_group, "Guests")
        self.assertNotEqual(reply.opaque.handle, first)
        self.assertEqual(self.client.reply("Guests", voucher="7").status, 200)
        (event,) = self.listener.of(EventKind.LOGIN_SUCCEEDED)
        self.assertEqual((event.user, event.profile), ("guest-7", "Guests"))

    def test_the_login_that_was_left_takes_nothing_any_more(self) -> None:
        left = self.other_client()
        left.init()
        self.client.base = replace(self.client.base, login_cookie=left.base.login_cookie)
        self.client.init("Guests")
        reply = left.reply(username="alice", password=RIGHT_PASSWORD)
        self.assertEqual(reply.refusal, "The login took too long. Please try again.")

    def test_a_group_along_with_the_answers_to_another_groups_form_gets_its_own_form(self) -> None:
        self.client.init()
        reply = self.client.reply("Guests", username="alice", password=RIGHT_PASSWORD)
        self.assertEqual(reply.form.fields, GUEST_FORM.fields)
        self.assertEqual(self.failures(), [])

    def test_a_group_along_with_answers_that_fit_its_form_is_a_login(self) -> None:
        self.client.init("Guests")
        reply = self.client.reply("All staff", username="alice", password=RIGHT_PASSWORD)
        self.assertTrue(reply.complete.session_token)
        (event,) = self.listener.of(EventKind.LOGIN_SUCCEEDED)
        self.assertEqual(event.profile, "Staff")

    def test_the_groups_own_name_along_with_the_answers_goes_on(self) -> None:
        handle = self.client.init().opaque.handle
        reply = self.client.reply("all STAFF", username="alice", password="wrong")
        self.assertEqual(reply.opaque.handle.partition(".")[0], handle.partition(".")[0])

    def test_an_unknown_group_gets_the_default_form_with_an_error(self) -> None:
        for reply in (self.client.init("Nobody"), self.other_client().init("Hidden")):
            self.assertEqual(reply.form.error, UNKNOWN_GROUP)
            self.assertEqual(reply.opaque.tunnel_group, "Staff")
        self.assertEqual(self.failures(), [])

    def test_answers_to_an_unknown_group_are_not_taken(self) -> None:
        self.client.init()
        reply = self.client.reply("Nobody", username="alice", password=RIGHT_PASSWORD)
        self.assertEqual(reply.form.error, UNKNOWN_GROUP)
        self.assertEqual(self.listener.of(EventKind.LOGIN_SUCCEEDED), [])

    # --- by URL -------------------------------------------------------------------------------

    def test_whoever_comes_by_the_groups_url_has_chosen(self) -> None:
        reply = self.client.init(access="https://vpn.example.com:4443/guests/")
        self.assertEqual(reply.opaque.tunnel_group, "Guests")
        self.assertEqual(reply.groups, [])

    def test_an_unknown_group_at_a_groups_url_offers_the_groups(self) -> None:
        reply = self.client.init("Nobody", access="https://vpn.example.com/guests")
        self.assertEqual(reply.form.error, UNKNOWN_GROUP)
        self.assertEqual(reply.groups, [("Guests", True), ("All staff", False)])

    def test_the_path_of_the_request_selects_the_group(self) -> None:
        self.client.base = replace(self.client.base, path="/guests")
        self.assertEqual(self.client.init().opaque.tunnel_group, "Guests")

    def test_a_name_comes_before_the_url(self) -> None:
        reply = self.client.init("All staff", access="https://vpn.example.com/guests")
        self.assertEqual(reply.opaque.tunnel_group, "Staff")

    def test_a_hidden_group_is_reached_by_its_url_and_offers_no_others(self) -> None:
        for access in ("https://vpn.example.com/hidden", "https://vpn.example.com/door"):
            reply = self.other_client().init(access=access)
            self.assertEqual(reply.opaque.tunnel_group, "Hidden")
            self.assertEqual(reply.groups, [])

    def test_a_hidden_group_keeps_its_client_through_the_dialogue(self) -> None:
        self.client.init(access="https://vpn.example.com/hidden")
        reply = self.client.reply("Hidden", username="alice", password=RIGHT_PASSWORD)
        self.assertTrue(reply.complete.session_token)

    def test_a_second_init_begins_again(self) -> None:
        first = self.client.init().opaque.handle
        self.assertNotEqual(self.client.init().opaque.handle, first)
        self.assertEqual(self.client.reply(username="a", password=RIGHT_PASSWORD).status, 200)


class VersionOneTests(LoginDeskCase):
    def setUp(self) -> None:
        super().setUp()
        self.open_desk(profile("Staff"), profile("Guests", script=ask_voucher))
        self.client.version = 1

    def test_the_form_has_no_opaque_and_its_action_is_the_old_one(self) -> None:
        reply = self.client.init()
        self.assertTrue(reply.answer.document.partition(b"\n")[2].startswith(b'<auth id="main"'))
        self.assertIsNone(reply.login_step.opaque)
        self.assertEqual(reply.login_step.action, "/+webvpn+/index.html")

    def test_the_cookie_leads_to_the_login(self) -> None:
        self.client.init("Guests")
        reply = self.client.reply("Guests", voucher="8")
        self.assertTrue(reply.token)
        self.assertEqual(len(self.listener.of(EventKind.LOGIN_STARTED)), 1)

    def test_the_token_is_in_the_cookie_alone(self) -> None:
        self.client.init()
        reply = self.client.reply("Staff", username="alice", password=RIGHT_PASSWORD)
        self.assertEqual(reply.complete.session_token, "")
        self.assertNotIn(reply.token.encode(), reply.answer.document)

    def test_a_client_without_cookies_gets_in_too(self) -> None:
        self.client.keeps_cookies = False
        self.client.init()
        reply = self.client.reply("Staff", username="alice", password=RIGHT_PASSWORD)
        self.assertTrue(reply.token)

    def test_a_client_without_cookies_is_told_what_was_wrong(self) -> None:
        self.client.keeps_cookies = False
        self.client.init()
        reply = self.client.reply("Staff", username="alice", password="wrong")
        self.assertEqual(reply.form.error, "Login failed.")
        self.assertEqual(self.failures(), ["wrong password"])

    def test_a_restart_of_the_gateway_costs_nobody_his_answers(self) -> None:
        self.client.version = 2
        self.client.init()
        self.desk.stop()
        reply = self.client.reply("Staff", username="alice", password=RIGHT_PASSWORD)
        self.assertTrue(reply.complete.session_token)
