"""How a login ends: with a token, with a refusal, and how often one may try."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred

from anyvpn.errors import AccessDenied, BackendFailed, LoginRejected, LoginUndecided
from anyvpn.gateway.settings import Limits
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import PASSWORD_FORM, Form, Identity, Manifest
from anyvpn.model.client_profile import ClientProfile
from anyvpn.model.downloads import DownloadHints
from anyvpn.model.events import EventKind
from anyvpn.testing.outcomes import completed
from anyvpn.wire.cookies import HINTS_COOKIE, LOGIN_COOKIE, SESSION_COOKIE, read_webvpnc
from tests.gateway.backends_in_memory import (
    RIGHT_CODE,
    RIGHT_PASSWORD,
    ask_password_and_code,
)
from tests.gateway.login_desk import HASHES, LoginDeskCase

UNAVAILABLE = "The login service is not available. Please try again later."


class WrongPasswordTests(LoginDeskCase):
    def test_the_form_comes_again_with_an_error(self) -> None:
        self.client.init()
        reply = self.client.reply(username="alice", password="wrong")
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.form.error, "Login failed.")
        self.assertEqual([each.name for each in reply.form.fields], ["username", "password"])

    def test_the_right_one_after_it_gets_in(self) -> None:
        self.client.init()
        self.client.reply(username="alice", password="wrong")
        reply = self.client.reply(username="alice", password=RIGHT_PASSWORD)
        self.assertTrue(reply.complete.session_token)

    def test_the_third_ends_the_login(self) -> None:
        self.client.init()
        for _ in range(2):
            self.assertIsInstance(self.client.reply(username="bob", password="wrong").step, Form)
        reply = self.client.reply(username="bob", password="wrong")
        self.assertEqual((reply.status, reply.answer.document), (401, b""))
        self.assertEqual(reply.cookies, [(LOGIN_COOKIE, "")])

    def test_each_is_an_event_with_its_reason(self) -> None:
        self.client.init()
        for _ in range(3):
            self.client.reply(username="bob", password="wrong")
        events = self.listener.of(EventKind.LOGIN_FAILED)
        self.assertEqual([each.detail for each in events], ["wrong password"] * 3)
        self.assertEqual(
            {(each.user, each.peer, each.profile) for each in events},
            {("bob", "192.0.2.1", "Staff")},
        )
        self.assertNotIn("wrong", "".join(each.user for each in self.listener.events))

    def test_no_fourth_try_is_taken(self) -> None:
        self.client.init()
        for _ in range(3):
            self.client.reply(username="bob", password="wrong")
        reply = self.client.reply(username="bob", password=RIGHT_PASSWORD)
        self.assertEqual(reply.status, 401)
        self.assertEqual(len(self.failures()), 3)

    def test_another_login_has_its_own_tries(self) -> None:
        for _ in range(3):
            client = self.other_client()
            client.init()
            client.reply(username="bob", password="wrong")
            self.assertIsInstance(client.reply(username="bob", password="wrong").step, Form)


class BanTests(LoginDeskCase):
    limits = replace(LoginDeskCase.limits, failures_before_ban=4, ban_time_s=300.0)

    def fail_four_times(self) -> None:
        for _ in range(2):
            client = self.other_client()
            client.init()
            client.reply(username="bob", password="wrong")
            client.reply(username="bob", password="wrong")

    def test_an_address_that_fails_too_often_is_shut_out(self) -> None:
        self.fail_four_times()
        self.assertEqual(self.client.init().status, 403)
        self.assertEqual(self.other_client("198.51.100.1").init().status, 200)

    def test_a_login_in_progress_is_shut_out_too(self) -> None:
        self.client.init()
        self.fail_four_times()
        reply = self.client.reply(username="bob", password=RIGHT_PASSWORD)
        self.assertEqual(reply.status, 403)

    def test_time_lets_it_in_again(self) -> None:
        self.fail_four_times()
        self.clock.advance(301)
        self.assertEqual(self.client.init().status, 200)

    def test_guesses_are_counted_while_a_directory_is_down(self) -> None:
        """Those at the users of another backend that the same login asks."""

        async def undecided(dialogue: IDialogue) -> Identity:
            await dialogue.ask(PASSWORD_FORM)
            raise LoginUndecided("the directory is down; wrong password")

        self.open_desk(script=undecided)
        for _ in range(4):
            self.assertEqual(self.client.log_in("bob", "guess").refusal, UNAVAILABLE)
        self.assertEqual(self.failures(), ["the directory is down; wrong password"] * 4)
        self.assertEqual(self.client.init().status, 403)

    def test_a_client_without_cookies_is_counted(self) -> None:
        self.client.version = 1
        self.client.keeps_cookies = False
        for _ in range(4):
            self.client.reply(username="bob", password="wrong")
        self.assertEqual(self.client.init().status, 403)


class UserLimitTests(LoginDeskCase):
    limits = replace(LoginDeskCase.limits, failures_per_user=4, ban_time_s=300.0)

    def guess_from_everywhere(self) -> None:
        for number in range(4):
            self.other_client(f"198.51.100.{number}").log_in("bob", "guess")

    def test_a_name_that_is_guessed_at_is_shut_out_even_with_the_right_password(self) -> None:
        self.guess_from_everywhere()
        self.assertEqual(self.client.log_in("bob").form.error, "Login failed.")
        self.assertIn("shut out", self.failures()[-1])
        self.assertTrue(self.other_client("192.0.2.7").log_in("alice").token)

    def test_however_the_name_is_written_it_is_one(self) -> None:
        """As directories see it: or each spelling would give as many guesses again."""
        for number, name in enumerate(("BOB", "Bob ", "\uff42ob", "bOb")):
            self.other_client(f"198.51.100.{number}").log_in(name, "guess")
        self.assertEqual(self.client.log_in("bob").form.error, "Login failed.")

    def test_another_name_of_the_user_is_guessed_at_like_the_first(self) -> None:
        async def known_by_mail(dialogue: IDialogue) -> Identity:
            login = await dialogue.ask(PASSWORD_FORM)
            if login["password"] != RIGHT_PASSWORD:
                raise LoginRejected("wrong password")
            return Identity(login["username"].partition("@")[0])

        self.open_desk(script=known_by_mail)
        for number in range(4):
            self.other_client(f"198.51.100.{number}").log_in("bob@example.com", "guess")
        self.assertEqual(self.client.log_in("bob@example.com").form.error, "Login failed.")
        self.assertTrue(self.client.log_in("bob").token)

    def test_a_further_question_tells_guessers_no_more_than_a_token(self) -> None:
        self.open_desk(script=ask_password_and_code)
        self.guess_from_everywhere()
        for password in (RIGHT_PASSWORD, "guess"):
            self.assertEqual(self.client.log_in("bob", password).form.error, "Login failed.")
        self.client.log_in("alice")
        self.assertTrue(self.client.reply(answer=RIGHT_CODE).token)

    def test_its_owner_gets_in_from_where_he_was_before(self) -> None:
        self.assertTrue(self.client.log_in("bob").token)
        self.guess_from_everywhere()
        self.assertTrue(self.client.log_in("bob").token)

    def test_time_lets_it_in_again(self) -> None:
        self.guess_from_everywhere()
        self.clock.advance(301)
        self.assertTrue(self.client.log_in("bob").token)

    def test_a_name_is_kept_readable_and_short(self) -> None:
        self.client.log_in("bob\x1b[2J" + "x" * 5000, "guess")
        [event] = self.listener.of(EventKind.LOGIN_FAILED)
        self.assertEqual(len(event.user), 256)
        self.assertTrue(event.user.startswith("bob?[2J"))

    def test_a_volley_of_guesses_tells_no_more_than_the_ban_allows(self) -> None:
        waiting: list[Deferred[None]] = []

        async def slow(dialogue: IDialogue) -> Identity:
            await dialogue.ask(PASSWORD_FORM)
            waiting.append(Deferred())
            await waiting[-1]
            return Identity("bob")

        self.open_desk(script=slow)
        self.client.init()
        verdict = self.client.start(self.client.reply_message({"username": "bob"}))
        for _ in range(20):
            self.admission.login_failed("192.0.2.1")
        waiting[0].callback(None)
        self.assertEqual(
            self.client.take(self.successResultOf(verdict)).form.error, "Login failed."
        )


class SuccessTests(LoginDeskCase):
    PROFILE = ClientProfile("office.xml", b"<AnyConnectProfile/>")

    def test_the_token_opens_the_session(self) -> None:
        reply = self.client.log_in()
        session = completed(self.registry.find(reply.token))
        assert session is not None
        self.assertEqual(session.record.identity.user, "alice")
        self.assertEqual(session.record.profile, "Staff")
        self.assertEqual(session.record.policy, self.authorizer.policy)
        self.assertEqual(session.record.peer_address, "192.0.2.1")
        self.assertEqual(reply.complete.session_token, reply.token)
        self.assertEqual(reply.complete.session_id, str(session.identifier))
        self.assertRegex(reply.token, r"\A[\w-]{43}\Z")

    def test_the_cookies_come_in_order(self) -> None:
        reply = self.client.log_in()
        names = [name for name, _ in reply.cookies]
        self.assertEqual(names, [LOGIN_COOKIE, SESSION_COOKIE, HINTS_COOKIE, HINTS_COOKIE])
        cleared, hints = reply.answer.cookies[2:]
        self.assertTrue(cleared.startswith("webvpnc=; expires=Thu, 01 Jan 1970 "))
        self.assertTrue(hints.startswith("webvpnc=bu:/&p:t&iu:1/&sh:" + "BB" * 20))
        self.assertEqual(reply.cookies[0][1], "")
        for cookie in reply.answer.cookies:
            self.assertTrue(cookie.endswith("; Secure; HttpOnly"), cookie)

    def test_the_certificate_hash_is_of_the_name_that_was_asked_for(self) -> None:
        for name, wanted in (("vpn.example.com", "BB" * 20), ("", "AA" * 20), ("x", "AA" * 20)):
            client = self.other_client()
            client.base = replace(client.base, server_name=name)
            reply = client.log_in()
            self.assertEqual(reply.complete.server_cert_hash, wanted)
            self.assertEqual(self.hints(reply.cookies), DownloadHints(server_cert_hash=wanted))
        self.assertEqual(HASHES[""], "AA" * 20)

    def test_the_profile_is_announced_with_its_hash(self) -> None:
        other = ClientProfile("more.xml", b"<more/>")
        self.client_profiles.profiles = (self.PROFILE, other)
        reply = self.client.log_in()
        sha1 = self.PROFILE.sha1
        self.assertEqual(len(sha1), 40)
        self.assertEqual(
            reply.complete.profiles,
            (
                Manifest("/CACHE/stc/profiles/office.xml", sha1),
                Manifest("/CACHE/stc/profiles/more.xml", other.sha1),
            ),
        )
        hints = self.hints(reply.cookies)
        self.assertEqual((hints.profile_path, hints.profile_sha1), ("profiles/office.xml", sha1))
        self.assertIn("&fu:profiles%2Foffice.xml&fh:" + sha1, reply.answer.cookies[3])

    def test_a_profile_that_cannot_be_read_is_not_announced(self) -> None:
        self.client_profiles.error = BackendFailed("cannot read /profiles")
        reply = self.client.log_in()
        self.assertTrue(reply.token)
        self.assertEqual(reply.complete.profiles, ())

    def test_the_banner_is_the_policys(self) -> None:
        self.authorizer.policy = replace(self.authorizer.policy, banner="Welcome to Office")
        self.assertEqual(self.client.log_in().complete.banner, "Welcome to Office")

    def test_it_is_an_event_that_names_the_session(self) -> None:
        reply = self.client.log_in()
        (event,) = self.listener.of(EventKind.LOGIN_SUCCEEDED)
        self.assertEqual(str(event.session_id), reply.complete.session_id)
        self.assertEqual((event.user, event.detail), ("alice", "policy office"))
        for each in self.listener.events:
            self.assertNotIn(reply.token, repr(each))

    def test_nothing_shows_the_secrets(self) -> None:
        self.client.init()
        message = self.client.reply_message({"username": "a", "password": RIGHT_PASSWORD})
        reply = self.client.post(message)
        shown = repr(reply.answer) + repr(replace(self.client.base, message=message))
        self.assertNotIn(reply.token, shown)
        self.assertNotIn(RIGHT_PASSWORD, shown)

    def hints(self, cookies: list[tuple[str, str]]) -> DownloadHints:
        return read_webvpnc(cookies[3][1])


class AuthorizationTests(LoginDeskCase):
    def test_the_authorizer_knows_who_asks_from_where(self) -> None:
        self.client.base = replace(self.client.base, certificates=(b"leaf",))
        self.client.log_in()
        (request,) = self.authorizer.requests
        self.assertEqual((request.profile, request.peer_address), ("Staff", "192.0.2.1"))
        self.assertEqual((request.host, request.certificates), ("vpn.example.com", (b"leaf",)))

    def test_an_identity_without_a_policy_is_told_no_more_than_a_wrong_password(self) -> None:
        self.authorizer.error = AccessDenied("alice is in no group of ours")
        self.client.init()
        reply = self.client.reply(username="alice", password=RIGHT_PASSWORD)
        self.assertEqual(reply.form.error, "Login failed.")
        self.assertEqual(self.failures(), ["alice is in no group of ours"])

    def test_a_directory_that_is_down_is_said_without_detail(self) -> None:
        self.authorizer.error = BackendFailed("ldap.example.com refuses")
        self.client.init()
        reply = self.client.reply(username="alice", password=RIGHT_PASSWORD)
        self.assertEqual((reply.status, reply.refusal), (200, UNAVAILABLE))
        self.assertEqual(reply.cookies, [(LOGIN_COOKIE, "")])
        self.assertEqual(self.failures(), [])

    def test_the_users_sessions_are_limited(self) -> None:
        self.authorizer.policy = replace(self.authorizer.policy, max_sessions_per_user=2)
        for _ in range(2):
            self.assertTrue(self.other_client().log_in().token)
        self.assertEqual(self.client.log_in().form.error, "Login failed.")
        self.assertEqual(self.failures(), ["alice has 2 sessions, which is the limit"])
        self.assertTrue(self.other_client().log_in("bob").token)


class PendingTests(LoginDeskCase):
    limits = Limits(pending_logins=5, pending_logins_per_address=3)

    def test_logins_of_one_address_are_limited(self) -> None:
        for _ in range(3):
            self.assertIsInstance(self.other_client().init().step, Form)
        reply = self.client.init()
        self.assertEqual(reply.refusal, "Too many logins are in progress. Please try again later.")
        self.assertIsInstance(self.other_client("198.51.100.1").init().step, Form)

    def test_all_logins_are_limited(self) -> None:
        others = [self.other_client(f"198.51.100.{number}") for number in range(5)]
        for other in others:
            other.init()
        self.assertIsInstance(self.client.init().step, Form)
        self.assertTrue(others[0].reply(username="alice", password=RIGHT_PASSWORD))
        self.assertLessEqual(len(self.desk), 7)

    def test_networks_of_one_host_are_one_address(self) -> None:
        for number in range(3):
            self.other_client(f"2001:db8::{number}").init()
        self.assertTrue(self.other_client("2001:db8::ffff").init().refusal)
        self.assertIsInstance(self.other_client("2001:db8:1::1").init().step, Form)

    def test_answers_that_nobody_waits_for_count_as_wrong_ones(self) -> None:
        waiting: list[Deferred[None]] = []

        async def slow(dialogue: IDialogue) -> Identity:
            await dialogue.ask(PASSWORD_FORM)
            waiting.append(Deferred())
            await waiting[-1]
            return Identity("alice")

        self.open_desk(script=slow)
        self.client.init()
        self.client.start(self.client.reply_message({"username": "alice", "password": "guess"}))
        self.client.init()
        self.assertEqual(self.failures(), ["the client did not wait for the verdict"])

    def test_a_login_that_ends_makes_room(self) -> None:
        clients = [self.other_client() for _ in range(3)]
        for client in clients:
            client.init()
        clients[0].reply(username="alice", password=RIGHT_PASSWORD)
        self.assertIsInstance(self.client.init().step, Form)
        self.assertTrue(self.other_client().init().refusal)

    def test_a_login_that_begins_anew_makes_room_for_itself(self) -> None:
        for _ in range(10):
            self.assertIsInstance(self.client.init().step, Form)

    def test_time_makes_room(self) -> None:
        for _ in range(3):
            self.other_client().init()
        self.clock.advance(240)
        self.assertIsInstance(self.client.init().step, Form)

    def test_finished_logins_take_no_more_room_than_pending_ones(self) -> None:
        for _ in range(50):
            self.client.init()
        self.assertLessEqual(len(self.desk), 2 * 5)
        self.clock.advance(30)
        self.assertEqual(len(self.desk), 1)

    def test_nothing_is_left_of_a_login_when_its_time_is_over(self) -> None:
        self.client.init()
        self.other_client().log_in()
        self.clock.advance(240)
        self.clock.advance(30)
        self.assertEqual(len(self.desk), 0)
        self.assertEqual(self.desk._pending, {})
        self.assertEqual(self.desk._server_names, {})
