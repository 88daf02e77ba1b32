"""The saml authenticator: a browser sent away and back, answers used once, settings."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from anyvpn.backends.authenticator_saml import ACS_PATH, SAMLAuthenticator, Settings, build
from anyvpn.errors import BackendFailed, ConfigurationError, LoginRejected
from anyvpn.interfaces import IAuthenticator, IPublisher
from anyvpn.model.authentication import Answer, BrowserVisit, Identity, Question
from anyvpn.model.browser_pages import BrowserKind, HTMLPage, LoggedIn, PageRequest, Redirect
from anyvpn.testing.authenticator_contract import PublishingAuthenticatorContract
from anyvpn.testing.dialogue import Script, ScriptedDialogue
from anyvpn.testing.outcomes import error_of
from tests.backends import saml_answers as saml
from tests.backends.saml_answers import (
    Draft,
    answer,
    encoded,
    metadata,
    moment,
    private_key,
    provider,
)

HANDLE = "0123456789abcdef"
BEGIN = PageRequest("GET", "/sso/login", HANDLE)

Brought = Callable[[str], str]
"""What the browser brings for a request: identifier to document."""


def request_in(page: object) -> tuple[etree._Element, dict[str, list[str]]]:
    """The request that a redirect carries, and all of its parameters."""
    assert isinstance(page, Redirect), page
    sent = parse_qs(urlsplit(page.address).query)
    return etree.fromstring(zlib.decompress(base64.b64decode(sent["SAMLRequest"][0]), -15)), sent


def come_back(text: str) -> PageRequest:
    form = {"SAMLResponse": text, "RelayState": HANDLE}
    return PageRequest("POST", ACS_PATH, HANDLE, form=form)


def browser(brought: Brought) -> Callable[[Question], Awaitable[Answer]]:
    """Goes to the identity provider and brings its answer back."""

    async def go(step: Question) -> Answer:
        assert isinstance(step, BrowserVisit)
        request, _ = request_in(await step.serve(BEGIN))
        page = await step.serve(come_back(encoded(brought(request.get("ID", "")))))
        assert isinstance(page, LoggedIn)
        return page.identity

    return go


def says(draft: Draft | None = None) -> Brought:
    return lambda identifier: answer(replace(draft or Draft(), request_id=identifier))


class SAMLCase(TestCase):
    def setUp(self) -> None:
        self.now_s = saml.NOW_S
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.metadata = self.directory / "idp.xml"
        self.metadata.write_text(metadata(provider()))

    def make(self, **changes: Any) -> SAMLAuthenticator:
        settings = Settings(self.metadata, saml.ORIGIN, **changes)
        made = build(settings, reactor, lambda: self.now_s)  # type: ignore[arg-type]
        self.addCleanup(made.close)
        return made

    def keys(self) -> dict[str, Path]:
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        key.write_bytes(private_key(provider("own")))
        certificate.write_bytes(provider("own").certificate.public_bytes(Encoding.PEM))
        return {"signing_key": key, "signing_certificate": certificate}

    async def login(self, brought: Brought, **changes: Any) -> Identity:
        dialogue = ScriptedDialogue(answers=(browser(brought),))
        return await self.make(**changes).authenticate(dialogue)

    async def rejection(self, brought: Brought, **changes: Any) -> str:
        return str(await error_of(self.login(brought, **changes), LoginRejected))


class ContractTests(PublishingAuthenticatorContract, SAMLCase):
    def make_authenticator(self) -> IAuthenticator:
        return self.make()

    def right_answers(self) -> tuple[Script, ...]:
        return (browser(says()),)

    def wrong_answers(self) -> tuple[Script, ...]:
        return (browser(lambda _: answer()),)


class RequestTests(SAMLCase):
    async def begun(self, **changes: Any) -> tuple[BrowserVisit, Redirect]:
        dialogue = ScriptedDialogue()
        authenticator = self.make(**changes)
        await error_of(authenticator.authenticate(dialogue), Exception)
        [step] = dialogue.asked
        assert isinstance(step, BrowserVisit)
        page = await step.serve(BEGIN)
        assert isinstance(page, Redirect)
        return step, page

    async def test_the_browser_is_sent_away_with_a_request(self) -> None:
        step, page = await self.begun()
        assert step.browser is BrowserKind.AUTO
        assert page.address.startswith(f"{saml.LOGIN_URL}&SAMLRequest=")
        request, sent = request_in(page)
        assert sent["RelayState"] == [HANDLE]
        assert "Signature" not in sent
        assert request.get("AssertionConsumerServiceURL") == saml.RECIPIENT
        assert request.get("Destination") == saml.LOGIN_URL
        assert request.get("ForceAuthn") is None
        assert request.findtext("{*}Issuer") == saml.AUDIENCE
        assert request.find("{*}NameIDPolicy") is None

    async def test_what_the_operator_wants_is_asked_for(self) -> None:
        kind = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
        step, page = await self.begun(
            force_authn=True, name_id_format=kind, entity_id="urn:vpn", browser="external"
        )
        assert step.browser is BrowserKind.EXTERNAL
        request, _ = request_in(page)
        assert request.get("ForceAuthn") == "true"
        assert request.findtext("{*}Issuer") == "urn:vpn"
        policy = request.find("{*}NameIDPolicy")
        assert policy is not None
        assert policy.get("Format") == kind

    async def test_requests_are_signed_with_the_operator_s_key(self) -> None:
        _, page = await self.begun(**self.keys())
        signed, _, signature = urlsplit(page.address).query.rpartition("&Signature=")
        _, sent = request_in(page)
        assert sent["SigAlg"] == [saml.RSA_SHA256]
        key = provider("own").certificate.public_key()
        assert isinstance(key, RSAPublicKey)
        content = signed[signed.index("SAMLRequest=") :].encode("ascii")
        key.verify(base64.b64decode(sent["Signature"][0]), content, PKCS1v15(), SHA256())
        assert signature

    async def test_each_request_has_a_name_of_its_own_and_the_newest_counts(self) -> None:
        step, first = await self.begun()
        old, _ = request_in(first)
        new, _ = request_in(await step.serve(BEGIN))
        assert old.get("ID") != new.get("ID")
        text = encoded(answer(Draft(request_id=str(old.get("ID")))))
        error = await error_of(step.serve(come_back(text)), LoginRejected)
        assert "the answer is to the request" in str(error)

    async def test_nothing_else_is_served(self) -> None:
        step, _ = await self.begun()
        for method, path in (("GET", ACS_PATH), ("POST", "/sso/login"), ("POST", "/sso/acs")):
            page = await step.serve(PageRequest(method, path, HANDLE))
            assert isinstance(page, HTMLPage)
            assert page.status == 404


class IdentityTests(SAMLCase):
    ALICE = Draft(
        "a1b2",
        {"uid": ["alice"], "groups": ["staff", "vpn"], "mail": ["a@x.test", "b@x.test"]},
        session=f'SessionNotOnOrAfter="{moment(3600)}"',
    )

    async def test_the_name_id_is_the_user_and_wanted_attributes_are_kept(self) -> None:
        found = await self.login(says(self.ALICE), attributes=("mail", "urn:mail", "none"))
        assert (found.user, found.groups) == ("a1b2", frozenset())
        assert found.attributes["mail"] == ("a@x.test", "b@x.test") == found.attributes["urn:mail"]
        assert found.attributes["SAML-Session-Timeout"] == ("3600",)

    async def test_user_and_groups_are_those_of_attributes(self) -> None:
        found = await self.login(
            says(self.ALICE),
            user_attribute="uid",
            groups_attribute="urn:groups",
        )
        assert (found.user, found.groups) == ("alice", {"staff", "vpn"})
        assert set(found.attributes) == {"SAML-Session-Timeout"}

    async def test_names_of_nobody_or_of_several_are_rejected(self) -> None:
        said = await self.rejection(says(self.ALICE), user_attribute="mail")
        assert said == "the assertion has 2 values of mail"
        said = await self.rejection(says(self.ALICE), user_attribute="nothing")
        assert said == "the assertion has 0 values of nothing"
        assert "the username is empty" in await self.rejection(says(Draft("  ")))
        assert "the name has more than" in await self.rejection(says(Draft("x" * 1025)))
        assert "control characters" in await self.rejection(says(Draft("ali\u202ece")))


class ReplayTests(SAMLCase):
    async def test_an_answer_is_good_for_its_own_login_only(self) -> None:
        brought: list[str] = []

        def keep(identifier: str) -> str:
            brought.append(says()(identifier))
            return brought[0]

        authenticator = self.make()
        assert (await authenticator.authenticate(ScriptedDialogue(answers=(browser(keep),)))).user
        again = ScriptedDialogue(answers=(browser(keep),))
        error = await error_of(authenticator.authenticate(again), LoginRejected)
        assert "the answer is to the request" in str(error)

    async def test_an_answer_is_not_taken_twice_in_its_own_login(self) -> None:
        async def twice(step: Question) -> Answer:
            assert isinstance(step, BrowserVisit)
            request, _ = request_in(await step.serve(BEGIN))
            text = encoded(says()(request.get("ID", "")))
            await step.serve(come_back(text))
            await step.serve(come_back(text))
            raise AssertionError

        dialogue = ScriptedDialogue(answers=(twice,))
        error = await error_of(self.make().authenticate(dialogue), LoginRejected)
        assert str(error) == "the browser brings an answer that nobody has asked for"

    async def test_an_assertion_is_good_once_while_it_is_good(self) -> None:
        authenticator = self.make(clock_skew_s=30)

        async def login(draft: Draft) -> Identity:
            dialogue = ScriptedDialogue(answers=(browser(says(draft)),))
            return await authenticator.authenticate(dialogue)

        long = Draft(ends_at=moment(900), confirmed_until=moment(300))
        assert (await login(long)).user == "alice"
        error = await error_of(login(long), LoginRejected)
        assert str(error) == "the assertion has been used before"
        assert (await login(Draft(assertion_id="_other"))).user == "alice"
        self.now_s += 331
        assert (await login(Draft(ends_at=moment(900), confirmed_until=moment(900)))).user


class FailureTests(SAMLCase):
    async def test_an_answer_that_nobody_asked_for_is_rejected(self) -> None:
        async def unasked(step: Question) -> Answer:
            assert isinstance(step, BrowserVisit)
            await step.serve(come_back(encoded(answer(Draft(request_id="")))))
            raise AssertionError

        dialogue = ScriptedDialogue(answers=(unasked,))
        error = await error_of(self.make().authenticate(dialogue), LoginRejected)
        assert str(error) == "the browser brings an answer that nobody has asked for"

    async def test_a_forged_answer_is_rejected(self) -> None:
        said = await self.rejection(lambda identifier: says()(identifier).replace("alice", "admin"))
        assert "fits no certificate" in said

    async def test_a_login_of_before_is_rejected_where_a_new_one_is_wanted(self) -> None:
        before = says(Draft(logged_in_at=moment(-3600)))
        assert (await self.login(before)).user == "alice"
        said = await self.rejection(before, force_authn=True)
        assert said == "the identity provider did not ask the user to log in again"

    async def test_new_keys_of_the_identity_provider_count_at_once(self) -> None:
        def change(identifier: str) -> str:
            self.metadata.write_text(metadata(provider("ec")))
            draft = Draft(request_id=identifier)
            return answer(draft, holder=provider("ec"), algorithm=saml.ECDSA_SHA384)

        assert (await self.login(change)).user == "alice"

    async def test_a_program_that_hangs_costs_this_login_only(self) -> None:
        program = self.directory / "xmlsec1"
        program.write_text(
            "#!/bin/sh\n"
            'if [ "$1" = --verify ] && mkdir "$0.hung"; then exec sleep 60; fi\n'
            'exec /usr/bin/xmlsec1 "$@"\n'
        )
        program.chmod(0o755)
        with mock.patch("anyvpn.backends.authenticator_saml.shutil.which", lambda _: str(program)):
            authenticator = self.make(time_s=1.0, max_parallel=1)
        error = await error_of(self.one_login(authenticator), BackendFailed)
        assert str(error) == f"{program} has not ended in 1 s"
        assert (await self.one_login(authenticator)).user == "alice"

    async def one_login(self, authenticator: SAMLAuthenticator) -> Identity:
        return await authenticator.authenticate(ScriptedDialogue(answers=(browser(says()),)))

    async def test_nobody_logs_in_at_the_end(self) -> None:
        authenticator = self.make()
        authenticator.close()
        error = await error_of(self.one_login(authenticator), BackendFailed)
        assert str(error) == "the authenticator is closed"


class MetadataTests(SAMLCase):
    def test_ours_is_published_where_its_name_says(self) -> None:
        for entity_id, path in (
            ("", "/+CSCOE+/saml/sp/metadata"),
            (f"{saml.ORIGIN}/sso/staff", "/sso/staff"),
        ):
            made = self.make(entity_id=entity_id)
            assert IPublisher.providedBy(made)
            [(where, document)] = made.documents.items()
            assert where == path
            root = etree.fromstring(document.content)
            assert root.get("entityID") == saml.ORIGIN + path
            service = root.find(".//{*}AssertionConsumerService")
            assert service is not None
            assert service.get("Location") == saml.RECIPIENT
            assert b"sha1" not in document.content

    def test_a_name_that_is_no_address_of_ours_stands_beside_the_usual_one(self) -> None:
        made = self.make(entity_id="urn:vpn", **self.keys())
        [(where, document)] = made.documents.items()
        assert where == "/+CSCOE+/saml/sp/metadata"
        assert saml.certificate_text(provider("own"))[:64].encode() in document.content


class SettingsTests:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"origin": "http://vpn.test"}, "origin must be an address such as"),
            ({"origin": "http://localhost"}, "origin must be an address such as"),
            ({"origin": "https://vpn.test/"}, "origin must be an address such as"),
            ({"origin": "vpn.test"}, "origin must be an address such as"),
            ({"signing_key": Path("key.pem")}, "go together"),
            ({"signing_certificate": Path("key.pem")}, "go together"),
            ({"clock_skew_s": -1.0}, "clock_skew_s must lie between 0 and 600"),
            ({"clock_skew_s": 601.0}, "clock_skew_s must lie between 0 and 600"),
            ({"time_s": 0.0}, "time_s must be more than 0"),
            ({"max_parallel": 0}, "max_parallel must lie between 1 and"),
        ],
    )
    def test_wrong_ones_are_refused_in_words(self, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(ValueError, match=why):
            Settings(**{"idp_metadata": Path("idp.xml"), "origin": saml.ORIGIN, **changes})

    def test_what_is_missing_is_told_with_what_to_install(self, tmp_path: Path) -> None:
        path = tmp_path / "idp.xml"
        path.write_text(metadata())
        with (
            mock.patch.dict("os.environ", {"PATH": str(tmp_path)}),
            pytest.raises(ConfigurationError, match="xmlsec1 is missing: apt-get install xmlsec1"),
        ):
            build(Settings(path, saml.ORIGIN), reactor)  # type: ignore[arg-type]

    def test_keys_that_cannot_be_used_are_told(self, tmp_path: Path) -> None:
        path, key, certificate = (tmp_path / name for name in ("idp.xml", "key", "certificate"))
        path.write_text(metadata())
        settings = Settings(path, saml.ORIGIN, signing_key=key, signing_certificate=certificate)

        def problem() -> str:
            with pytest.raises(ConfigurationError) as caught:
                build(settings, reactor)  # type: ignore[arg-type]
            return str(caught.value)

        assert problem() == f"signing_key: {key} cannot be read: No such file or directory"
        key.write_text("no key")
        assert problem() == f"signing_key: {key} has no private key in PEM without a password"
        key.write_bytes(private_key(provider("ec")))
        assert problem() == f"signing_key: {key} is no RSA key of 2048 bits or more"
        key.write_bytes(private_key(provider("weak")))
        assert problem() == f"signing_key: {key} is no RSA key of 2048 bits or more"
        key.write_bytes(private_key(provider("own")))
        certificate.write_text("no certificate")
        assert problem() == f"signing_certificate: {certificate} has no certificate in PEM"
        certificate.write_bytes(provider().certificate.public_bytes(Encoding.PEM))
        assert problem() == f"signing_certificate: {certificate} is not of the key {key}"
