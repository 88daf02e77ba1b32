"""Tests of the oidc authenticator with providers that are down, wrong or hostile."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from anyvpn.backends.authenticator_oidc import OIDCAuthenticator, Settings, build
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.model.authentication import BrowserVisit, Identity, Question
from anyvpn.model.browser_pages import BrowserKind, HTMLPage, LoggedIn, PageRequest, Redirect
from anyvpn.testing.authenticator_contract import AuthenticatorContract
from anyvpn.testing.dialogue import A_REQUEST, ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends.oidc_provider import CLIENT, KEY, NOW_S, OTHER_KEY, SECRET, FakeProvider

HANDLE = "0123456789abcdef"
REQUEST = replace(A_REQUEST, origin="https://vpn.example.com:8443")
Browser = Callable[[Question], Awaitable[Identity]]
Query = dict[str, str]


def encoded(content: bytes) -> str:
    """As tokens are made of it."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def there() -> PageRequest:
    return PageRequest("GET", "/sso/login", HANDLE, {"ctx": HANDLE})


def back(query: Query) -> PageRequest:
    return PageRequest("GET", "/sso/oidc", HANDLE, query)


class OIDCCase(TestCase):
    def setUp(self) -> None:
        self.now_s = float(NOW_S)
        self.provider = self.new_provider()

    def new_provider(self, *names: str) -> FakeProvider:
        provider = FakeProvider(*names)
        self.addCleanup(provider.port.stopListening)
        return provider

    def make(self, **changes: Any) -> OIDCAuthenticator:
        own: dict[str, Any] = {
            "issuer": self.provider.issuer,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "user_claim": "preferred_username",
            "ca_file": FakeProvider.ca_file(Path(self.mktemp())),
            "time_s": 10.0,
            **changes,
        }
        return build(Settings(**own), reactor, lambda: self.now_s)  # type: ignore[arg-type]

    def browser(
        self, user: str = "alice", change: Callable[[Query], Query] = lambda query: query
    ) -> Browser:
        """Goes to the provider and comes back, with another query if need be."""

        async def browse(step: Question) -> Identity:
            assert isinstance(step, BrowserVisit)
            self.step = step
            page = await step.serve(there())
            assert isinstance(page, Redirect)
            self.location = page.address
            self.query = change(self.provider.log_in(page.address, user))
            page = await step.serve(back(self.query))
            assert isinstance(page, LoggedIn)
            return page.identity

        return browse

    async def log_in(
        self,
        authenticator: OIDCAuthenticator | None = None,
        browser: Browser | None = None,
        **changes: Any,
    ) -> Identity:
        script = [browser or self.browser()]
        authenticator = authenticator or self.make(**changes)
        return await authenticator.authenticate(ScriptedDialogue(REQUEST, script))

    async def rejection(self, **changes: Any) -> str:
        return str(await error_of(self.log_in(**changes), LoginRejected))

    async def failure(self, **changes: Any) -> str:
        return str(await error_of(self.log_in(**changes), BackendFailed))

    async def refused_token(self, **claims: Any) -> str:
        """Why an ID token with these claims is not believed; None leaves one out."""
        self.provider.changes["claims"] = lambda each: {
            name: value for name, value in {**each, **claims}.items() if value is not None
        }
        said = await self.rejection()
        start = "the provider's ID token is not to be believed: it "
        assert said.startswith(start), said
        return said.removeprefix(start)


class ContractTests(AuthenticatorContract, OIDCCase):
    request = REQUEST

    def make_authenticator(self) -> OIDCAuthenticator:
        return self.make()

    def right_answers(self) -> tuple[Browser]:
        return (self.browser(),)

    def wrong_answers(self) -> tuple[Browser]:
        return (self.browser(change=lambda query: {**query, "code": "guess-work"}),)


