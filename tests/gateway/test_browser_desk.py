"""Logins in a browser: the pages of authenticators, and how the token comes home."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs, formatEvent

from anyvpn.backends.authenticator_chain import Chain
from anyvpn.errors import BackendFailed, LoginRejected
from anyvpn.gateway.browser_desk import ERROR_COOKIE, FINAL_PATH, MOST_REQUESTS, TOKEN_COOKIE
from anyvpn.gateway.settings import Limits, ProfileBinding
from anyvpn.interfaces import IDialogue
from anyvpn.model.authentication import (
    BrowserLogin,
    BrowserVisit,
    ClientDescription,
    ClientMessage,
    ClientMessageKind,
    GatewayMessage,
    Identity,
    LoginComplete,
    LoginStep,
)
from anyvpn.model.browser_pages import (
    BrowserKind,
    HTMLPage,
    LoggedIn,
    Page,
    PageRequest,
    Redirect,
)
from anyvpn.model.connection_profile import ConnectionProfile
from anyvpn.model.downloads import Download
from anyvpn.model.events import EventKind
from anyvpn.wire.authentication import read_gateway_message, write_client_message
from anyvpn.wire.browser_token import open_browser_token, public_der
from tests.gateway.backends_in_memory import RIGHT_PASSWORD, Scripted, ask_password, profile
from tests.gateway.gateway_in_memory import GatewayCase, VPNClient
from tests.gateway.memory_tls import HOST, HTTPAnswer, read_answers

EMBEDDED = "single-sign-on-v2"
EXTERNAL = "single-sign-on-external-browser"
BOTH = frozenset({EMBEDDED, EXTERNAL})
ORIGIN = f"https://{HOST}:4443"
PAGE = (Path(__file__).parents[2] / "docs/backends/write-your-own.md").read_text()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Serve = Callable[[PageRequest], Awaitable[Page]]


async def at_the_provider(request: PageRequest) -> Page:
    """Sends the browser away, and knows who it is when it comes back."""
    if request.path == "/sso/login":
        return Redirect(f"https://idp.example.com/?state={request.handle}")
    if request.query.get("user") == "mallory":
        raise LoginRejected("mallory may not come in")
    return LoggedIn(Identity(request.query["user"], frozenset({"sso"})))


class Browsing:
    """A client with its browser."""

    def __init__(
        self, case: BrowserCase, capabilities: frozenset[str] = frozenset({EMBEDDED}), key: str = ""
    ) -> None:
        self.case = case
        self.exchange_key = ec.generate_private_key(ec.SECP256R1())
        self.vpn = case.client()
        self.headers = {"Host": f"{HOST}:4443"}
        if EXTERNAL in capabilities:
            given = key or base64.b64encode(public_der(self.exchange_key)).decode()
            self.headers["X-AnyConnect-STRAP-DH-Pubkey"] = given
        self.description = ClientDescription("openconnect", capabilities=capabilities)
        self.answer: HTTPAnswer | None = None
        self.login_step: LoginStep | None = None

    def begin(self) -> BrowserLogin:
        """The client's first POST; gives where its browser is to go."""
        message = self.post(ClientMessage(ClientMessageKind.INIT, client=self.description))
        return self.asked(message)

    def asked(self, message: GatewayMessage | None) -> BrowserLogin:
        assert isinstance(message, LoginStep), message
        assert isinstance(message.step, BrowserLogin), message
        self.login_step = message
        return message.step

    def post(self, message: ClientMessage) -> GatewayMessage | None:
        """None without a document."""
        body = write_client_message(message)
        self.answer = self.vpn.request("POST", "/", self.headers, body)
        return read_gateway_message(self.answer.body) if self.answer.body else None

    def bring(self, token: str) -> GatewayMessage | None:
        """The client's answer: what the browser brought."""
        assert self.login_step is not None
        return self.post(
            ClientMessage(
                ClientMessageKind.REPLY,
                client=self.description,
                opaque=self.login_step.opaque,
                answers={"sso-token": token},
            )
        )

    def get(self, url: str, browser: VPNClient | None = None, **headers: str) -> HTTPAnswer:
        """The browser opens this, from an address of its own."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return (browser or self.case.client("198.51.100.9")).request("GET", target, headers)

    def come_back(self, step: BrowserLogin, user: str = "alice") -> HTTPAnswer:
        """Follow the login to the identity provider and back."""
        handle = self.handle(step)
        assert self.get(step.login_url).first("Location").endswith(handle)
        return self.get(f"{ORIGIN}/sso/back?user={user}&state={handle}")

    @staticmethod
    def handle(step: BrowserLogin) -> str:
        return parse_qs(urlsplit(step.login_url).query)["ctx"][0]

    def unsealed(self, page: HTTPAnswer) -> str:
        """The token in the page that leads to the client's own."""
        address = re.search(r'url=([^"]+)"', page.body.decode())
        assert address is not None, page.body
        path, _, query = html.unescape(address[1]).partition("?")
        assert query == f"return={quote(ORIGIN + FINAL_PATH, safe='')}"
        blob = path.removeprefix("http://localhost:29786/api/sso/")
        return open_browser_token(unquote(blob), self.exchange_key)