class LoginTests(OIDCCase):
    async def test_the_browser_is_sent_as_the_protocol_says(self) -> None:
        await self.log_in()
        asked = dict(parse_qsl(urlsplit(self.location).query))
        assert self.location.startswith(f"{self.provider.issuer}/authorize?")
        assert len(asked.pop("nonce")) == len(asked.pop("code_challenge")) == 43
        assert asked == {
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": "https://vpn.example.com:8443/sso/oidc",
            "scope": "openid profile",
            "state": HANDLE,
            "code_challenge_method": "S256",
        }

    async def test_what_the_configuration_wants_is_asked_for(self) -> None:
        self.provider.changes["claims"] = lambda each: {**each, "auth_time": NOW_S, "acr": "gold"}
        authenticator = self.make(
            scopes=("openid", "groups"),
            prompt="login",
            max_age_s=0,
            acr_values=("gold", "silver"),
            browser="external",
        )
        known = Identity("alice")
        dialogue = ScriptedDialogue(REQUEST, [self.browser()], identity=known)
        assert await authenticator.authenticate(dialogue) == known
        asked = dict(parse_qsl(urlsplit(self.location).query))
        assert (asked["scope"], asked["acr_values"]) == ("openid groups", "gold silver")
        assert (asked["prompt"], asked["max_age"], asked["login_hint"]) == ("login", "0", "alice")
        assert self.step.browser is BrowserKind.EXTERNAL

    async def test_an_endpoint_may_have_a_query_of_its_own(self) -> None:
        self.provider.changes["description"] = lambda each: {
            **each,
            "authorization_endpoint": "https://login.example.com/x?policy=1",
        }
        await self.log_in()
        assert self.location.startswith("https://login.example.com/x?policy=1&response_type=code&")

    async def test_each_login_has_secrets_of_its_own(self) -> None:
        authenticator, seen = self.make(), set()
        for _ in range(3):
            await self.log_in(authenticator)
            asked = dict(parse_qsl(urlsplit(self.location).query))
            seen |= {asked["nonce"], asked["code_challenge"]}
        assert len(seen) == 6

    async def test_claims_become_the_identity(self) -> None:
        self.provider.changes["claims"] = lambda each: {
            **each,
            "realm": {"roles": ["staff", "über", 7, None, {"x": 1}, "a\nb", ""]},
            "https://example.com/site": "north",
            "level": 3,
            "vip": True,
            "nothing": [],
        }
        identity = await self.log_in(
            user_claim="sub",
            groups_claim="realm.roles",
            attributes=("https://example.com/site", "level", "vip", "nothing"),
        )
        assert identity.user == "sub-alice"
        assert identity.groups == {"staff", "über", "7"}
        assert identity.attributes == {
            "https://example.com/site": ("north",),
            "level": ("3",),
            "vip": ("true",),
        }

    async def test_what_the_token_does_not_say_the_provider_is_asked(self) -> None:
        identity = await self.log_in(groups_claim="team", attributes=("email",))
        assert (identity.user, identity.groups) == ("alice", {"staff", "admin"})
        assert identity.attributes == {"email": ("alice@example.com",)}
        assert self.provider.asked.count("/userinfo") == 1

    async def test_what_is_signed_counts_more(self) -> None:
        self.provider.changes["user"] = lambda each: {**each, "preferred_username": "root"}
        assert (await self.log_in(groups_claim="team")).user == "alice"

    async def test_a_token_that_says_it_all_is_enough(self) -> None:
        await self.log_in()
        assert "/userinfo" not in self.provider.asked

    async def test_without_a_place_to_ask_there_are_no_groups(self) -> None:
        self.provider.changes["description"] = lambda each: {**each, "userinfo_endpoint": ""}
        assert (await self.log_in(groups_claim="team")).groups == frozenset()


class ProofTests(OIDCCase):
    async def test_the_secret_is_shown_in_the_way_that_the_provider_takes(self) -> None:
        for supported, kind in (
            (["client_secret_post"], "post"),
            (["client_secret_post", "client_secret_basic"], "basic"),
            (["private_key_jwt"], "basic"),
            ("rubbish", "basic"),
            (None, "basic"),
        ):
            self.provider.changes["description"] = lambda each, supported=supported: {
                **{name: text for name, text in each.items() if "auth_methods" not in name},
                **({"token_endpoint_auth_methods_supported": supported} if supported else {}),
            }
            await self.log_in()
            assert self.provider.proofs[-1] == (kind, CLIENT), supported

    async def test_the_configuration_may_insist(self) -> None:
        for kind in ("post", "basic"):
            await self.log_in(client_authentication=kind)
            assert self.provider.proofs[-1] == (kind, CLIENT)

    async def test_it_may_stand_in_a_file(self) -> None:
        file = Path(self.mktemp())
        file.write_text(f"{SECRET}\nanother line\n")
        await self.log_in(client_secret="", client_secret_file=file)

    async def test_a_wrong_one_is_our_fault(self) -> None:
        said = await self.failure(client_secret="wrong")
        assert "HTTP status 401 invalid_client" in said
        assert "wrong" not in said

    async def test_a_public_client_has_none(self) -> None:
        assert "invalid_client" in await self.failure(client_secret="")
        assert self.provider.proofs == [("post", CLIENT)]


class WayBackTests(OIDCCase):
    async def come_back(self, **query: str | None) -> str:
        def changed(whole: Query) -> Query:
            return {k: v for k, v in {**whole, **query}.items() if v is not None}

        return await self.rejection(browser=self.browser(change=changed))

    async def test_who_answers_must_be_the_provider(self) -> None:
        said = await self.come_back(iss="https://evil.example.com")
        assert said == "the browser comes back from https://evil.example.com"

    async def test_a_provider_that_names_itself_always_does(self) -> None:
        assert await self.come_back(iss=None) == "the browser comes back from nowhere"

    async def test_another_may_leave_it_out(self) -> None:
        self.provider.changes["description"] = lambda each: {
            name: text for name, text in each.items() if "iss_parameter" not in name
        }
        browser = self.browser(change=lambda query: {**query, "iss": self.provider.issuer})
        assert await self.log_in(browser=browser)

        def without(query: Query) -> Query:
            del query["iss"]
            return query

        assert await self.log_in(browser=self.browser(change=without))

    async def test_what_the_provider_refuses_is_told(self) -> None:
        said = await self.come_back(error="access_denied", error_description="no\nway")
        assert said == "the provider lets the user not in: access_denied no way"

    async def test_a_provider_in_trouble_is_no_verdict(self) -> None:
        def changed(query: Query) -> Query:
            return {**query, "error": "temporarily_unavailable"}

        assert "cannot let anybody in" in await self.failure(browser=self.browser(change=changed))

    async def test_a_code_that_is_none(self) -> None:
        for code in (None, "", "c" * 8193):
            assert "without a code" in await self.come_back(code=code)
        said = await self.come_back(code="guess-work")
        assert said == "the provider does not take the code: invalid_grant: spent or foreign"
        assert "guess-work" not in said

    async def test_a_code_of_another_login(self) -> None:
        await self.log_in()
        stolen = self.provider.log_in(self.location)["code"]
        assert "does not take the code" in await self.come_back(code=stolen)

    async def test_coming_back_twice(self) -> None:
        async def twice(step: Question) -> Identity:
            identity = await self.browser()(step)
            with pytest.raises(LoginRejected, match="a second time"):
                await self.step.serve(back(self.query))
            return identity

        await self.log_in(browser=twice)
        assert self.provider.asked.count("/token") == 1

    async def test_other_paths_and_methods_have_no_page(self) -> None:
        async def wander(step: Question) -> Identity:
            assert isinstance(step, BrowserVisit)
            for method, path in (
                ("POST", "/sso/login"),
                ("POST", "/sso/oidc"),
                ("GET", "/sso/oidc/x"),
                ("GET", "/+CSCOE+/saml/sp/acs"),
            ):
                page = await step.serve(PageRequest(method, path, HANDLE))
                assert isinstance(page, HTMLPage)
                assert page.status == 404
            return await self.browser()(step)

        assert await self.log_in(browser=wander)

    async def test_a_client_that_has_a_token_of_its_own_is_rejected(self) -> None:
        dialogue = ScriptedDialogue(REQUEST, ["a token"])
        await error_of(self.make().authenticate(dialogue), LoginRejected)