def cookies(answer: HTTPAnswer) -> dict[str, str]:
    """What the browser keeps."""
    pairs = (each.partition(";")[0].partition("=") for each in answer.all("Set-Cookie"))
    return {name: value for name, _, value in pairs}


class BrowserCase(GatewayCase):
    browser = BrowserKind.AUTO

    def setUp(self) -> None:
        self.serve: Serve = at_the_provider

        async def authenticate(dialogue: IDialogue) -> Identity:
            self.dialogue = dialogue
            found = await dialogue.ask(BrowserVisit(lambda each: self.serve(each), self.browser))
            assert isinstance(found, Identity)
            return found

        self.profiles = (profile("Staff", script=authenticate),)
        super().setUp()

    def assert_shut(self, answer: HTTPAnswer) -> None:
        """What browsers are told not to do with a page."""
        self.assertEqual(answer.first("Cache-Control"), "no-store")
        self.assertEqual(answer.first("Referrer-Policy"), "no-referrer")
        self.assertEqual(answer.first("X-Content-Type-Options"), "nosniff")
        self.assertEqual(answer.first("X-Frame-Options"), "DENY")
        self.assertIn("default-src 'none'", answer.first("Content-Security-Policy"))

    @property
    def visits(self) -> int:
        return len(self.gateway._logins.browsers)

    @property
    def logged_in(self) -> list[str]:
        return [each.user for each in self.listener.of(EventKind.LOGIN_SUCCEEDED)]

    def failures(self) -> list[str]:
        return self.details(EventKind.LOGIN_FAILED)


class EmbeddedTests(BrowserCase):
    def test_the_cookie_brings_the_token_home(self) -> None:
        client = Browsing(self)
        step = client.begin()
        self.assertEqual((step.external, step.final_url), (False, ORIGIN + FINAL_PATH))
        back = client.come_back(step)
        self.assertEqual((back.status, back.first("Location")), (302, step.final_url))
        self.assertRegex(
            back.first("Set-Cookie"), r"\AacSamlv2Token=[0-9a-f]{64}; path=/; Secure\Z"
        )
        self.assert_shut(back)
        final = client.get(step.final_url)
        self.assertEqual(final.status, 200)
        self.assertIn(b"You are logged in", final.body)
        self.assertEqual(self.logged_in, [])
        self.assertIsInstance(client.bring(cookies(back)[TOKEN_COOKIE]), LoginComplete)
        self.assertEqual(self.logged_in, ["alice"])
        self.assertEqual(self.visits, 0)

    def test_what_it_still_has_of_the_last_login_goes_first(self) -> None:
        client = Browsing(self)
        first = client.get(client.begin().login_url)
        self.assertEqual(cookies(first), {TOKEN_COOKIE: "", ERROR_COOKIE: ""})

    def test_a_failure_is_another_cookie(self) -> None:
        client = Browsing(self)
        step = client.begin()
        back = client.come_back(step, "mallory")
        self.assertEqual((back.status, back.first("Location")), (302, step.final_url))
        self.assertEqual(cookies(back), {ERROR_COOKIE: "login-failed"})
        final = client.get(step.final_url, Cookie=f"{ERROR_COOKIE}=login-failed")
        self.assertIn(b"The login has failed", final.body)
        self.assertEqual(self.failures(), ["mallory may not come in"])

    def test_another_token_lets_nobody_in(self) -> None:
        for token in ("", "0" * 64, "ä" * 64):
            client = Browsing(self)
            client.come_back(client.begin())
            again = client.asked(client.bring(token))
            self.assertEqual(again.error, "Login failed.")
        self.assertEqual(self.logged_in, [])
        self.assertIn("the token is not the one that the browser was given", self.failures())

    def test_the_client_cannot_be_before_its_browser(self) -> None:
        client = Browsing(self)
        client.begin()
        client.asked(client.bring("0" * 64))
        self.assertEqual(self.failures(), ["nobody has logged in with the browser"])

    def test_a_token_is_good_for_its_own_login_only(self) -> None:
        mine, theirs = Browsing(self), Browsing(self)
        token = cookies(mine.come_back(mine.begin()))[TOKEN_COOKIE]
        theirs.come_back(theirs.begin(), "bob")
        theirs.asked(theirs.bring(token))
        self.assertIsInstance(mine.bring(token), LoginComplete)