class TokenTests(OIDCCase):
    async def test_who_has_issued_it(self) -> None:
        assert await self.refused_token(iss="https://evil.example.com") == (
            'is issued by "https://evil.example.com"'
        )
        assert await self.refused_token(iss=None) == "is issued by null"

    async def test_for_whom(self) -> None:
        assert await self.refused_token(aud="another") == 'is for "another"'
        assert await self.refused_token(aud=["another"]) == 'is for ["another"]'
        assert await self.refused_token(aud=None) == "is for null"
        several = "is for several, of whom"
        assert several in await self.refused_token(aud=[CLIENT, "another"])
        assert several in await self.refused_token(azp="another")
        self.provider.changes["claims"] = lambda each: {
            **each,
            "aud": [CLIENT, "another"],
            "azp": CLIENT,
        }
        assert await self.log_in()

    async def test_when(self) -> None:
        for wrong in (None, True, "1800000000", float(10**13), [NOW_S]):
            said = "does not say from when and until when it holds"
            assert await self.refused_token(exp=wrong) == said
            assert await self.refused_token(iat=wrong) == said
        assert await self.refused_token(exp=NOW_S - 60) == "has expired 60 s ago"
        assert await self.refused_token(iat=NOW_S + 61) == "holds only in 61 s"
        assert await self.refused_token(nbf=NOW_S + 61) == "holds only in 61 s"
        assert await self.refused_token(nbf="now") == "does not say from when it holds"
        for claims in ({"exp": NOW_S - 59}, {"iat": NOW_S + 60}, {"nbf": NOW_S + 60.0}):
            self.provider.changes["claims"] = lambda each, claims=claims: {**each, **claims}
            assert await self.log_in()

    async def test_of_which_login(self) -> None:
        for wrong in (None, "", "x" * 43, 7):
            assert await self.refused_token(nonce=wrong) == "is of another login (nonce)"

    async def test_about_whom(self) -> None:
        for wrong in (None, "", 7, "x" * 256):
            assert await self.refused_token(sub=wrong) == "does not say whom it is about"

    async def test_along_with_what(self) -> None:
        for wrong in ("", "x", 7):
            assert "another access token" in await self.refused_token(at_hash=wrong)
        self.provider.changes["claims"] = lambda each: {**each, "at_hash": None}
        assert await self.log_in()

    async def test_how_and_when_the_user_has_logged_in_there(self) -> None:
        said = await self.rejection(max_age_s=10)
        assert said.endswith("it does not say when the user has logged in there")
        self.provider.changes["claims"] = lambda each: {**each, "auth_time": NOW_S - 71}
        said = await self.rejection(max_age_s=10)
        assert said.endswith("the user has logged in there 71 s ago")
        said = await self.rejection(acr_values=("gold",))
        assert said.endswith("the user has logged in there in another way: null")