class ExternalTests(BrowserCase):
    def test_a_page_brings_the_sealed_token_home(self) -> None:
        client = Browsing(self, BOTH)
        step = client.begin()
        self.assertTrue(step.external)
        back = client.come_back(step)
        self.assertEqual((back.status, cookies(back)), (200, {}))
        self.assert_shut(back)
        self.assertIsInstance(client.bring(client.unsealed(back)), LoginComplete)

    def test_a_failure_comes_home_as_well_and_the_client_is_asked_again(self) -> None:
        client = Browsing(self, BOTH)
        back = client.come_back(client.begin(), "mallory")
        self.assertIn(b"The login has failed", back.body)
        again = client.asked(client.bring(client.unsealed(back)))
        self.assertEqual(again.error, "Login failed.")
        self.assertEqual(self.failures(), ["mallory may not come in"])
        back = client.come_back(again)
        self.assertIsInstance(client.bring(client.unsealed(back)), LoginComplete)

    def test_the_final_page_knows_of_a_failure_and_not_of_an_older_one(self) -> None:
        client = Browsing(self, BOTH)
        failed = cookies(client.come_back(client.begin(), "mallory"))
        self.assertEqual(failed, {ERROR_COOKIE: "login-failed"})
        cookie = f"{ERROR_COOKIE}=login-failed"
        self.assertIn(b"has failed", client.get(ORIGIN + FINAL_PATH, Cookie=cookie).body)
        first = client.get(Browsing(self, BOTH).begin().login_url, Cookie=cookie)
        self.assertEqual(cookies(first)[ERROR_COOKIE], "")

    def test_without_a_key_the_embedded_one_is_left(self) -> None:
        for key in ("bm8ga2V5", "!", " "):
            self.assertFalse(Browsing(self, BOTH, key).begin().external)


class ChoiceTests(BrowserCase):
    def refused(self, capabilities: frozenset[str], key: str = "") -> str:
        """Why such a client is denied."""
        client = Browsing(self, capabilities, key)
        client.post(ClientMessage(ClientMessageKind.INIT, client=client.description))
        assert client.answer is not None
        self.assertEqual(client.answer.status, 401)
        return self.failures()[-1]

    def test_a_client_without_a_browser_is_denied(self) -> None:
        self.assertEqual(
            self.refused(frozenset()),
            "the client cannot log in with a browser: it announces nothing",
        )
        self.assertEqual(
            self.refused(frozenset({"multiple-cert"})),
            "the client cannot log in with a browser: it announces multiple-cert",
        )

    def test_one_that_announces_more_than_it_shows(self) -> None:
        self.assertEqual(
            self.refused(frozenset({EXTERNAL}), "bm8ga2V5"),
            "the client cannot log in with a browser: it sends no key that its token could be "
            "sealed for",
        )

    def test_the_configuration_may_want_one_of_them(self) -> None:
        self.browser = BrowserKind.EMBEDDED
        self.assertFalse(Browsing(self, BOTH).begin().external)
        self.assertIn("an embedded browser", self.refused(frozenset({EXTERNAL})))
        self.browser = BrowserKind.EXTERNAL
        self.assertTrue(Browsing(self, BOTH).begin().external)
        self.assertEqual(
            self.refused(frozenset({EMBEDDED})),
            "the client cannot log in with an external browser: it announces single-sign-on-v2",
        )


class AddressTests(BrowserCase):
    def test_pages_are_where_the_client_has_found_us(self) -> None:
        for host, origin in (
            ("vpn.example.com", "https://vpn.example.com"),
            ("vpn.example.com:443", "https://vpn.example.com"),
            ("VPN.example.com:8443", "https://VPN.example.com:8443"),
            ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ):
            client = Browsing(self)
            client.headers["Host"] = host
            step = client.begin()
            self.assertEqual(step.final_url, origin + FINAL_PATH)
            self.assertTrue(step.login_url.startswith(f"{origin}/sso/login?ctx="))
            self.assertEqual(self.dialogue.request.origin, origin)

    def test_a_host_that_is_none_makes_no_address(self) -> None:
        for host in ("", "vpn@example.com", "vpn.example.com/x", 'vpn"', "vpn:", "[::1", "vpn:1:2"):
            client = Browsing(self)
            client.headers["Host"] = host
            client.post(ClientMessage(ClientMessageKind.INIT, client=client.description))
            self.assertIn("does not say at which host", self.failures()[-1], host)


class PageTests(BrowserCase):
    def test_pages_get_query_and_form(self) -> None:
        seen: list[PageRequest] = []

        async def serve(request: PageRequest) -> Page:
            seen.append(request)
            return HTMLPage("<p>ä</p>", 400)

        self.serve = serve
        client = Browsing(self)
        handle = client.handle(client.begin())
        path = "/+CSCOE+/saml/sp/acs?tgname=Staff"
        body = f"SAMLResponse=PHg%2B%0D%0A&RelayState={handle}".encode()
        answer = self.client().request("POST", path, FORM, body)
        self.assertEqual((answer.status, answer.body), (400, "<p>ä</p>".encode()))
        self.assertEqual(answer.first("Content-Type"), "text/html; charset=utf-8")
        self.assert_shut(answer)
        form = {"SAMLResponse": "PHg+\r\n", "RelayState": handle}
        expected = PageRequest("POST", path.partition("?")[0], handle, {"tgname": "Staff"}, form)
        self.assertEqual(seen, [expected])
        self.assertNotIn(handle, repr(seen))

    def test_a_long_code_gets_through(self) -> None:
        client = Browsing(self)
        handle = client.handle(client.begin())
        answer = client.get(f"{ORIGIN}/sso/back?user=alice&code={'c' * 12_000}&state={handle}")
        self.assertIn(TOKEN_COOKIE, cookies(answer))

    def test_what_is_no_page_request_is_refused(self) -> None:
        client = Browsing(self)
        handle = client.handle(client.begin())
        for method, target, headers, body in (
            ("GET", f"/sso/back?state={handle}&user=a&user=b", {}, b""),
            ("GET", f"/sso/back?state={handle}&x=%ff", {}, b""),
            ("GET", f"/sso/back?state={handle}" + "&a=" * 64, {}, b""),
            ("POST", f"/sso/back?state={handle}", {"Content-Type": "text/xml"}, b"<a/>"),
            ("POST", f"/sso/back?state={handle}", FORM, b"\xff"),
        ):
            self.assertEqual(self.client().request(method, target, headers, body).status, 400)
        self.assertEqual(self.client().request("HEAD", f"/sso/back?state={handle}").status, 405)
        self.assertNotIn(handle, " ".join(self.details(EventKind.REQUEST_REFUSED)))
        self.assertEqual(self.visits, 1)

    def test_a_login_that_is_not_there_is_said_to_be_over(self) -> None:
        for target in ("/sso/login", "/sso/login?ctx=", "/sso/x?state=" + "0" * 32, "/sso/"):
            answer = self.client().get(target)
            self.assertEqual(answer.status, 404, target)
            self.assertIn(b"This login is over", answer.body)
            self.assert_shut(answer)

    def test_when_somebody_has_logged_in_nothing_is_served_any_more(self) -> None:
        client = Browsing(self)
        step = client.begin()
        client.come_back(step)
        for url in (step.login_url, f"{ORIGIN}/sso/back?user=bob&state={client.handle(step)}"):
            self.assertEqual(client.get(url).status, 404)

    def test_after_a_failure_neither(self) -> None:
        client = Browsing(self)
        step = client.begin()
        client.come_back(step, "mallory")
        self.assertEqual(client.get(step.login_url).status, 404)

    def test_a_visit_is_bounded(self) -> None:
        client = Browsing(self)
        step = client.begin()
        for _ in range(MOST_REQUESTS):
            self.assertIn("idp.example.com", client.get(step.login_url).first("Location"))
        self.assertEqual(client.get(step.login_url).first("Location"), step.final_url)
        self.assertEqual(self.failures(), ["the browser asks for more than 32 pages"])

    def test_a_visit_ends_with_its_login(self) -> None:
        client = Browsing(self)
        step = client.begin()
        self.assertEqual(self.visits, 1)
        self.clock.advance(self.limits.login_time_s)
        self.assertEqual(self.visits, 0)
        self.assertEqual(client.get(step.login_url).status, 404)

    def test_a_client_that_begins_again_leaves_none_behind(self) -> None:
        client = Browsing(self)
        step = client.begin()
        client.begin()
        self.assertEqual(self.visits, 2)
        client.headers["Cookie"] = "webvpncontext=" + self.handle_of(client)
        client.begin()
        self.assertEqual(self.visits, 2)
        self.assertTrue(client.get(step.login_url).first("Location"))

    @staticmethod
    def handle_of(client: Browsing) -> str:
        assert client.login_step is not None
        assert client.login_step.opaque is not None
        return client.login_step.opaque.handle