class SignatureTests(OIDCCase):
    async def believed(self) -> str:
        """What is said of the token."""
        return (await self.rejection()).partition("not to be believed: it")[2].strip()

    async def test_a_token_without_a_signature_is_none(self) -> None:
        self.provider.changes["header"] = lambda each: {"alg": "none"}
        assert await self.believed() == "s signature is of the kind none"

    async def test_the_public_key_is_no_secret_to_sign_with(self) -> None:
        secret = KEY.as_pem(private=False)
        head = encoded(b'{"alg":"HS256","kid":"first"}')

        def signed_with_it(answer: dict[str, str]) -> dict[str, str]:
            said = f"{head}.{answer['id_token'].split('.')[1]}"
            signature = encoded(hmac.digest(secret, said.encode(), "sha256"))
            return {**answer, "id_token": f"{said}.{signature}"}

        self.provider.changes["answer"] = signed_with_it
        assert await self.believed() == "s signature is of the kind HS256"
        key = {"kty": "oct", "kid": "first", "k": encoded(secret)}
        self.provider.changes["keys"] = lambda each: {"keys": [key]}
        assert await self.believed() == "s signature is of the kind HS256"

    async def test_a_secret_among_the_keys_signs_nothing(self) -> None:
        secret = {"kty": "oct", "kid": "first", "k": encoded(b"x" * 32)}
        self.provider.changes["keys"] = lambda each: {"keys": [secret]}
        assert await self.believed() == "is signed by no key of the provider"

    async def test_a_key_of_somebody_else_under_the_same_name(self) -> None:
        self.provider.signs_with = OTHER_KEY
        self.provider.changes["header"] = lambda each: {**each, "kid": "first"}
        assert await self.believed() == "is signed by no key of the provider"

    async def test_all_kinds_of_keys(self) -> None:
        for key, algorithms in (
            (KEY, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
            (ECKey.generate_key("P-256"), ("ES256",)),
            (ECKey.generate_key("P-384"), ("ES384",)),
            (ECKey.generate_key("P-521"), ("ES512",)),
            (OKPKey.generate_key("Ed25519"), ("EdDSA", "Ed25519")),
        ):
            for algorithm in algorithms:
                self.provider.keys = [OTHER_KEY, key]
                self.provider.signs_with = key
                self.provider.changes["header"] = lambda each, algorithm=algorithm: {
                    "alg": algorithm
                }
                self.provider.changes["claims"] = lambda each: {**each, "at_hash": None}
                assert await self.log_in(), algorithm

    async def test_the_configuration_may_take_fewer(self) -> None:
        assert "of the kind RS256" in await self.rejection(algorithms=("ES256",))

    async def test_keys_that_are_too_short_or_for_something_else_do_not_count(self) -> None:
        short = RSAKey.generate_key(1024, parameters={"kid": "first"})
        self.provider.keys, self.provider.signs_with = [short], short
        assert await self.believed() == "is signed by no key of the provider"
        for wrong in ({"use": "enc"}, {"alg": "RS512"}):
            self.provider.keys, self.provider.signs_with = [KEY], KEY
            self.provider.changes["keys"] = lambda each, wrong=wrong: {
                "keys": [{**each["keys"][0], **wrong}]
            }
            assert await self.believed() == "is signed by no key of the provider"

    async def test_rubbish_among_the_keys_is_passed_over(self) -> None:
        self.provider.changes["keys"] = lambda each: {
            "keys": [7, {}, {"kty": []}, {"kty": "RSA", "n": "", "e": ""}, *each["keys"]]
        }
        assert await self.log_in()

    async def test_what_is_no_token(self) -> None:
        for token in ("", "a.b.c", "x" * 100_000, "ä.ä.ä", "e30.e30.", "[" * 20_000):
            self.provider.changes["answer"] = lambda each, token=token: {**each, "id_token": token}
            assert await self.believed() in ("is not a signed token", "is too long")
        for header in ({"kid": 7}, {"crit": ["exp"], "exp": 1}):
            token = jws.serialize_compact({"alg": "RS256"}, b"[]", KEY)
            _, payload, signature = token.split(".")
            head = encoded(json.dumps({"alg": "RS256", **header}).encode())
            token = f"{head}.{payload}.{signature}"
            self.provider.changes["answer"] = lambda each, token=token: {**each, "id_token": token}
            assert "nobody here understands" in await self.believed()
        token = jws.serialize_compact({"alg": "RS256"}, b"[]", KEY)
        self.provider.changes["answer"] = lambda each: {**each, "id_token": token}
        assert await self.believed() == "says nothing that can be read"

    async def test_a_token_that_was_tampered_with(self) -> None:
        def tampered(answer: dict[str, str]) -> dict[str, str]:
            head, payload, signature = answer["id_token"].split(".")
            at = len(payload) // 2
            payload = payload[:at] + ("A" if payload[at] != "A" else "B") + payload[at + 1 :]
            return {**answer, "id_token": f"{head}.{payload}.{signature}"}

        self.provider.changes["answer"] = tampered
        assert await self.believed() == "is signed by no key of the provider"


class KeyTests(OIDCCase):
    async def test_keys_are_read_once_for_many_logins(self) -> None:
        authenticator = self.make()
        logins = [
            Deferred.fromCoroutine(self.log_in(authenticator, self.browser(user)))
            for user in ("alice", "bob", "carol", "dora")
        ]
        found = await gatherResults(logins)
        assert [each.user for each in found] == ["alice", "bob", "carol", "dora"]
        assert self.provider.asked.count("/keys") == 1
        assert self.provider.asked.count("/.well-known/openid-configuration") == 1

    async def test_a_new_key_is_found_but_not_looked_for_all_the_time(self) -> None:
        authenticator = self.make()
        await self.log_in(authenticator)
        self.provider.keys = [KEY, OTHER_KEY]
        self.provider.signs_with = OTHER_KEY
        for _ in range(3):
            await error_of(self.log_in(authenticator), LoginRejected)
        assert self.provider.asked.count("/keys") == 1
        self.now_s += 61
        assert await self.log_in(authenticator)
        assert self.provider.asked.count("/keys") == 2

    async def test_a_key_that_was_taken_back_is_forgotten(self) -> None:
        authenticator = self.make()
        await self.log_in(authenticator)
        self.provider.keys = [OTHER_KEY]
        self.now_s += 3601
        self.provider.changes["claims"] = lambda each: {**each, "exp": NOW_S + 7200}
        assert "no key" in str(await error_of(self.log_in(authenticator), LoginRejected))


class TroubleTests(OIDCCase):
    """What the log says; the user is told that the service is not available."""

    async def test_a_provider_that_is_not_there(self) -> None:
        await self.provider.port.stopListening()
        said = await self.failure()
        assert said.startswith("the identity provider is of no use: https://localhost:")
        assert "cannot be asked" in said

    async def test_silence(self) -> None:
        for path in ("/.well-known/openid-configuration", "/keys", "/token", "/userinfo"):
            self.provider.silent = {path}
            said = await self.failure(groups_claim="team", time_s=1.0)
            assert said.endswith(f"{path} did not answer within 1 s")

    async def test_nobody_waits_for_what_another_has_waited_for(self) -> None:
        self.provider.silent = {"/keys"}
        authenticator = self.make(time_s=0.5)
        logins = [
            Deferred.fromCoroutine(error_of(self.log_in(authenticator), BackendFailed))
            for _ in range(20)
        ]
        assert len({str(each) for each in await gatherResults(logins)}) == 1
        assert self.provider.asked.count("/keys") == 1
        self.provider.silent = set()
        assert await self.log_in(authenticator)

    async def test_a_certificate_of_somebody_else(self) -> None:
        self.provider = self.new_provider("elsewhere.example.com")
        assert "its certificate is for another name" in await self.failure()
        assert "cannot be trusted" in await self.failure(ca_file=None)

    async def test_statuses(self) -> None:
        for path, status in (
            ("/.well-known/openid-configuration", 302),
            ("/keys", 404),
            ("/token", 500),
            ("/userinfo", 403),
        ):
            self.provider.statuses = {path: status}
            said = await self.failure(groups_claim="team")
            assert f"{path} answers with HTTP status {status}" in said

    async def test_garbage(self) -> None:
        for what, path in (
            ("description", "/.well-known/openid-configuration"),
            ("keys", "/keys"),
            ("answer", "/token"),
            ("user", "/userinfo"),
        ):
            for garbage in (b"", b"<html>", b"[]", b'{"a": NaN}', b"\xff", b"[" * 100_000):
                self.provider.changes = {what: lambda _, garbage=garbage: garbage}
                said = await self.failure(groups_claim="team")
                assert f"{path} answers with what is no" in said, garbage[:10]
            self.provider.changes = {what: lambda _: bytes(300_000)}
            assert "too many bytes" in await self.failure(groups_claim="team")

    async def test_a_description_of_another_issuer(self) -> None:
        self.provider.changes["description"] = lambda each: {**each, "issuer": "https://evil\n"}
        said = await self.failure()
        assert said.endswith("is of the issuer https://evil, which is not the configured one")

    async def test_endpoints_that_are_not_safe(self) -> None:
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
            for address in (None, 7, "http://localhost/", "https://", "https://a b/", "https://[/"):
                self.provider.changes["description"] = lambda each, name=name, address=address: {
                    **each,
                    name: address,
                }
                assert f"names no https address as {name}" in await self.failure()

    async def test_keys_that_are_no_list(self) -> None:
        self.provider.changes["keys"] = lambda each: {"keys": {}}
        assert "it has no list of keys" in await self.failure()

    async def test_an_answer_without_a_token(self) -> None:
        for change, said in (
            ({"id_token": None}, "gives no ID token"),
            ({"access_token": 7}, "gives an access token that is none"),
            ({"access_token": "a\r\nb"}, "gives an access token that is none"),
            ({"access_token": "\udcff"}, "gives an access token that is none"),
        ):
            self.provider.changes["answer"] = lambda each, change=change: {**each, **change}
            assert said in await self.failure()

    async def test_user_information_about_somebody_else(self) -> None:
        for wrong in ("sub-bob", None, 7):
            self.provider.changes["user"] = lambda each, wrong=wrong: {**each, "sub": wrong}
            assert "about somebody else" in await self.rejection(groups_claim="team")

    async def test_what_is_no_name(self) -> None:
        for wrong in (None, "", 7, ["alice"], "x" * 257):
            self.provider.changes["claims"] = lambda each, wrong=wrong: {
                **each,
                "preferred_username": wrong,
            }
            assert "gives no name as preferred_username" in await self.rejection()
        self.provider.changes["claims"] = lambda each: {**each, "preferred_username": "a\nb\0"}
        assert await self.rejection() == "the provider gives what is no name: a b?"

    async def test_an_address_that_nobody_has_verified(self) -> None:
        self.provider.changes["user"] = lambda each: {**each, "email_verified": False}
        assert await self.rejection(user_claim="email") == (
            "the provider has not verified the address alice@example.com"
        )
        self.provider.changes["user"] = lambda each: {**each, "email_verified": True}
        assert (await self.log_in(user_claim="email")).user == "alice@example.com"

    async def test_a_browser_that_leaves_takes_the_question_with_it(self) -> None:
        """Trial complains about what is left."""
        self.provider.silent = {"/.well-known/openid-configuration"}
        logging_in = Deferred.fromCoroutine(self.log_in())
        logging_in.cancel()
        await self.assertFailure(logging_in, CancelledError)


class SettingsTests(OIDCCase):
    def test_what_cannot_work_is_said(self) -> None:
        for change, said in (
            ({"issuer": "http://login.example.com"}, "issuer must be an https address"),
            ({"issuer": "https://login.example.com/?x=1"}, "issuer must be an https address"),
            ({"issuer": "https://login.example.com/#x"}, "issuer must be an https address"),
            ({"client_id": ""}, "client_id must not be empty"),
            ({"user_claim": ""}, "user_claim must not be empty"),
            ({"client_secret_file": Path("x")}, "cannot both be set"),
            ({"scopes": ("profile",)}, 'scopes must have "openid"'),
            ({"algorithms": ("none",)}, "algorithms must be some of RS256"),
            ({"algorithms": ("HS256",)}, "algorithms must be some of RS256"),
            ({"algorithms": ()}, "algorithms must be some of RS256"),
            ({"max_age_s": -1}, "max_age_s must not be negative"),
            ({"clock_skew_s": 601.0}, "clock_skew_s must lie between 0 and 600"),
            ({"time_s": 0.0}, "time_s must be more than 0"),
        ):
            with pytest.raises(ValueError, match=said):
                self.make(**change)

    def test_files_that_cannot_be_used_are_said(self) -> None:
        empty = Path(self.mktemp())
        empty.write_text("\n")
        for file, said in ((empty, "has no secret"), (Path("missing"), "cannot be read")):
            with pytest.raises(ConfigurationError, match=f"client_secret_file .* {said}"):
                self.make(client_secret="", client_secret_file=file)
        with pytest.raises(ConfigurationError, match="ca_file missing cannot be read"):
            self.make(ca_file=Path("missing"))

    def test_the_secret_is_not_shown(self) -> None:
        own = Settings("https://login.example.com", CLIENT, "sub", client_secret=SECRET)
        assert SECRET not in repr(own)