class DocumentTests(BrowserCase):
    documents: ClassVar = {"/sso/metadata": Download("application/xml", b"<metadata/>")}

    def test_what_authenticators_publish_is_for_everybody(self) -> None:
        for target in ("/sso/metadata", "/sso/metadata?x=y"):
            answer = self.client().request("GET", target)
            self.assertEqual((answer.status, answer.body), (200, b"<metadata/>"))
            self.assertEqual(answer.first("Content-Type"), "application/xml")
            self.assert_shut(answer)
        answer = self.client().request("HEAD", "/sso/metadata")
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_it_is_there_to_read_and_nothing_else(self) -> None:
        self.assertEqual(self.client().request("PUT", "/sso/metadata").status, 405)
        self.assertEqual(self.client().get("/sso/metadata/more").status, 404)
        answer = self.client().request("POST", "/sso/metadata", FORM, b"x=y")
        self.assertIn(b"This login is over", answer.body)


class ShutOutTests(BrowserCase):
    limits = Limits(failures_before_ban=1)

    def test_who_is_shut_out_gets_no_page(self) -> None:
        client = Browsing(self)
        step = client.begin()
        self.assertEqual(client.get(step.login_url, self.client()).status, 302)
        other = Browsing(self)
        other.begin()
        other.bring("0" * 64)
        answer = client.get(step.login_url, self.client())
        self.assertEqual(answer.status, 403)
        self.assert_shut(answer)


class TroubleTests(BrowserCase):
    def trouble(self, serve: Serve) -> GatewayMessage | None:
        """What the client is told when its browser has come home."""
        self.serve = serve
        client = Browsing(self, BOTH)
        back = client.get(client.begin().login_url)
        self.assertIn(b"The login has failed", back.body)
        self.assertNotIn(b"kaputt", back.body)
        self.assertEqual(self.visits, 0)
        return client.bring(client.unsealed(back))

    def test_a_backend_that_failed(self) -> None:
        async def serve(request: PageRequest) -> Page:
            raise BackendFailed("the provider is kaputt")

        with capturedLogs() as logged:
            message = self.trouble(serve)
        self.assertIn("not available", str(message))
        self.assertIn("kaputt", " ".join(str(formatEvent(each)) for each in logged))

    def test_our_own_faults(self) -> None:
        async def raise_it(request: PageRequest) -> Page:
            raise ZeroDivisionError("kaputt")

        async def give_nothing(request: PageRequest) -> Page:
            return None  # type: ignore[return-value]

        async def give_nobody(request: PageRequest) -> Page:
            return LoggedIn("alice")  # type: ignore[arg-type]

        async def lead_astray(request: PageRequest) -> Page:
            return Redirect("http://kaputt.example.com/")

        def await_nothing(request: PageRequest) -> Page:
            return HTMLPage("kaputt")

        for serve in (raise_it, give_nothing, give_nobody, lead_astray, await_nothing):
            self.assertIn("not available", str(self.trouble(serve)))  # type: ignore[arg-type]
            self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(self.logged_in, [])


class SlowPageTests(BrowserCase):
    def setUp(self) -> None:
        super().setUp()
        self.answers: list[Deferred[Page]] = []
        self.cancelled = 0

        async def serve(request: PageRequest) -> Page:
            self.answers.append(Deferred())
            try:
                return await self.answers[-1]
            except CancelledError:
                self.cancelled += 1
                raise

        self.serve = serve
        self.vpn = Browsing(self)
        self.step = self.vpn.begin()
        self.window = self.client("198.51.100.9")
        self.window.send_request("GET", self.step.login_url.removeprefix(ORIGIN))

    def test_one_request_at_a_time(self) -> None:
        self.assertEqual(self.vpn.get(self.step.login_url).status, 409)
        self.assertEqual(len(self.answers), 1)
        self.answers[0].callback(LoggedIn(Identity("alice")))
        self.pump()
        (back,) = read_answers(self.window.tls.take())
        self.assertIsInstance(self.vpn.bring(cookies(back)[TOKEN_COOKIE]), LoginComplete)

    def test_a_browser_that_leaves_may_come_back(self) -> None:
        self.window.vanish()
        self.assertEqual((self.cancelled, self.visits), (1, 1))
        self.serve = at_the_provider
        self.assertEqual(self.vpn.get(self.step.login_url).status, 302)
        self.assertEqual(self.failures(), [])

    def test_what_a_page_makes_of_its_end_harms_no_later_step(self) -> None:
        async def serve(request: PageRequest) -> Page:
            try:
                return await Deferred()
            except CancelledError:
                raise LoginRejected("late") from None

        self.serve = serve
        client = Browsing(self)
        step = client.begin()
        window = self.client("198.51.100.9")
        window.send_request("GET", step.login_url.removeprefix(ORIGIN))
        client.asked(client.bring("0" * 64))
        self.pump()
        (answer,) = read_answers(window.tls.take())
        self.assertEqual((answer.status, self.visits), (404, 2))
        self.assertEqual(self.failures(), ["nobody has logged in with the browser"])

    def test_when_the_time_is_up_the_browser_is_told(self) -> None:
        self.clock.advance(self.limits.login_time_s)
        self.pump()
        (answer,) = read_answers(self.window.tls.take())
        self.assertEqual((answer.status, self.cancelled, self.visits), (404, 1, 0))


class DocumentedTests(BrowserCase):
    """The example of the page on backends of one's own, as it stands there."""

    def setUp(self) -> None:
        (example,) = re.findall(r"```python\n((?:(?!```).)*BrowserVisit.*?)```", PAGE, re.DOTALL)
        names: dict[str, Any] = {}
        exec(compile(example, "write-your-own.md", "exec"), names)
        super().setUp()
        self.stop_gateway()
        authenticator = names["AtTheProvider"](SomeProvider())
        binding = ConnectionProfile("Staff", "Staff", (), True)
        self.profiles = (ProfileBinding(binding, authenticator),)
        self.open_gateway()

    def test_its_user_gets_in(self) -> None:
        client = Browsing(self)
        step = client.begin()
        away = client.get(step.login_url).first("Location")
        query = parse_qs(urlsplit(away).query)
        self.assertEqual(query["back"], [f"{ORIGIN}/sso/provider"])
        back = client.get(f"{query['back'][0]}?code=good&state={query['state'][0]}")
        self.assertIsInstance(client.bring(cookies(back)[TOKEN_COOKIE]), LoginComplete)
        self.assertEqual(self.logged_in, ["alice"])

    def test_a_code_that_the_provider_does_not_know_is_refused(self) -> None:
        client = Browsing(self)
        handle = client.handle(client.begin())
        client.get(f"{ORIGIN}/sso/provider?state={handle}")
        self.assertEqual(self.failures(), ["the provider does not know the code"])


class SomeProvider:
    """What the example calls."""

    def login_url(self, state: str, back: str) -> str:
        return "https://idp.example.com/?" + urlencode({"state": state, "back": back})

    async def redeem(self, code: str) -> str | None:
        return "alice" if code == "good" else None


class ChainTests(GatewayCase):
    def setUp(self) -> None:
        async def browse(dialogue: IDialogue) -> Identity:
            found = await dialogue.ask(BrowserVisit(at_the_provider))
            assert isinstance(found, Identity)
            return found

        chain = Chain((Scripted(ask_password), Scripted(browse)))
        self.profiles = (ProfileBinding(ConnectionProfile("Both", "Both", (), True), chain),)
        super().setUp()

    def test_a_password_and_then_the_browser(self) -> None:
        client = Browsing(self)  # type: ignore[arg-type]
        first = client.post(ClientMessage(ClientMessageKind.INIT, client=client.description))
        assert isinstance(first, LoginStep)
        answers = {"username": "alice", "password": RIGHT_PASSWORD}
        step = client.asked(
            client.post(
                ClientMessage(ClientMessageKind.REPLY, opaque=first.opaque, answers=answers)
            )
        )
        token = cookies(client.come_back(step))[TOKEN_COOKIE]
        self.assertIsInstance(client.bring(token), LoginComplete)
